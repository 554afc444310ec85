"""Requests under way: which are sent next, what came of them, and what is given up.

Knows questions, their wanted paths and a way to send; nothing of HTTP. No more requests are under
way than was said; what a reply lacks is asked for again, what fails has its turn after the others,
and what a watch calls decided is cancelled. Only paths that are needed for certain are asked for,
since a server's idle slot costs nothing and a path in vain may. Three requests, at some moment:

    q7 paths 0-15 | q8 paths 0-15 | q9 path 3, which another reply lacked
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from lmsi_cli.engine.base import Generated, Refusal, Request, Wanted, Watch
from lmsi_cli.engine.server.calls import TRIES, GaveUpError, RefusedError
from lmsi_cli.engine.server.cutting import costs, finished
from lmsi_cli.engine.server.finding import Offers
from lmsi_cli.engine.server.patience import Circuit
from lmsi_cli.engine.server.wire import TOO_LONG, Ask, Reply
from lmsi_cli.errors import LmsiError

Send = Callable[[Ask], Awaitable[Reply]]


class Bounds(NamedTuple):
    """Requests under way at once, and failures that one question may cause."""

    concurrency: int
    retries: int


class _Job(NamedTuple):
    """A request under way."""

    request: Request
    wanted: tuple[Wanted, ...]
    begun: float


class Drawing:
    """All paths of one call of an engine; ``step`` until it returns None, then ``stop``."""

    def __init__(
        self,
        requests: Sequence[Request],
        ask: Callable[[Request, int, int], Ask],
        offers: Offers,
        send: Send,
        bounds: Bounds,
    ) -> None:
        """Take the requests; ``ask`` writes one for a prompt, a number of paths and a seed."""
        self.waiting = deque((r, deque(r.wanted)) for r in requests if r.wanted)
        self.ask, self.offers, self.send, self.bounds = ask, offers, send, bounds
        self.running: dict[asyncio.Task[Reply], _Job] = {}
        self.failures: dict[str, Circuit] = {}  # of a question, each of several tries
        self.refusals: dict[str, Refusal] = {}
        self.watch: Watch | None = None
        self.error: BaseException | None = None

    async def step(self, trigger: str) -> list[Generated] | None:
        """Wait for replies; return the paths that they hold, or None if all is done.

        Raises:
            LmsiError: Nothing more can be drawn; what came before has been returned.
        """
        if self.error is not None:
            raise self.error
        while len(self.running) < self.bounds.concurrency and (job := self._next()):
            ask = self.ask(job.request, len(job.wanted), job.wanted[0].seed)
            self.running[asyncio.ensure_future(self.send(ask))] = job
        if not self.running:
            return None
        done, _ = await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        return [g for task in done for g in self._ended(task, trigger)]

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.running.clear()

    def settle(self, question_ids: set[str]) -> None:
        """Cancel what is under way or waits for those of these questions that are decided."""
        watch = self.watch
        decided = {q for q in question_ids if watch is not None and watch.decided(q)}
        if watch is None or not decided:
            return
        self.waiting = deque(w for w in self.waiting if w[0].question_id not in decided)
        for task, job in list(self.running.items()):
            # one that ended meanwhile is done and counts
            if job.request.question_id in decided and task.cancel():
                for wanted in job.wanted:
                    watch.cancelled(job.request.question_id, wanted.path, 0)

    def _next(self) -> _Job | None:
        """The oldest question's next paths that are needed for certain."""
        for at, (request, left) in enumerate(self.waiting):
            count = min(self._needed(request, left), self.offers.most or 1)
            if count:
                wanted = tuple(left.popleft() for _ in range(count))
                if not left:
                    del self.waiting[at]
                return _Job(request, wanted, time.monotonic())
        return None

    def _needed(self, request: Request, left: Sequence[Wanted]) -> int:
        if self.watch is None:
            return len(left)
        end = self.watch.needed(request.question_id)
        return sum(w.path < end for w in left)

    def _ended(self, task: asyncio.Task[Reply], trigger: str) -> list[Generated]:
        """The paths of a finished request; what it lacks waits again."""
        job = self.running.pop(task)
        if task.cancelled():
            return []
        error = task.exception()
        if error is not None:
            self._failed(job, error)
            return []
        reply = task.result()
        several = zip(job.wanted, reply.choices, costs(reply), strict=False)
        paths = [finished(job.request, w, c, cost, trigger) for w, c, cost in several]
        lacking = job.wanted[len(paths) :]
        if lacking and job.request.question_id not in self.refusals:
            self.waiting.appendleft((job.request, deque(lacking)))
        return paths

    def _put_back(self, job: _Job) -> None:
        """Let a question that fails have its turn after all others."""
        own = job.request.question_id
        mine = [w for w in self.waiting if w[0].question_id == own]
        others = [w for w in self.waiting if w[0].question_id != own]
        self.waiting = deque([*others, *mine, (job.request, deque(job.wanted))])

    def _failed(self, job: _Job, error: BaseException) -> None:
        if isinstance(error, GaveUpError):
            failed = Circuit(self.bounds.retries // TRIES)
            failed = self.failures.setdefault(job.request.question_id, failed)
            if failed.failed(job.begun, time.monotonic()):
                self._refuse(job.request, f"the server failed again and again: {error}")
            elif job.request.question_id not in self.refusals:
                self._put_back(job)
        elif isinstance(error, RefusedError) and TOO_LONG.search(error.told):
            self._refuse(job.request, f"it does not fit the server's context: {error.told}")
        elif isinstance(error, RefusedError) and self.offers.proven:
            self._refuse(job.request, f"the server refuses it: {error.told}")
        elif isinstance(error, RefusedError):
            self.error = self.error or LmsiError(
                f"the server refuses the request (HTTP {error.status}): {error.told}",
                hint="`--dry-run` shows what is sent",
            )
        else:
            self.error = self.error or error

    def _refuse(self, request: Request, why: str) -> None:
        """Leave a question; what of it is under way may still end."""
        own = request.question_id
        self.waiting = deque(w for w in self.waiting if w[0].question_id != own)
        self.refusals[own] = Refusal(own, request.words, why)
