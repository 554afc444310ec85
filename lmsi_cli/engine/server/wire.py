r"""What goes over the wire: the bodies of requests, the replies, and what a server does not take.

Knows the fields of OpenAI's completions and chat completions, and what servers add to them;
nothing of HTTP. Fields that a reply has besides these are passed over. One body:

    {"model": "tinymath", "prompt": "Q: What is 2 + 3?\nA:", "max_tokens": 256, "temperature": 0.7,
     "top_p": 1.0, "n": 16, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0,
     "repetition_penalty": 1.0, "logprobs": 1, "stop": ["\nQ:"]}
"""

from __future__ import annotations

import logging
import re
from collections.abc import Set
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import SamplingConfig, Variables, values_of
from lmsi_cli.engine.server.client import RefusedError
from lmsi_cli.engine.writing import RUN_ON
from lmsi_cli.records import Prompt

LOG = logging.getLogger(__name__)
SEED_BITS = 31  # what every server takes
# Not OpenAI's. Named all the same where a server would else choose a value of its own: 1.1 for
# llama-cpp-python's repeat_penalty, 0.05 for its min_p, a model's own file for vLLM's.
EXTRA = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")
OPTIONAL = (*EXTRA, "logprobs", "top_logprobs", "stop", "seed", "top_p")
LOGPROBS = {"logprobs", "top_logprobs"}
NEW_LIMIT = "max_completion_tokens"  # OpenAI's newer name for max_tokens
ALL = 1 << 16  # paths in one request: as many as a question wants


class Ask(NamedTuple):
    """One request for ``n`` paths of a prompt.

    The seed is that of the first path, and is sent only if there is no other: servers differ in
    what they do with one seed and several paths, down to drawing the same path ``n`` times.
    """

    model: str
    prompt: Prompt
    n: int
    seed: int
    sampling: SamplingConfig
    variables: Variables = ()

    @property
    def path(self) -> str:
        """Where it is sent."""
        return "/completions" if isinstance(self.prompt, str) else "/chat/completions"

    @property
    def letters(self) -> int:
        """How long the prompt is, without what the server's template adds."""
        prompt = self.prompt
        return len(prompt) if isinstance(prompt, str) else sum(len(m.content) for m in prompt)

    def short(self, n: int = 1) -> Ask:
        """The same prompt with paths of one token, to find something out."""
        return self._replace(n=n, sampling=msgspec.structs.replace(self.sampling, max_tokens=1))


class Capabilities:
    """What a server takes and gives: learnt from its replies and refusals, while an engine lives.

    How many paths come of one request is counted, whatever the server promises. A field that a
    refusal names is left out from there on, and that is said.
    """

    def __init__(self, per_request: int = 0) -> None:
        self.most = per_request or ALL  # paths in one request
        self.dropped: set[str] = set()  # fields that it does not take
        self.limit = "max_tokens"  # what it calls the length of a path
        self.logprobs = False
        self.proven = False  # whether it has answered

    def settings(self) -> dict[str, int | str]:
        """For the run folder; empty before the first reply."""
        if not self.proven:
            return {}
        found: dict[str, int | str] = {
            "seeds": "sent" if self.most == 1 and "seed" not in self.dropped else "not sent",
            "logprobs": "told" if self.logprobs else "not told",
            "per_request": "all" if self.most == ALL else self.most,
        }
        if self.dropped:
            found["not_taken"] = ", ".join(f for f in OPTIONAL if f in self.dropped)
        return found

    def body(self, ask: Ask, without: Set[str] = frozenset()) -> dict[str, Any]:
        """Write a request in the fields that the server takes; ``without``: less these."""
        talks = not isinstance(ask.prompt, str)
        sampling, variables = ask.sampling, values_of(ask.variables)
        fields: dict[str, Any] = {
            "model": ask.model,
            **({"messages": msgspec.to_builtins(ask.prompt)} if talks else {"prompt": ask.prompt}),
            # no server may leave these out
            **({"chat_template_kwargs": variables} if variables else {}),
            self.limit: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": 1.0,
            "repetition_penalty": 1.0,
            **({"logprobs": True, "top_logprobs": 1} if talks else {"logprobs": 1}),
            **({} if talks else {"stop": [RUN_ON]}),
            **({"n": ask.n} if ask.n > 1 else {"seed": ask.seed & ((1 << SEED_BITS) - 1)}),
        }
        return {name: x for name, x in fields.items() if name not in self.dropped | without}

    def answered(self, ask: Ask, reply: Reply) -> None:
        """Learn from a reply."""
        self.proven = True
        self.logprobs = any(c.tokens for c in reply.choices)
        if len(reply.choices) < ask.n:
            self.most = min(self.most, len(reply.choices))

    def remedy(self, refused: RefusedError, ask: Ask, body: dict[str, Any]) -> bool:
        """Learn from a refusal; say whether the same request, written anew, may do better.

        A request that is too long has no remedy, and its complaint may name other fields.
        """
        if refused.too_long:
            return False
        if NEW_LIMIT in refused.reason and self.limit != NEW_LIMIT:
            self.limit = NEW_LIMIT
            return True
        named = re.findall(r"\w+", refused.reason)
        drop = {f for f in OPTIONAL if f in body and f in named}
        drop |= LOGPROBS if drop & LOGPROBS else set()
        if not drop and ask.n > 1:
            self.most = ask.n // 2
            return True
        if not drop and not self.proven:  # it does not say what it dislikes
            drop = {f for f in EXTRA if f in body}
        self.drop(drop, refused.reason)
        return bool(drop)

    def drop(self, fields: Set[str], reason: str) -> None:
        """Leave fields out from now on, and say so once."""
        new = fields - self.dropped
        if new:
            self.dropped |= new
            lost = ", so paths have no log-probabilities" if new & LOGPROBS else ""
            names = ", ".join(sorted(new))
            LOG.warning("note: the server does not take %s%s (%s)", names, lost, reason)


