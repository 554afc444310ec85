"""Requests in flight: which to send next, how to take their results, and which to cancel.

Knows questions, their wanted paths and a way to ask for them; nothing of HTTP. Paths missing from a
reply are requested again, failed questions are retried after the others, and those that a watch
calls decided are cancelled. Only paths that are certainly needed are requested, since a server's
idle slot costs nothing, but a wasted path may. A snapshot of three requests:

    q7 paths 0-15 | q8 paths 0-15 | q9 path 3, which another reply lacked
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence, Set
from typing import Any, NamedTuple

from lmsi_cli.engine.base import Generated, Refusal, Request, Wanted, Watch
from lmsi_cli.engine.server.client import FailedError, RefusedError
from lmsi_cli.engine.server.replies import Reply, finished
from lmsi_cli.engine.server.requests import Capabilities
from lmsi_cli.errors import LmsiError

Asking = Callable[[Request, tuple[Wanted, ...]], Coroutine[Any, Any, Reply]]


class _Sent(NamedTuple):
    """A request in flight; ``again``: its question has failed before. ``replies`` came before."""

    request: Request
    wanted: tuple[Wanted, ...]
    again: bool
    replies: int


class Scheduler:
    """All paths of one engine call; call ``step`` until it returns None, then ``stop``."""

    def __init__(
        self,
        requests: Sequence[Request],
        ask: Asking,
        can: Capabilities,
        concurrency: int,
        watch: Watch | None,
        together: bool,
    ) -> None:
        """Take the requests; ``ask`` sends one, for several paths if they may be ``together``."""
        self.waiting = deque((r, deque(r.wanted)) for r in requests)
        self.ask, self.can, self.concurrency, self.watch = ask, can, concurrency, watch
        self.together = together
        self.running: dict[asyncio.Task[Reply], _Sent] = {}
        self.refusals: dict[str, Refusal] = {}
        self.error: BaseException | None = None
        self._replies = 0
        self._failed = dict[str, int]()  # postponed questions, and the replies up to then

    async def step(self, trigger: str) -> list[Generated] | None:
        """Wait for replies; return the paths that they hold, or None if all is done.

        LmsiError: nothing more can be drawn; what came before has been returned. FailedError: the
        server is gone.
        """
        if self.error is not None:
            raise self.error
        while len(self.running) < self.concurrency and (sent := self._next()):
            self.running[asyncio.create_task(self.ask(sent.request, sent.wanted))] = sent
        if not self.running:
            return None
        done, _ = await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        return [g for task in done for g in self._ended(task, trigger)]

    async def stop(self) -> None:
        """Cancel the requests in flight."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.running.clear()

    def settle(self, question_ids: set[str]) -> None:
        """Cancel all requests and waiting paths of those questions that are decided."""
        if self.watch is None:
            return
        decided = set(filter(self.watch.decided, question_ids))
        self._forget(decided)
        for task, sent in self.running.items():
            # a request that has ended meanwhile cannot be cancelled, and counts
            if sent.request.question_id in decided and task.cancel():
                for wanted in sent.wanted:
                    self.watch.cancelled(sent.request.question_id, wanted.path, 0)

    def _forget(self, question_ids: Set[str]) -> None:
        """Ask for no more paths of these questions."""
        self.waiting = deque(w for w in self.waiting if w[0].question_id not in question_ids)

    def _next(self) -> _Sent | None:
        """The next certainly needed paths, of the oldest question that has any."""
        for at, (request, left) in enumerate(self.waiting):
            end = self.watch.needed(request.question_id) if self.watch else sys.maxsize
            most = self.can.most if self.together else 1
            count = min(sum(w.path < end for w in left), most)
            if count:
                wanted = tuple(left.popleft() for _ in range(count))
                if not left:
                    del self.waiting[at]
                again = request.question_id in self._failed
                return _Sent(request, wanted, again, self._replies)
        return None

    def _ended(self, task: asyncio.Task[Reply], trigger: str) -> list[Generated]:
        """The paths of a finished request; those missing from its reply wait again."""
        sent = self.running.pop(task)
        if task.cancelled():
            return []
        if error := task.exception():
            self._take_error(sent, error)
            return []
        self._replies += 1
        reply = task.result()
        found = zip(sent.wanted, reply.choices, reply.costs, strict=False)
        paths = [finished(sent.request, *each, trigger) for each in found]
        lacking = sent.wanted[len(paths) :]
        if lacking and sent.request.question_id not in self.refusals:
            self.waiting.appendleft((sent.request, deque(lacking)))
        return paths

    def _take_error(self, sent: _Sent, error: BaseException) -> None:
        """Give up or postpone the question, or keep the error for the next ``step`` to raise.

        A question that fails is retried once, after the others. If another one has failed, too, and
        no reply has come since, nor since this one was sent, the server itself is in trouble.
        """
        own = sent.request.question_id
        if isinstance(error, RefusedError):
            if self.can.proven or error.too_long:
                self._refuse(sent.request, f"the server refuses it: {error.reason}")
                return
            message = f"the server refuses the request (HTTP {error.status}): {error.reason}"
            error = LmsiError(message, hint="`--dry-run` shows what is sent")
        silent = sent.replies == self._replies and any(
            replies == self._replies for other, replies in self._failed.items() if other != own
        )
        if silent or not isinstance(error, FailedError):
            self.error = self.error or error
        elif sent.again:
            self._refuse(sent.request, f"the server failed again and again: {error}")
        elif own not in self.refusals:
            self._failed.setdefault(own, self._replies)
            self.waiting = deque(sorted(self.waiting, key=lambda w: w[0].question_id == own))
            self.waiting.append((sent.request, deque(sent.wanted)))

    def _refuse(self, request: Request, why: str) -> None:
        """Give up a question; its requests in flight may still end."""
        self._forget({request.question_id})
        self.refusals[request.question_id] = Refusal(request.question_id, request.words, why)
