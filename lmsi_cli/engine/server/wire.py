r"""What goes over the wire: the bodies of requests, and the replies as far as they are read.

Knows the fields of OpenAI's completions and chat completions, and what servers add to them;
nothing of HTTP. Fields that a reply has besides these are passed over. One body:

    {"model": "tinymath", "prompt": "Q: What is 2 + 3?\nA:", "max_tokens": 256, "temperature": 0.7,
     "top_p": 1.0, "n": 16, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0,
     "repetition_penalty": 1.0, "logprobs": 1, "stop": ["\nQ:"]}
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import SamplingConfig, Variables, values_of
from lmsi_cli.engine.writing import RUN_ON
from lmsi_cli.records import Prompt

SEED_BITS = 31  # what every server takes
# Not OpenAI's. Named all the same where a server would else choose a value of its own: 1.1 for
# llama-cpp-python's repeat_penalty, 0.05 for its min_p, a model's own file for vLLM's.
EXTRA = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")
OPTIONAL = (*EXTRA, "logprobs", "top_logprobs", "stop", "seed", "top_p")
LOGPROBS = {"logprobs", "top_logprobs"}
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

    def short(self, tokens: int, n: int = 1) -> Ask:
        """The same prompt with shorter paths, to find something out."""
        limit = min(tokens, self.sampling.max_tokens)
        sampling = msgspec.structs.replace(self.sampling, max_tokens=limit)
        return self._replace(n=n, sampling=sampling)


def body_of(ask: Ask, dropped: set[str], limit: str = "max_tokens") -> dict[str, Any]:
    """Write a request.

    Args:
        ask: What is wanted.
        dropped: Fields that the server does not take.
        limit: What the server calls the length of a path.
    """
    talks = not isinstance(ask.prompt, str)
    sampling, variables = ask.sampling, values_of(ask.variables)
    fields: dict[str, Any] = {
        "model": ask.model,
        **({"messages": msgspec.to_builtins(ask.prompt)} if talks else {"prompt": ask.prompt}),
        **({"chat_template_kwargs": variables} if variables else {}),  # no server may leave it out
        limit: sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": 1.0,
        "repetition_penalty": 1.0,
        **({"logprobs": True, "top_logprobs": 1} if talks else {"logprobs": 1, "stop": [RUN_ON]}),
        **({"n": ask.n} if ask.n > 1 else {"seed": ask.seed & ((1 << SEED_BITS) - 1)}),
    }
    return {name: value for name, value in fields.items() if name not in dropped}


def named(complaint: str, body: dict[str, Any]) -> set[str]:
    """Optional fields of a body that a complaint names."""
    found = {f for f in OPTIONAL if f in body and re.search(rf"(?<!\w){f}(?!\w)", complaint)}
    return found | LOGPROBS if found & LOGPROBS else found


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

    @property
    def each(self) -> list[TokenLogprob]:
        """Both forms as one; empty if the server tells none."""
        if self.content is not None:
            return self.content
        pairs = zip(self.tokens or [], self.token_logprobs or [], strict=False)
        return [TokenLogprob(token, logprob) for token, logprob in pairs]


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
    def thought(self) -> str:
        """What was put apart as thinking."""
        apart = self.reasoning_content or self.reasoning
        return apart or "".join(part.thought for part in self._parts)

    @property
    def words(self) -> str | None:
        """What was said besides; None if that was not begun."""
        said = [part.text or "" for part in self._parts if not part.thought]
        return "".join(said) if said else None

    @property
    def _parts(self) -> list[Part]:
        several = self.content if isinstance(self.content, list) else [self.content]
        return [Part(text=p) if isinstance(p, str) else p for p in several if p is not None]


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
        said, thought = self.message.words, self.message.thought
        if not thought:
            return said or ""
        return f"<think>{thought}" + (f"</think>{said}" if said is not None else "")

    @property
    def only_thoughts(self) -> bool:
        """Whether the server took the whole reply for thinking."""
        said = self.message
        return said is not None and bool(said.thought) and not (said.words or "").strip()


class Usage(msgspec.Struct, frozen=True):
    """What a request cost; all choices together."""

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
