"""Requests under way: which are sent next, what came of them, and what is given up.

Knows questions, their wanted paths and a way to ask for them; nothing of HTTP. No more requests are
under way than was said; what a reply lacks is asked for again, what fails has its turn after the
others, and what a watch calls decided is cancelled. Only paths that are needed for certain are
asked for, since a server's idle slot costs nothing and a path in vain may. Three requests, at some
moment:

    q7 paths 0-15 | q8 paths 0-15 | q9 path 3, which another reply lacked
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from lmsi_cli.config import ServerConfig
from lmsi_cli.engine.base import Generated, Refusal, Request, Wanted, Watch
from lmsi_cli.engine.server.capabilities import Capabilities
from lmsi_cli.engine.server.client import TRIES, FailedError, RefusedError
from lmsi_cli.engine.server.context import TOO_LONG
from lmsi_cli.engine.server.retry import Circuit
from lmsi_cli.engine.server.truncate import costs, finished
from lmsi_cli.engine.server.wire import Reply
from lmsi_cli.errors import LmsiError

Paths = tuple[Wanted, ...]


class _Job(NamedTuple):
    """A request under way."""

    request: Request
    wanted: Paths
    begun: float


class Scheduler:
    """All paths of one call of an engine; ``step`` until it returns None, then ``stop``."""

    def __init__(
        self,
        requests: Sequence[Request],
        ask: Callable[[Request, Paths], Coroutine[Any, Any, Reply]],
        can: Capabilities,
        config: ServerConfig,
        watch: Watch | None = None,
    ) -> None:
        """Take the requests; ``ask`` sends one for some paths of a prompt."""
        self.waiting = deque((r, deque(r.wanted)) for r in requests if r.wanted)
        self.ask, self.can, self.config, self.watch = ask, can, config, watch
        self.running: dict[asyncio.Task[Reply], _Job] = {}
        self.failures: dict[str, Circuit] = {}  # of a question, each of several tries
        self.refusals: dict[str, Refusal] = {}
        self.error: BaseException | None = None

    async def step(self, trigger: str) -> list[Generated] | None:
        """Wait for replies; return the paths that they hold, or None if all is done.

        Raises:
            LmsiError: Nothing more can be drawn; what came before has been returned.
        """
        if self.error is not None:
            raise self.error
        while len(self.running) < self.config.concurrency and (job := self._next()):
            self.running[asyncio.create_task(self.ask(job.request, job.wanted))] = job
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
            end = self.watch.needed(request.question_id) if self.watch else sys.maxsize
            count = min(sum(w.path < end for w in left), self.can.most or 1)
            if count:
                wanted = tuple(left.popleft() for _ in range(count))
                if not left:
                    del self.waiting[at]
                return _Job(request, wanted, time.monotonic())
        return None

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

    def _failed(self, job: _Job, error: BaseException) -> None:
        own = job.request.question_id
        if isinstance(error, FailedError):
            circuit = self.failures.setdefault(own, Circuit(self.config.retries // TRIES))
            if circuit.failed(job.begun, time.monotonic()):
                self._refuse(job.request, f"the server failed again and again: {error}")
            elif own not in self.refusals:  # its turn comes after all others
                self.waiting = deque(sorted(self.waiting, key=lambda w: w[0].question_id == own))
                self.waiting.append((job.request, deque(job.wanted)))
        elif isinstance(error, RefusedError) and (self.can.proven or TOO_LONG.search(error.told)):
            self._refuse(job.request, f"the server refuses it: {error.told}")
        elif isinstance(error, RefusedError):
            told = f"the server refuses the request (HTTP {error.status}): {error.told}"
            self.error = self.error or LmsiError(told, hint="`--dry-run` shows what is sent")
        else:
            self.error = self.error or error

    def _refuse(self, request: Request, why: str) -> None:
        """Leave a question; what of it is under way may still end."""
        own = request.question_id
        self.waiting = deque(w for w in self.waiting if w[0].question_id != own)
        self.refusals[own] = Refusal(own, request.words, why)
