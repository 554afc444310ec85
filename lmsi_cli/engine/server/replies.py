r"""A server's replies: their fields, the paths made from them, and warnings about odd ones.

Sends nothing. Fields of a reply that are not named here are ignored. A server stops at the end of
its text, at a stop sequence or at the limit, but not after an answer. So what follows the answer is
cut off here, where a path that is drawn token by token ends.

    finished(request, wanted, Choice(text=" 2 + 3 = 5. The answer is 5.\n\nThat", ...), 12, "...")
    -> Generated("q7", path=0, text=" 2 + 3 = 5. The answer is 5.", stop_reason="answer", ...)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from lmsi_cli.answers import answer_end, next_turn
from lmsi_cli.answers.places import in_box
from lmsi_cli.answers.sentences import markers
from lmsi_cli.engine.base import Generated, Request, Token, Wanted
from lmsi_cli.engine.paths import RUN_ON, UTF8, Slot
from lmsi_cli.records import StopReason
from lmsi_cli.thinking import answer_start

LOG = logging.getLogger(__name__)
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete")
CUT_OFF = ("length", "max_tokens", "model_length", "content_filter")
NO_ID = -1  # servers report a token's spelling, not its id
NO_LOG = 1e38  # llama-server writes 0 as its logarithm -3.4e38; sums of larger ones overflow
LETTERS = 200  # a prompt longer by this many letters must have more tokens
LETTERS_PER_TOKEN = 8  # about four in most languages; more than this only in tables and rulers
FEWEST = 32  # tokens; no context is shorter, and a lower count may leave out cached tokens
REASONING = (
    "such paths do not vote; set the server's reasoning format (llama-server: --reasoning-format "
    "none, vLLM: no --reasoning-parser)"
)
CONTEXT = (
    "it seems to cut prompts to its context and to drop their beginning; give it a longer one "
    "(Ollama: OLLAMA_CONTEXT_LENGTH=16384)"
)


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token of a chat reply; a character may be split over the ``bytes`` of several."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """Log-probabilities in one of two forms: chat's ``content``, or completions' two lists."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None


class Part(msgspec.Struct, frozen=True):
    """A piece of a message; Magistral's thinking is itself a list of pieces."""

    type: str = "text"
    text: str | None = None
    thinking: str | list[Part] | None = None

    @property
    def thought(self) -> str:
        """Its thinking; empty if it is part of the answer."""
        if isinstance(self.thinking, list):
            return "".join(part.text or "" for part in self.thinking)
        return self.thinking or (self.text or "" if "reasoning" in self.type else "")


