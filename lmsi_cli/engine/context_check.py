"""Questions that do not fit the model's context: set apart, told one by one, and counted.

One question that is too long must not stop the others. Knows requests and lengths; nothing of
llama.cpp or files. A stage draws what fits and ends with the error of ``skipped_error``:

    split(requests, max_tokens=256, room=2048)
    -> Split(fitting=[Request("q1", ...)], skipped=[Refusal("q7", '"Tom ..."', "prompt ...")])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Engine, Refusal, Request
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress

SHOWN = 5  # skipped questions that are told each; the result names all of them
HINT = "shorten or remove the question, or lower --max-tokens"


class Split(NamedTuple):
    """Requests that can be drawn, and questions that cannot."""

    fitting: list[Request]
    skipped: list[Refusal]


def split(requests: Sequence[Request], max_tokens: int, room: int) -> Split:
    """Tell requests that fit from those that do not; one with nothing wanted always fits.

    A question whose paths are shown different exemplars has several requests. If one of its
    prompts does not fit, it is skipped whole, and told once with the longest.

    Args:
        requests: With their prompts.
        max_tokens: Longest path.
        room: Tokens that prompt and path may have together.
    """
    longest: dict[str, Request] = {}  # of each question that does not fit
    for r in requests:
        seen, need = longest.get(r.question_id, r), len(r.prompt) + max_tokens
        if r.wanted and need > room and len(r.prompt) >= len(seen.prompt):
            longest[r.question_id] = r
    why = "prompt of {} tokens and {} for the path do not fit the model's context of {}"
    skipped = [
        Refusal(r.question_id, r.words, why.format(len(r.prompt), max_tokens, room))
        for r in longest.values()
    ]
    return Split([r for r in requests if r.question_id not in longest], skipped)


def split_for(engine: Engine, requests: Sequence[Request], config: SamplingConfig) -> Split:
    """Split by the model's context, or by the cache that was asked for if that is smaller.

    Raises:
        LmsiError: Not one question fits; names the first.
    """
    room = min(engine.info.context, config.ctx or engine.info.context)
    found = split(requests, config.max_tokens, room)
    if found.skipped and not found.fitting:
        others = len(found.skipped) - 1
        more = f"; nor does any of the {others} others" if others else ""
        raise LmsiError(f"{found.skipped[0]}{more}", hint=HINT)
    return found


def tell(skipped: Sequence[Refusal], progress: Progress) -> None:
    """Say which questions are skipped, the first few with their lengths."""
    for one in skipped[:SHOWN]:
        progress.say(f"skipped: {one}")
    if len(skipped) > SHOWN:
        progress.say(f"skipped: {len(skipped) - SHOWN} more for the same reason")


def skipped_error(skipped: int, questions: int, here: bool = True) -> LmsiError:
    """What a command ends with that did all the rest; raised when its result is on the screen.

    Where paths were not drawn ``here``, questions are left for other reasons as well.
    """
    state = "did not fit the model's context and were skipped" if here else "are not finished"
    hint = "the lines with `skipped:` say why; the same command tries them again"
    if here:
        hint = "shorten or remove them (`skipped:` names them), or lower --max-tokens"
    return LmsiError(f"{skipped} of {questions} questions {state}; the others are done", hint)
