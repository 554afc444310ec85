"""What can go wrong while a model draws paths, caught where it shows and reported in one line.

A model file may change while it is in use, logits may be NaN, and a cache may not fit the memory.
Questions that do not fit the context are skipped, reported one by one and counted, since one that
is too long must not stop the others. Knows files, requests and lengths; nothing of llama.cpp.

    mark = Mark(Path("m.gguf"))     # size and time of change of the file as it is loaded
    mark.check()                    # LmsiError once these differ: the file was written to
    split(requests, max_tokens=256, room=2048)
    -> Split(fitting=[Request("q1", ...)], skipped=[Refusal("q7", '"Tom ..."', "prompt ...")])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Engine, Refusal, Request
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress
from lmsi_cli.splits import parts_of


class NotNumbersError(ArithmeticError):
    """The model's output is NaN or infinite; carries the question's id."""


class NoMemoryError(LmsiError):
    """A cache does not fit the memory; one for fewer paths may."""


def not_numbers(question_id: str, model: Path, adapter: str | None) -> LmsiError:
    """The error for logits that are not numbers; it names the files that may be the cause."""
    where = str(model) if adapter is None else f"{model} with {adapter}"
    hint = "leave the adapter out to see which of the two it is; train it again if it is damaged"
    if adapter is None:
        hint = "download or convert it again, or use another quantisation: its weights overflow"
    problem = f"the model computes NaN instead of logits (at question {question_id!r})"
    return LmsiError(f"{where}: {problem}", hint)


class Mark:
    """A model's files as they were when it was loaded; llama.cpp goes on reading from them.

    llama.cpp maps a model. A file overwritten in place changes the weights of the running model;
    one truncated kills the process with SIGBUS, which no check can prevent. If it is deleted, the
    old bytes stay mapped until the end, so a missing file is tolerated. A changed one is refused,
    since one that was renamed into place looks like one that was overwritten.
    """

    def __init__(self, path: Path) -> None:
        """Record the state of all parts; a single file may be missing, as loading it fails."""
        self.seen = {part: _look(part) or (0, 0) for part in parts_of(path)}

    def check(self) -> None:
        """LmsiError: the file has changed. Takes a microsecond, so it can run before every path."""
        for path, seen in self.seen.items():
            if _look(path) not in (None, seen):
                raise LmsiError(
                    f"{path}: the model file has changed while it was in use",
                    hint="put the old file back and give the same command again: it goes on with "
                    "what was finished before; or start over with --overwrite",
                )


def _look(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


SHOWN = 5  # skipped questions that are listed one by one; the result names all of them
HINT = "shorten or remove the question, or lower --max-tokens"


class Split(NamedTuple):
    """Requests that can be drawn, and questions that cannot."""

    fitting: list[Request]
    skipped: list[Refusal]


def split(requests: Sequence[Request], max_tokens: int, room: int) -> Split:
    """Separate requests that fit from those that do not; one with nothing wanted always fits.

    A question whose paths are shown different exemplars has several requests. If one of its
    prompts does not fit, the whole question is skipped, and reported once with the longest.
    ``room``: tokens that prompt and path may have together.
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


def room_of(engine: Engine, config: SamplingConfig) -> int:
    """Tokens that prompt and path may have: the context, or the cache that was set if smaller."""
    return min(engine.context, config.ctx or engine.context)


def split_for(engine: Engine, requests: Sequence[Request], config: SamplingConfig) -> Split:
    """Split by the room that there is; LmsiError: not one question fits; names the first."""
    found = split(requests, config.max_tokens, room_of(engine, config))
    if found.skipped and not found.fitting:
        others = len(found.skipped) - 1
        more = f"; nor does any of the {others} others" if others else ""
        raise LmsiError(f"{found.skipped[0]}{more}", hint=HINT)
    return found


def tell(skipped: Sequence[Refusal], progress: Progress) -> None:
    """Report how many questions are skipped, and list the first few with the reasons."""
    for one in skipped[:SHOWN]:
        progress.say(f"skipped: {one}")
    if len(skipped) > SHOWN:
        progress.say(f"skipped: {len(skipped) - SHOWN} more")


def skipped_error(skipped: int, questions: int, here: bool = True) -> LmsiError:
    """The final error of a command that skipped questions; raised after its result is shown.

    If the paths were not drawn ``here``, questions may be unfinished for other reasons as well.
    """
    state = "did not fit the model's context and were skipped" if here else "are not finished"
    hint = "the lines with `skipped:` say why; the same command tries them again"
    if here:
        hint = "shorten or remove them (`skipped:` names them), or lower --max-tokens"
    return LmsiError(f"{skipped} of {questions} questions {state}; the others are done", hint)