class Message(msgspec.Struct, frozen=True):
    """A chat reply's message; servers that parse thinking return it apart, in three ways."""

    content: str | list[str | Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One path; ``stop_reason`` is vLLM's: the stop sequence, or None for the end of the text."""

    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: Logprobs | None = None

    @property
    def parted(self) -> tuple[str, str | None]:
        """The thinking returned apart, and the rest: None if it has not begun."""
        if (message := self.message) is None:
            return "", self.text
        several = message.content if isinstance(message.content, list) else [message.content]
        parts = [Part(text=p) if isinstance(p, str) else p for p in several if p is not None]
        thought = message.reasoning_content or message.reasoning
        said = [p.text or "" for p in parts if not p.thought]
        return thought or "".join(p.thought for p in parts), "".join(said) if said else None

    @property
    def whole(self) -> str:
        """The text; thinking that the server returned apart is put into its usual marks."""
        thought, said = self.parted
        closed = "" if said is None else f"</think>{said}"
        return f"<think>{thought}{closed}" if thought else said or ""

    @property
    def tokens(self) -> list[TokenLogprob]:
        """Its tokens, in whichever form they come; empty if the server reports none."""
        told = self.logprobs or Logprobs()
        if told.content is not None:
            return told.content
        pairs = zip(told.tokens or [], told.token_logprobs or [], strict=False)
        return [TokenLogprob(token, logprob) for token, logprob in pairs]

    @property
    def reason(self) -> str:
        """The server's word for why the text ended; empty if it gives none."""
        return (self.finish_reason or "").lower()


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a request cost, all choices together; not all servers report whole numbers."""

    prompt_tokens: Any = None
    completion_tokens: Any = None


class Reply(msgspec.Struct, frozen=True):
    """The reply to a request for paths."""

    choices: list[Choice]
    model: str | None = None
    usage: Usage | None = None

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("no choices")
        if any(c.text is None and c.message is None for c in self.choices):
            raise ValueError("a choice without text")

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt; 0 if the server does not report it."""
        return _count(self.usage.prompt_tokens) if self.usage else 0

    @property
    def costs(self) -> list[int]:
        """Tokens of each choice: as listed, else the usage split by length; one alone has all."""
        whole = _count(self.usage.completion_tokens) if self.usage else 0
        listed = [len(c.tokens) for c in self.choices]
        if all(listed) and (len(listed) > 1 or not whole):
            return listed
        lengths = [*accumulate((len(c.whole) + 1 for c in self.choices), initial=0)]
        return [whole * b // lengths[-1] - whole * a // lengths[-1] for a, b in pairwise(lengths)]


def _count(told: object) -> int:
    """A number of tokens; 0 if it is none, or more than a record can hold."""
    return int(told) if isinstance(told, int | float) and 0 <= told < 1 << 53 else 0


class Listed(msgspec.Struct, frozen=True):
    """A model in a server's list; only some servers give more than ``id``."""

    id: str
    root: str | None = None
    meta: dict[str, Any] | None = None
    max_model_len: Any = None  # vLLM, SGLang
    context_length: Any = None  # OpenRouter, Together
    max_context_length: Any = None  # Mistral
    context_window: Any = None  # Groq

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its path may have together, if the server tells it."""
        lengths = (self.max_model_len, self.context_length, self.max_context_length)
        return next((n for n in (*lengths, self.context_window) if type(n) is int and n > 0), None)


class Models(msgspec.Struct, frozen=True):
    """A server's list of models; Ollama writes an empty one as null."""

    data: list[Listed] | None


# -- paths ---------------------------------------------------------------------------------------


def finished(
    request: Request, wanted: Wanted, choice: Choice, tokens: int, trigger: str
) -> Generated:
    """Turn a choice into a path; ``tokens`` is what it cost."""
    slot = Slot(request, *wanted)
    slot.text, slot.tokens = choice.whole, tokens
    slot.drawn = _placed(choice.tokens, slot.text)
    return slot.finished(*_end_of(slot.text, choice, trigger))


def _end_of(text: str, choice: Choice, trigger: str) -> tuple[StopReason, int | None]:
    """Find the end that a path drawn token by token would have; None for the end of the text.

    An unknown ``finish_reason`` may mean ended or cut off. A text that was cut off would vote for a
    number from its middle, so such a text counts as ended only if it states its answer.
    """
    start = answer_start(text)
    said = "" if start is None else text[start:]
    if start is not None:  # no thinking block is open
        at = next_turn(text, start, start)
        end = answer_end(text if at is None else f"{text[:at]}\n", trigger, start)
        if end is not None:
            return "answer", end
        if at is not None:
            return "next_question", at
    ended = choice.reason in ENDED
    if choice.reason not in ENDED + CUT_OFF:
        ended = bool(markers(said, trigger) or in_box(said))
    if not ended:
        return "length", None
    return "next_question" if choice.stop_reason == RUN_ON else "eos", None


def _placed(tokens: list[TokenLogprob], text: str) -> list[Token]:
    """Place tokens in a text; empty if they do not spell it or a log-probability is missing.

    Tokens after the text's end are left out: one server returns those of a stop sequence, another
    the end-of-text token, and most none.
    """
    if not tokens or any(t.logprob is None or not abs(t.logprob) < NO_LOG for t in tokens):
        return []
    drawn, spelt, decode = list[Token](), "", UTF8(errors="replace").decode
    bytewise = all(t.bytes for t in tokens)  # a character may be split over several tokens
    for t in tokens:
        drawn.append(Token(NO_ID, len(spelt), t.logprob or 0.0))
        spelt += decode(bytes(b & 255 for b in t.bytes or ())) if bytewise else t.token
    return [t for t in drawn if t.start < len(text)] if spelt.startswith(text) else []


# -- warnings ------------------------------------------------------------------------------------


class ReplyChecks:
    """Checks valid replies of one server, and warns once about each problem.

    Problems are an unknown ``finish_reason``, thoughts without an answer, and prompts that the
    server cut before the model saw them. ``said`` makes a server's words fit to be shown.
    """

    def __init__(self, said: Callable[[str], str]) -> None:
        self.said = said
        self.replies = self.only_thoughts = 0
        self._subjects: set[str] = set()
        self._letters: dict[int, tuple[int, int]] = {}  # of prompts, by their tokens: least, most

    def look(self, letters: int, reply: Reply) -> None:
        """Check a reply to a prompt of so many letters."""
        for choice in reply.choices:
            thought, said = choice.parted
            self.replies += 1
            if choice.reason not in ENDED + CUT_OFF:
                known = f"the server gives {self.said(choice.reason)!r} as finish_reason, which is"
                votes = "such a path votes only where it states its answer"
                self._tell("reason", f"{known} not known: {votes}")
            elif choice.reason in CUT_OFF:
                continue
            if thought and not (said or "").strip():
                self.only_thoughts += 1
                self._tell("thoughts", f"a reply holds thoughts only and no answer; {REASONING}")
        if (tokens := reply.prompt_tokens) >= FEWEST:
            least, most = self._letters.get(tokens, (letters, letters))
            least, most = self._letters[tokens] = min(least, letters), max(most, letters)
            if most - least >= LETTERS or letters > LETTERS_PER_TOKEN * tokens:
                which = f"a prompt of {most}" if most == least else f"prompts of {least} and {most}"
                problem = f"the server counts {tokens} tokens in {which} letters"
                self._tell("context", f"{problem}: {CONTEXT}")

    def close(self) -> None:
        """Warn about replies that held thoughts only, out of all replies."""
        if self.only_thoughts:
            share = f"{self.only_thoughts} of {self.replies} replies hold thoughts only"
            LOG.warning("note: %s; %s", share, REASONING)

    def _tell(self, subject: str, sentence: str) -> None:
        """Log a warning on a subject, once."""
        if subject not in self._subjects:
            self._subjects.add(subject)
            LOG.warning("note: %s", sentence)
