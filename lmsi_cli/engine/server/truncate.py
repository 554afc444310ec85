r"""From a server's choice to a finished path: cut where llama.cpp's paths are, tokens placed.

Knows a whole text and where an answer sentence ends; nothing of HTTP. A server stops at the end of
its text, at a stop sequence or at the limit, but not behind an answer; so what follows the answer
is cut off here, as a path that is drawn token by token ends there.

    finished(request, wanted, Choice(text=" 2 + 3 = 5. The answer is 5.\n\nThat", ...), 12, "...")
    -> Generated("q7", path=0, text=" 2 + 3 = 5. The answer is 5.", stop_reason="answer", ...)
"""

from __future__ import annotations

import codecs
import math
from typing import NamedTuple

from lmsi_cli.answers import answer_end, next_turn
from lmsi_cli.answers.places import in_box
from lmsi_cli.answers.sentences import after_marker
from lmsi_cli.engine.base import Generated, Request, Token, Wanted
from lmsi_cli.engine.server.wire import Choice, Reply, TokenLogprob
from lmsi_cli.engine.writing import RUN_ON
from lmsi_cli.records import StopReason
from lmsi_cli.thinking import answer_start

ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete")
CUT_OFF = ("length", "max_tokens", "model_length", "content_filter")
NO_ID = -1  # servers tell how a token is spelt, not its number
UTF8 = codecs.getincrementaldecoder("utf-8")


class Cut(NamedTuple):
    """Where a text ends, and why; ``end`` is None if nothing is cut off."""

    end: int | None
    reason: StopReason


def finished(
    request: Request, wanted: Wanted, choice: Choice, tokens: int, trigger: str
) -> Generated:
    """Make a path of a choice; ``tokens`` is what it cost."""
    text = choice.whole
    cut = cut_of(text, choice, trigger)
    drawn = placed(choice.logprobs.each if choice.logprobs else [], text)
    kept = [t for t in drawn if cut.end is None or t.start < cut.end]
    return Generated(
        request.question_id,
        wanted.path,
        wanted.seed,
        text[: cut.end],
        tokens,
        math.fsum(t.logprob for t in kept) if drawn else None,
        cut.reason,
        tuple(kept),
    )


def cut_of(text: str, choice: Choice, trigger: str) -> Cut:
    """Find the end that a path drawn token by token would have had."""
    start = answer_start(text)
    if start is not None:  # no thinking block is open
        at = next_turn(text, start, start)
        end = answer_end(text if at is None else f"{text[:at]}\n", trigger, start)
        if end is not None:
            return Cut(end, "answer")
        if at is not None:
            return Cut(at, "next_question")
    if _ended("" if start is None else text[start:], reason_of(choice), trigger):
        return Cut(None, "next_question" if choice.stop_reason == RUN_ON else "eos")
    return Cut(None, "length")


def _ended(said: str, word: str, trigger: str) -> bool:
    """Whether the model ended by itself.

    A word that is not known may mean either. A text that was cut off would vote for a number from
    its middle, so such a one counts as ended only where it states its answer.
    """
    if word in ENDED + CUT_OFF:
        return word in ENDED
    return any(stated(said, trigger) for stated in (after_marker, in_box))


def reason_of(choice: Choice) -> str:
    """The server's word for why a text ended; empty if it gives none."""
    return (choice.finish_reason or "").lower()


def placed(tokens: list[TokenLogprob], text: str) -> list[Token]:
    """Place tokens in a text; none where they do not spell it or a number is missing.

    Tokens behind the text's end are left out: they are those of a stop sequence on one server, the
    end-of-text token on another, and missing on most.
    """
    if not tokens or any(t.logprob is None or not math.isfinite(t.logprob) for t in tokens):
        return []
    drawn, spelt, decode = list[Token](), "", UTF8(errors="replace").decode
    bytewise = all(t.bytes for t in tokens)  # a character may be split over several tokens
    for t in tokens:
        drawn.append(Token(NO_ID, len(spelt), t.logprob or 0.0))
        spelt += decode(bytes(b & 255 for b in t.bytes or ())) if bytewise else t.token
    return [t for t in drawn if t.start < len(text)] if spelt.startswith(text) else []


def costs(reply: Reply) -> list[int]:
    """Tokens of each choice: counted where they are listed, else the bill shared by length."""
    if len(reply.choices) == 1 and reply.usage and reply.usage.completion_tokens is not None:
        return [reply.usage.completion_tokens]
    listed = [len(c.logprobs.each) if c.logprobs else 0 for c in reply.choices]
    if all(listed):
        return listed
    whole = (reply.usage.completion_tokens if reply.usage else None) or 0
    lengths = [len(c.whole) + 1 for c in reply.choices]
    ends = [whole * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(lengths))]
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]
