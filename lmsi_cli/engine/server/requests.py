r"""Requests to a server: their bodies, and what its answers reveal about the server.

Knows the fields of OpenAI's completions and chat completions, and what servers add to them;
nothing of HTTP. One body:

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

from lmsi_cli.config import SamplingConfig, values_of
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.paths import RUN_ON
from lmsi_cli.engine.server.client import RefusedError
from lmsi_cli.engine.server.replies import Reply
from lmsi_cli.errors import LmsiError

LOG = logging.getLogger(__name__)
SEED_BITS = 31  # what every server takes
# Not OpenAI's. Sent all the same, since a server would otherwise choose its own values: 1.1 for
# llama-cpp-python's repeat_penalty, 0.05 for its min_p, those of a model's own file in vLLM.
EXTRA = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")
OPTIONAL = (*EXTRA, "logprobs", "top_logprobs", "stop", "seed", "top_p")
LOGPROBS = {"logprobs", "top_logprobs"}
NEW_LIMIT = "max_completion_tokens"  # OpenAI's newer name for max_tokens
ALL = 1 << 16  # paths in one request: as many as a question wants


class Ask(NamedTuple):
    """One request for some paths of a question, or, with ``tokens=1``, to find something out."""

    model: str
    request: Request
    wanted: tuple[Wanted, ...]
    sampling: SamplingConfig
    tokens: int

    @property
    def path(self) -> str:
        """The endpoint that it is sent to."""
        return "/completions" if isinstance(self.request.asked, str) else "/chat/completions"

    @property
    def letters(self) -> int:
        """Characters of the prompt, without what the server's template adds."""
        asked = self.request.asked
        return len(asked) if isinstance(asked, str) else sum(len(m.content) for m in asked)


class Capabilities:
    """What a server accepts and returns, as its replies and refusals have shown.

    Paths per request are counted in its replies, whatever the server promises. A field that a
    refusal names is left out from then on, with a note.
    """

    def __init__(self, per_request: int = 0) -> None:
        self.most = per_request or ALL  # paths in one request
        self.dropped: set[str] = set()  # fields that it does not take
        self.limit = "max_tokens"  # its field for the longest path
        self.logprobs = False
        self.proven = False  # whether it has answered
        self.returned = 1  # most paths of one reply; as many are never refused for their number

    def settings(self) -> dict[str, int | str]:
        """The findings for the run folder; empty before the first reply."""
        dropped = ", ".join(f for f in OPTIONAL if f in self.dropped)
        found: dict[str, int | str] = {
            "seeds": "sent" if self.most == 1 and "seed" not in self.dropped else "not sent",
            "logprobs": "told" if self.logprobs else "not told",
            "per_request": "all" if self.most == ALL else self.most,
            **({"not_taken": dropped} if dropped else {}),
        }
        return found if self.proven else {}

    def body(self, ask: Ask, without: Set[str] = frozenset()) -> dict[str, Any]:
        """Write a request in the fields that the server accepts, except those in ``without``.

        A seed is sent for a single path only: with one seed for several paths servers differ, and
        some draw the same path several times.
        """
        sampling, (first, *others) = ask.sampling, ask.wanted
        variables = values_of(ask.request.variables)
        form: dict[str, Any] = {"prompt": ask.request.asked, "logprobs": 1, "stop": [RUN_ON]}
        if not isinstance(ask.request.asked, str):
            messages = msgspec.to_builtins(ask.request.asked)
            form = {"messages": messages, "logprobs": True, "top_logprobs": 1}
        fields: dict[str, Any] = {
            "model": ask.model,
            # never dropped
            **({"chat_template_kwargs": variables} if variables else {}),
            self.limit: ask.tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": 1.0,
            "repetition_penalty": 1.0,
            **form,
            **({"n": len(ask.wanted)} if others else {"seed": first.seed % (1 << SEED_BITS)}),
        }
        return {name: x for name, x in fields.items() if name not in self.dropped | without}

    def answered(self, ask: Ask, reply: Reply) -> None:
        """Learn from a reply."""
        self.proven = True
        self.logprobs = any(c.tokens for c in reply.choices)
        self.returned = max(self.returned, len(reply.choices))
        if len(reply.choices) < len(ask.wanted):
            self.most = min(self.most, len(reply.choices))

    def remedy(self, refused: RefusedError, ask: Ask, body: dict[str, Any]) -> bool:
        """Learn from a refusal; returns whether the same request, rewritten, may succeed.

        A request that is too long has no remedy, although its refusal may name other fields.
        """
        if refused.too_long:
            return False
        if NEW_LIMIT in refused.reason and self.limit != NEW_LIMIT:
            self.limit = NEW_LIMIT
            return True
        drop = set(OPTIONAL) & body.keys() & set(re.findall(r"\w+", refused.reason))
        if not drop and len(ask.wanted) > self.returned:
            self.most = len(ask.wanted) // 2
            return True
        if not drop and not self.proven:  # the refusal names no field
            drop = set(EXTRA) & body.keys()
        self.drop(drop | LOGPROBS if drop & LOGPROBS else drop, refused.reason)
        return bool(drop)

    def drop(self, fields: Set[str], reason: str) -> None:
        """Leave fields out from now on, and say so once."""
        if new := fields - self.dropped:
            self.dropped |= new
            lost = ", so paths have no log-probabilities" if new & LOGPROBS else ""
            names = ", ".join(sorted(new))
            LOG.warning("note: the server does not take %s%s (%s)", names, lost, reason)


def context_in(refusal: str, prompt: int, wanted: int) -> int | None:
    """Find the context's length in a refusal, whatever its wording; all in tokens.

    It is more than the prompt, which was accepted with a path of 1 token, less than prompt and path
    together, and not ``wanted``; the smallest such number is taken. A ``prompt`` of 0 is unknown:

        context_in("maximum context length is 600 tokens. However, you requested 700", 56, 700)
        -> 600
    """
    numbers = {int(n) for n in re.findall(r"(?<![\d.])\d{1,9}(?![\d.]*\d)", refusal)} - {wanted}
    return min((n for n in numbers if 0 < prompt < n < prompt + wanted), default=None)


def too_many(context: int | None, prompt: int, wanted: int) -> LmsiError | None:
    """The error if ``--max-tokens`` does not fit beside a prompt; None if it may fit.

    A context that the prompt itself does not fit must be wrong, since the prompt was accepted.
    """
    if context is None or not prompt < context < prompt + wanted:
        return None
    beside = f" beside the shortest prompt, of {prompt}" if prompt else ""
    return LmsiError(
        f"--max-tokens {wanted} does not fit the server's context of {context} tokens",
        hint=f"--max-tokens {context - prompt} is the most{beside}",
    )
