r"""From a server's reply to finished paths, and what is said where it is not what was asked for.

Knows whole texts and where an answer sentence ends; sends nothing. A server stops at the end of its
text, at a stop sequence or at the limit, but not behind an answer; so what follows the answer is
cut off here, as a path that is drawn token by token ends there.

    finished(request, wanted, Choice(text=" 2 + 3 = 5. The answer is 5.\n\nThat", ...), 12, "...")
    -> Generated("q7", path=0, text=" 2 + 3 = 5. The answer is 5.", stop_reason="answer", ...)

Some servers count ``max_tokens`` into the context, so that a short prompt is refused for a long
path that may never be written:

    limit_in("maximum context length is 600 tokens. However, you requested 700", 56, 700) -> 600
    too_many(600, 56, 700) -> LmsiError("--max-tokens 700 does not fit the server's context ...")
"""

from __future__ import annotations

import codecs
import logging
import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from lmsi_cli.answers import answer_end, next_turn
from lmsi_cli.answers.places import in_box
from lmsi_cli.answers.sentences import after_marker
from lmsi_cli.engine.base import Generated, Request, Token, Wanted
from lmsi_cli.engine.server.wire import Ask, Choice, Reply, TokenLogprob
from lmsi_cli.engine.writing import RUN_ON
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import StopReason
from lmsi_cli.thinking import answer_start

LOG = logging.getLogger(__name__)
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete")
CUT_OFF = ("length", "max_tokens", "model_length", "content_filter")
NO_ID = -1  # servers tell how a token is spelt, not its number
UTF8 = codecs.getincrementaldecoder("utf-8")
LETTERS = 200  # more letters are more tokens; fewer may be as many
LETTERS_PER_TOKEN = 8  # some four in most languages; more only in tables and rulers
FEWEST = 32  # tokens; no context is shorter, but a count may leave out what was in a cache
REASONING = (
    "such paths do not vote; set the server's reasoning format (llama-server: --reasoning-format "
    "none, vLLM: no --reasoning-parser)"
)
CONTEXT = (
    "it seems to cut prompts to its context and to drop their beginning; give it a longer one "
    "(Ollama: OLLAMA_CONTEXT_LENGTH=16384)"
)


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
    drawn = placed(choice.tokens, text)
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
    if _ended("" if start is None else text[start:], choice, trigger):
        return Cut(None, "next_question" if choice.stop_reason == RUN_ON else "eos")
    return Cut(None, "length")


def _ended(said: str, choice: Choice, trigger: str) -> bool:
    """Whether the model ended by itself.

    A word that is not known may mean either. A text that was cut off would vote for a number from
    its middle, so such a one counts as ended only where it states its answer.
    """
    word = _reason(choice)
    if word in ENDED + CUT_OFF:
        return word in ENDED
    return any(stated(said, trigger) for stated in (after_marker, in_box))


def _reason(choice: Choice) -> str:
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
    whole = reply.usage.completion_tokens if reply.usage else None
    if len(reply.choices) == 1 and whole is not None:
        return [whole]
    listed = [len(c.tokens) for c in reply.choices]
    if all(listed):
        return listed
    lengths = [len(c.whole) + 1 for c in reply.choices]
    ends = [(whole or 0) * sum(lengths[:i]) // sum(lengths) for i in range(len(lengths) + 1)]
    return [end - begin for begin, end in pairwise(ends)]


class ReplyChecks:
    """Looks at each reply of one server, and says once what is wrong with it.

    Looked for in valid replies: a ``finish_reason`` that nobody knows, thoughts without an answer,
    and prompts that the server cut before the model saw them. ``said`` makes a server's words fit
    to be shown.
    """

    def __init__(self, said: Callable[[str], str]) -> None:
        self.said = said
        self.replies = self.only_thoughts = 0
        self._subjects: set[str] = set()
        self._letters: dict[int, tuple[int, int]] = {}  # of prompts, by their tokens: least, most

    def look(self, ask: Ask, reply: Reply) -> None:
        """Check a reply to a request for whole paths."""
        if reply.prompt_tokens >= FEWEST:
            self._look_at_prompt(ask.letters, reply.prompt_tokens)
        for choice in reply.choices:
            self._look_at_path(choice)

    def close(self) -> None:
        """Say what all replies together were."""
        if self.only_thoughts:
            share = f"{self.only_thoughts} of {self.replies} replies hold thoughts only"
            LOG.warning("note: %s; %s", share, REASONING)

    def _look_at_path(self, choice: Choice) -> None:
        reason = _reason(choice)
        if reason not in ENDED + CUT_OFF:
            problem = f"the server gives {self.said(reason)!r} as finish_reason, which is not known"
            self._tell("reason", f"{problem}: such a path votes only where it states its answer")
        self.replies += 1
        if choice.only_thoughts and reason not in CUT_OFF:
            self.only_thoughts += 1
            self._tell("thoughts", f"a reply holds thoughts only and no answer; {REASONING}")

    def _look_at_prompt(self, letters: int, tokens: int) -> None:
        least, most = self._letters.get(tokens, (letters, letters))
        least, most = self._letters[tokens] = min(least, letters), max(most, letters)
        if most - least >= LETTERS or letters > LETTERS_PER_TOKEN * tokens:
            prompts = f"a prompt of {most}" if most == least else f"prompts of {least} and {most}"
            problem = f"the server counts {tokens} tokens in {prompts} letters"
            self._tell("context", f"{problem}: {CONTEXT}")

    def _tell(self, subject: str, sentence: str) -> None:
        """Say something on a subject, once."""
        if subject not in self._subjects:
            self._subjects.add(subject)
            LOG.warning("note: %s", sentence)


def limit_in(refusal: str, prompt: int, wanted: int) -> int | None:
    """Find the context's length in a refusal, however that is worded.

    It alone is more than the prompt, less than both together, and not what was wanted. Lengths are
    in tokens; the prompt alone was not refused.
    """
    numbers = {int(n) for n in re.findall(r"(?<![\d.])\d{1,9}(?![\d.]*\d)", refusal)} - {wanted}
    return min((n for n in numbers if prompt < n < prompt + wanted), default=None)


def too_many(context: int | None, prompt: int, wanted: int) -> LmsiError | None:
    """What to say of ``--max-tokens`` if it does not fit beside a prompt; None if it may.

    A context that the prompt itself does not fit was told wrongly, for the prompt was taken.
    """
    if context is None or not prompt < context < prompt + wanted:
        return None
    beside = f" beside the shortest prompt, of {prompt}" if prompt else ""
    return LmsiError(
        f"--max-tokens {wanted} does not fit the server's context of {context} tokens",
        hint=f"--max-tokens {context - prompt} is the most{beside}",
    )
