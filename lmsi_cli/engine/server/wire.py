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
from lmsi_cli.engine.batched import RUN_ON
from lmsi_cli.records import Prompt

SEED_BITS = 31  # what every server takes
# Not OpenAI's. Named all the same where a server would else choose a value of its own: 1.1 for
# llama-cpp-python's repeat_penalty, 0.05 for its min_p, a model's own file for vLLM's.
EXTRA = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")
OPTIONAL = (*EXTRA, "logprobs", "top_logprobs", "stop", "seed", "top_p")
TOO_LONG = re.compile(
    r"context.?(length|window|size)|exceed_context|exceeds? the (available )?context"
    r"|maximum context|longer than the (model's )?(maximum|context)",
    re.IGNORECASE,
)


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


def body_of(ask: Ask, dropped: set[str], limit: str = "max_tokens") -> dict[str, Any]:
    """Write a request.

    Args:
        ask: What is wanted.
        dropped: Fields that the server does not take.
        limit: What the server calls the length of a path.
    """
    talks = not isinstance(ask.prompt, str)
    sampling, variables = ask.sampling, values_of(ask.variables)
    told: dict[str, Any] = {
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
    return {name: value for name, value in told.items() if name not in dropped}


def named(told: str, body: dict[str, Any]) -> set[str]:
    """Optional fields of a body that a complaint names."""
    found = {f for f in OPTIONAL if f in body and re.search(rf"(?<!\w){f}(?!\w)", told)}
    both = {"logprobs", "top_logprobs"}
    return found | both if found & both else found


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


class Said(msgspec.Struct, frozen=True):
    """A chat reply's message; servers that read thinking blocks put them apart, under two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


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
        said, thought = self.message.content, self.message.reasoning_content
        thought = thought or self.message.reasoning
        if not thought:
            return said or ""
        return f"<think>{thought}" + (f"</think>{said}" if said is not None else "")


class Usage(msgspec.Struct, frozen=True):
    """What a request cost; all choices together."""

    completion_tokens: int | None = None


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


class Listed(msgspec.Struct, frozen=True):
    """A model in a server's list; what is besides ``id`` is told by some servers only."""

    id: str
    root: str | None = None
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None


class Models(msgspec.Struct, frozen=True):
    """A server's list of models; Ollama tells an empty one as null."""

    data: list[Listed] | None