# -- replies -------------------------------------------------------------------------------------


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
    """A piece of a message; Magistral's thinking is made of pieces itself."""

    type: str = "text"
    text: str | None = None
    thinking: str | list[Part] | None = None

    @property
    def thought(self) -> str:
        """Its thinking; empty if it is part of the answer."""
        if isinstance(self.thinking, list):
            return "".join(part.text or "" for part in self.thinking)
        return self.thinking or (self.text or "" if "reasoning" in self.type else "")


class Said(msgspec.Struct, frozen=True):
    """A chat reply's message; servers that read thinking blocks put them apart, in three ways."""

    content: str | list[str | Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def parted(self) -> tuple[str, str | None]:
        """What was thought, and what was said besides: None if that was not begun."""
        several = self.content if isinstance(self.content, list) else [self.content]
        parts = [Part(text=p) if isinstance(p, str) else p for p in several if p is not None]
        thought = self.reasoning_content or self.reasoning or "".join(p.thought for p in parts)
        said = [p.text or "" for p in parts if not p.thought]
        return thought, "".join(said) if said else None


class Choice(msgspec.Struct, frozen=True):
    """One path; ``stop_reason`` is vLLM's: the stop sequence, or None for the end of the text."""

    text: str | None = None
    message: Said | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: Logprobs | None = None

    @property
    def whole(self) -> str:
        """The text, with thinking in its usual marks where the server put it apart."""
        if self.message is None:
            return self.text or ""
        thought, said = self.message.parted
        if not thought:
            return said or ""
        return f"<think>{thought}" + (f"</think>{said}" if said is not None else "")

    @property
    def only_thoughts(self) -> bool:
        """Whether the server took the whole reply for thinking."""
        thought, said = self.message.parted if self.message else ("", None)
        return bool(thought) and not (said or "").strip()

    @property
    def tokens(self) -> list[TokenLogprob]:
        """Its tokens, in whichever form they come; empty if the server tells none."""
        told = self.logprobs or Logprobs()
        if told.content is not None:
            return told.content
        pairs = zip(told.tokens or [], told.token_logprobs or [], strict=False)
        return [TokenLogprob(token, logprob) for token, logprob in pairs]


class Usage(msgspec.Struct, frozen=True):
    """What a request cost, in tokens; all choices together. None where it is not told."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """The reply to a request for paths."""

    choices: list[Choice]
    model: str | None = None
    usage: Usage | None = None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt; 0 where the server does not tell it."""
        return (self.usage.prompt_tokens if self.usage else None) or 0

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("no choices")
        if any(c.text is None and c.message is None for c in self.choices):
            raise ValueError("a choice without text")


class Listed(msgspec.Struct, frozen=True):
    """A model in a server's list; what is besides ``id`` is given by some servers only."""

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
    """A server's list of models; Ollama tells an empty one as null."""

    data: list[Listed] | None
