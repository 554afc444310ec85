"""A crew of Ray actors: started, traded with, mourned and replaced.

Knows Ray and the records of ``wire.py``; what is drawn next is the dispatcher's to say. Each actor
has one call under way at most: it loads its model, or works until it has something to report. So
what waits anywhere is bounded, and a death shows as that call's failure. Actors are not detached:
however the driver ends, Ray ends them. A machine that joins the cluster later gets actors too.

    crew = RayCrew(ray, job, Room(threads=1, workers=2), Wish("auto"), say=print)
    crew.chat()         -> Ready(node="a", chat=False, why="the file has no chat template")
    crew.begin(Start(task=..., shown=("What is 2 + 2?",), paths=320))
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.cluster.actor import actor_class
from lmsi_cli.cluster.driving import Died, Event, Joined, Told
from lmsi_cli.cluster.reaching import Room, Wish, places
from lmsi_cli.cluster.wire import Job, Order, Ready, Report, Start, sent
from lmsi_cli.engine.lasting import LASTING
from lmsi_cli.errors import LmsiError

REPORT = 5.0  # seconds that a worker waits for something to report
LINGER = 0.2  # seconds that it collects more; a large crew collects longer
PER_WORKER = 0.002  # seconds of lingering for each worker: some 500 reports a second in all
LATECOMERS = 30.0  # seconds after the first worker is ready that the others are waited for
CHECK = 0.25  # seconds between two looks at whether a signal has come: Ray itself looks each second
WAIT = 0.5  # seconds for a worker to come, while none has
GROW = 10.0  # seconds between two looks at whether the cluster has grown


class _Call(NamedTuple):
    """A call under way: whose, and whether it is the loading of the model."""

    worker: str
    loads: bool


class RayCrew:
    """The actors of one run."""

    def __init__(
        self,
        ray: Any,  # noqa: ANN401 - a module
        job: Job,
        room: Room,
        wish: Wish,
        say: Callable[[str], None],
    ) -> None:
        self.ray, self.room, self._wish, self._job, self._say = ray, room, wish, job, say
        self._start: bytes | None = None
        needs = {"num_cpus": room.threads, "num_gpus": 1 if wish.gpu else 0}
        alone = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        self._class = ray.remote(actor_class()).options(**needs, **alone)
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._ready: list[str] = []  # loaded, and not told how questions are asked
        self._number = self._failed = self._unfit = 0
        self._looked = time.monotonic()
        for _ in range(room.workers):
            self._hire()

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            return  # time is short, and Ray ends them with the driver
        for actor in self._actors.values():
            self.ray.kill(actor, no_restart=True)

    def ready(self) -> Ready:
        """Wait for the workers.

        Those that are late, since their machines are busy, join when they can.

        Raises:
            LmsiError: A worker cannot work; names its machine.
        """
        first: Ready | None = None
        end, told_at = float("inf"), time.monotonic() + LATECOMERS
        while first is None or (self._loading() and time.monotonic() < end):
            for call, told in self._done(WAIT):
                first = self._greet(call.worker, told) or first
                end = min(end, time.monotonic() + LATECOMERS)
            if first is None and time.monotonic() > told_at:
                self._say("no worker is ready yet: the model is large, or the cluster is busy")
                told_at = float("inf")
        return first

    def begin(self, start: Start) -> None:
        """Tell how questions are asked, now and to all that come later."""
        self._start = sent(start)

    def part_of(self, paths: int) -> int:
        """About how many of so many paths one worker will draw."""
        return -(-paths // self.room.workers)

    def events(self, seconds: float) -> Sequence[Event]:
        """Joined, told and died, as they happen."""
        self._grow()
        found: list[Event] = [self._join(w) for w in self._ready]
        self._ready = []
        for call, told in self._done(0 if found else seconds):
            found += self._event(call, told)
        return found

    def trade(self, worker: str, orders: Sequence[Order]) -> None:
        """Send orders and ask for a report."""
        taken = [sent(order) for order in orders]
        linger = LINGER + PER_WORKER * self.room.workers
        ref = self._actors[worker].trade.remote(taken, REPORT, linger)
        self._calls[ref] = _Call(worker, False)

    # -- calls -----------------------------------------------------------------------------

    def _hire(self) -> None:
        """Ask Ray for one more actor; it comes when there is room for it."""
        self._number += 1
        worker = f"{self._number}"
        self._actors[worker] = actor = self._class.remote()
        ref = actor.ready.remote(sent(self._job), self._job.lmsi)
        self._calls[ref] = _Call(worker, True)

    def _grow(self) -> None:
        """Hire for machines that have come; for those that have gone nobody was dismissed."""
        if time.monotonic() < self._looked + GROW:
            return
        self._looked = time.monotonic()
        fit = places(self.room.threads, self._wish.gpu, self.ray.nodes()) - self._unfit
        more = min(self._wish.workers or fit, fit) - len(self._actors)
        for _ in range(more):
            self._hire()
        if more > 0:
            self.room = self.room._replace(workers=len(self._actors))

    def _loading(self) -> bool:
        return any(call.loads for call in self._calls.values())

    def _done(self, seconds: float) -> list[tuple[_Call, bytes | Exception]]:
        """Calls that have come back, with their results or their ends."""
        if not self._calls:
            time.sleep(seconds)
            return []
        refs = list(self._calls)
        if not self._come(refs, seconds):
            return []
        some, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        return [(self._calls.pop(ref), self._result(ref)) for ref in some]

    def _come(self, refs: list[Any], seconds: float) -> bool:
        """Whether a call comes back in time; waits in pieces, between which signals are obeyed."""
        for _ in range(max(1, math.ceil(seconds / CHECK))):
            some, _ = self.ray.wait(refs, num_returns=1, timeout=min(seconds, CHECK))
            if some:
                return True
        return False

    def _result(self, ref: Any) -> bytes | Exception:  # noqa: ANN401 - Ray's own
        try:
            told: bytes = self.ray.get(ref)
        except self.ray.exceptions.RayError as e:
            died: Exception = e
            return died
        return told

    def _event(self, call: _Call, told: bytes | Exception) -> list[Event]:
        if isinstance(told, Exception):
            return self._died(call, told)
        if call.loads:
            return self._late(call.worker, msgspec.json.decode(told, type=Ready))
        report = msgspec.json.decode(told, type=Report)
        self._settle(report.settled)
        return [Told(call.worker, report)]

    def _late(self, worker: str, ready: Ready) -> list[Event]:
        """One that comes when the others work; if it cannot, they go on."""
        if not ready.error:
            return [self._join(worker)]
        self._say(f"worker {worker}: {ready.node}: {ready.error}; it is left out")
        self._dismiss(worker)
        self._unfit += 1
        return []

    def _settle(self, settled: dict[str, int | str]) -> None:
        """Those that are hired from here on get the kind of cache that the first one chose."""
        same = {k: settled[k] for k in LASTING if k in settled}
        auto = {k: v for k, v in same.items() if getattr(self._job.settings, k) == "auto"}
        if auto:
            settings = msgspec.structs.replace(self._job.settings, **auto)
            self._job = msgspec.structs.replace(self._job, settings=settings)

    def _join(self, worker: str) -> Joined:
        assert self._start is not None
        self._actors[worker].start.remote(self._start)
        return Joined(worker)

    def _died(self, call: _Call, e: Exception) -> list[Event]:
        """Replace a dead worker; one that dies while it loads may die again, so not for ever."""
        self._dismiss(call.worker)
        why = _reason(e)
        self._failed = self._failed + 1 if call.loads else 0
        if self._failed > 3 * self.room.workers:
            raise LmsiError(
                f"workers die while they load the model; the last one: {why}",
                hint="look at those machines' memory, or give fewer --workers",
            )
        self._hire()
        return [Died(call.worker, why)]

    def _dismiss(self, worker: str) -> None:
        self.ray.kill(self._actors.pop(worker), no_restart=True)

    def _greet(self, worker: str, told: bytes | Exception) -> Ready | None:
        """A worker is ready before the work begins, or everything ends here."""
        if isinstance(told, Exception):
            self._died(_Call(worker, True), told)
            return None
        ready = msgspec.json.decode(told, type=Ready)
        if ready.error:
            raise LmsiError(f"on {ready.node}: {ready.error}", hint=ready.hint)
        self._failed = 0
        self._ready.append(worker)
        return ready


def _reason(e: Exception) -> str:
    """The first telling line of what Ray says of a death."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    because = [line for line in lines if "because" in line or "Error" in line]
    return (because or lines or [type(e).__name__])[0][:200]
