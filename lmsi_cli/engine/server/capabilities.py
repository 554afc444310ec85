"""What a server can do: found by asking it, remembered as long as an engine lives.

Knows requests and replies, not questions. Before a run's first path a few requests of some tokens
find out whether the server answers at all with log-probabilities, whether several paths come of one
request (they are counted, whatever the server promises), and, where paths are asked for one by one,
whether the same seed gives the same text and another seed another. What else a server does not take
shows when it refuses a request; then the field is left out from there on, and said:

    {"per_request": 1, "seeds": "honoured", "logprobs": "told", "not_taken": "top_k, min_p"}
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from lmsi_cli.engine.server.client import FailedError, RefusedError
from lmsi_cli.engine.server.context import TOO_LONG
from lmsi_cli.engine.server.wire import EXTRA, LOGPROBS, OPTIONAL, Ask, Reply, named

LOG = logging.getLogger(__name__)
HONOURED, IGNORED, UNKNOWN, UNSENT = "honoured", "not honoured", "unknown", "not sent"
NOTES = {
    IGNORED: "the server does not honour seeds; paths cannot be drawn again",
    UNKNOWN: "two seeds gave the same text: the model is sure of it, or the server does not heed "
    "the temperature, and then all paths are one",
}
TRIAL_TOKENS = 24
ALL = 1 << 16  # paths in one request: as many as a question wants
NEW_LIMIT = "max_completion_tokens"  # OpenAI's newer name for max_tokens
Send = Callable[..., Awaitable[Reply]]  # (ask, tries, without these fields)


class Capabilities:
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

        A request that is too long has no remedy, and its complaint may name other fields.
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
        self.drop(drop, refused.told)
        return bool(drop)

    def drop(self, fields: set[str], told: str) -> None:
        """Leave fields out from now on, and say so once."""
        new = fields - self.dropped
        if not new:
            return
        self.dropped |= new
        if new & LOGPROBS:
            self.logprobs = False
        if "seed" in new:
            self.seeds = IGNORED
        names = ", ".join(sorted(new))
        lost = ", so paths have no log-probabilities" if new & LOGPROBS else ""
        LOG.warning("note: the server does not take %s%s (%s)", names, lost, told)


async def find(can: Capabilities, ask: Ask, paths: int, send: Send) -> Reply | None:
    """Find out what is not known yet and has to be before paths of one form are drawn.

    Args:
        can: Is told what is found.
        ask: A request of the run; its prompt and settings are used.
        paths: The most that are wanted of a question.
        send: Sends a request.

    Returns:
        The first reply, if anything was asked.
    """
    draws = ask.sampling.temperature > 0  # greedy paths are equal by right: nothing shows
    count, reply = draws and paths > 1 and not can.most, None
    if count or not can.proven:
        reply = await _first(can, ask.short(1, n=2 if count else 1), send)
    if count and reply:
        can.most = (can.asked_for or ALL) if len(reply.choices) > 1 else 1
    one = can.most == 1 or paths == 1
    if draws and one and not can.tried_seeds and "seed" not in can.dropped:
        await _find_seeds(can, ask.short(TRIAL_TOKENS), send)
    return reply


async def _first(can: Capabilities, ask: Ask, send: Send) -> Reply:
    """The first reply; some servers fail without a word while log-probabilities are asked for."""
    try:
        return await send(ask, tries=2)
    except FailedError as e:
        if e.status < 500:
            raise
        reply = await send(ask, tries=1, without=LOGPROBS)
        can.drop(LOGPROBS, str(e))
        return reply


async def _find_seeds(can: Capabilities, ask: Ask, send: Send) -> None:
    """Same seed, same text; other seed, other text: only both together show that it is heard."""
    can.seeds = UNKNOWN  # from now on they are sent, whatever the trial comes to
    replies = [await send(ask._replace(seed=seed)) for seed in (1, 1, 2)]
    first, again, other = (reply.choices[0].whole for reply in replies)
    can.tried_seeds = True
    can.seeds = IGNORED if first != again else HONOURED if again != other else UNKNOWN
    if can.seeds in NOTES:
        LOG.warning("note: %s", NOTES[can.seeds])
