"""What a server turned out to offer: found by asking it, remembered as long as an engine lives.

Knows requests and replies, not questions. Three things are asked before a run's first path, each
with a request of a few tokens: whether several paths come of one request (their number is counted,
whatever the server promises), and, where paths are asked for one by one, whether the same seed
gives the same text and another seed another. What else a server does not take shows when it
refuses a request; then the field is left out from there on, and said:

    {"per_request": 1, "seeds": "honoured", "logprobs": "told", "not_taken": "top_k, min_p"}
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from lmsi_cli.engine.server.calls import RefusedError
from lmsi_cli.engine.server.wire import EXTRA, OPTIONAL, TOO_LONG, Ask, Reply, named

LOG = logging.getLogger(__name__)
HONOURED, IGNORED, UNKNOWN, UNSENT = "honoured", "not honoured", "unknown", "not sent"
TOLD = {
    IGNORED: "the server does not honour seeds; paths cannot be drawn again",
    UNKNOWN: "two seeds gave the same text: the model is sure of it, or the server does not heed "
    "the temperature, and then all paths are one",
}
TRIAL_TOKENS = 24
ALL = 1 << 16  # paths in one request: as many as a question wants
NEW_LIMIT = "max_completion_tokens"  # OpenAI's newer name for max_tokens
Send = Callable[[Ask], Awaitable[Reply]]


class Offers:
    """What one server, asked in one form, takes and gives."""

    def __init__(self, per_request: int) -> None:
        self.asked_for = per_request  # the user's wish; 0: as many as it can
        self.most = 1 if per_request == 1 else 0  # paths in one request; 0: not known yet
        self.seeds, self.proven = UNSENT, False
        self.dropped: set[str] = set()
        self.limit = "max_tokens"
        self.logprobs: bool | None = None
        self.tried_seeds = False

    def told(self) -> dict[str, int | str]:
        """For the run folder."""
        logprobs = {None: UNKNOWN, True: "told", False: "not told"}[self.logprobs]
        found: dict[str, int | str] = {"seeds": self.seeds, "logprobs": logprobs}
        if self.most:
            found["per_request"] = "all" if self.most == ALL else self.most
        if self.dropped:
            found["not_taken"] = ", ".join(f for f in OPTIONAL if f in self.dropped)
        return found

    def answered(self, reply: Reply) -> None:
        """Learn from a reply."""
        self.proven = True
        self.logprobs = any(c.logprobs and c.logprobs.each for c in reply.choices)

    def remedy(self, refused: RefusedError, ask: Ask, body: dict[str, Any]) -> bool:
        """Learn from a refusal; say whether the same request, written anew, may do better.

        A prompt that is too long has no remedy, and its complaint may name other fields.
        """
        if TOO_LONG.search(refused.told):
            return False
        if NEW_LIMIT in refused.told and self.limit != NEW_LIMIT:
            self.limit = NEW_LIMIT
            return True
        drop = named(refused.told, body)
        if not drop and ask.n > 1:
            self.most = ask.n // 2
            self.seeds = UNKNOWN if self.most == 1 else self.seeds
            return True
        if not drop and not self.proven:  # it does not say what it dislikes
            drop = {f for f in EXTRA if f in body}
        self._drop(drop - self.dropped, refused.told)
        return bool(drop)

    def _drop(self, fields: set[str], told: str) -> None:
        if not fields:
            return
        self.dropped |= fields
        if fields & {"logprobs", "top_logprobs"}:
            self.logprobs = False
        if "seed" in fields:
            self.seeds = IGNORED
        names = ", ".join(sorted(fields))
        LOG.warning("note: the server does not take %s and is asked without it (%s)", names, told)


async def find(offers: Offers, ask: Ask, paths: int, send: Send) -> None:
    """Ask what has to be known before paths of one form are drawn, if it is not known yet.

    Args:
        offers: Is told what is found.
        ask: The first request of the run; its prompt and settings are used.
        paths: The most that are wanted of a question.
        send: Sends a request, with remedies.
    """
    if ask.sampling.temperature == 0:  # equal by right, so neither shows
        return
    if not offers.most and paths > 1:
        await _find_most(offers, ask, send)
    if (offers.most == 1 or paths == 1) and not offers.tried_seeds and "seed" not in offers.dropped:
        offers.seeds = UNKNOWN  # from now on they are sent, whatever the trial comes to
        offers.seeds = await _find_seeds(ask, send)
        offers.tried_seeds = True
        if offers.seeds in TOLD:
            LOG.warning("note: %s", TOLD[offers.seeds])


async def _find_most(offers: Offers, ask: Ask, send: Send) -> None:
    reply = await send(_short(ask, 1)._replace(n=2))
    several = len(reply.choices) > 1
    offers.most = (offers.asked_for or ALL) if several else 1
    if not several:
        LOG.info("the server gives one path per request, whatever it is asked for")


async def _find_seeds(ask: Ask, send: Send) -> str:
    """Same seed, same text; other seed, other text: only both together show that it is heard."""
    short = _short(ask, TRIAL_TOKENS)
    texts = []
    for seed in (1, 1, 2):
        reply = await send(short._replace(n=1, seed=seed))
        texts.append(reply.choices[0].whole)
    if texts[0] != texts[1]:
        return IGNORED
    return HONOURED if texts[1] != texts[2] else UNKNOWN


def _short(ask: Ask, tokens: int) -> Ask:
    limit = min(tokens, ask.sampling.max_tokens)
    return ask._replace(sampling=msgspec.structs.replace(ask.sampling, max_tokens=limit))
