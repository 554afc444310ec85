"""A cluster in simulated time, driven by the dispatcher that a real one is driven by.

Knows what a fleet does (draws, stands still, dies, comes back) and asks `cluster/dispatch.py` for
every block and about every path; there is no model, network or file. Events are whole blocks, and
reports in between only when no block is left, so a million questions take minutes on one core. What
is assumed stands in `Fleet`, what was measured in `Timings`, what came of it in `Ran`
(`benchmarks/fleet.py`):

    simulate(Timings(...), Fleet(workers=1000), questions=1_000_000, paths=32)
    -> Ran(kept=32000000, twice=3127, seconds=1701.2, utilisation=0.96, ...)
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter

import numpy as np

from benchmarks.fleet import POOL, Fleet, Ran, Timings, pool
from benchmarks.workers import Kept, Run, Worker, resident_mib, size_mib
from lmsi_cli.cluster.dispatch import Block, Dispatcher, Item

BIN = 0.25  # seconds; arrivals at the driver are counted by these
LOOKS = 20  # how often the memory is read
LATE = 30.0  # seconds until what a cut-off worker had drawn arrives after all
ASK = 0.5  # seconds until workers without a block ask again, when none is left
UNREAD = frozenset({"_items"})  # what of the dispatcher is not its own


class Simulation:
    """All workers, the events to come and what has been counted."""

    def __init__(self, timings: Timings, fleet: Fleet, questions: int, paths: int) -> None:
        self.timings, self.fleet, self.paths, self.questions = timings, fleet, paths, questions
        self.rng = random.Random(fleet.seed)
        self.sums, self.longest = pool(timings, paths, fleet.seed)
        items = (Item(f"q-{i:012x}", tuple(range(paths))) for i in range(questions))
        self.dispatch = Dispatcher(items, questions * paths)
        self.kept = Kept(questions)
        self.events: list[tuple[float, int, str, object]] = []
        self.order = itertools.count()
        self.workers: dict[int, Worker] = {}
        self.hungry: dict[Worker, None] = {}
        self.names = itertools.count()
        self.now, self.dry = 0.0, 0.0  # seconds; since when no block was left
        self.spent = Counter[str]()
        self.count = Counter[str]()
        self.wait = self.busy = 0.0
        self.arrivals = np.zeros(1024)
        self.rss: list[float] = []
        self.sizes: list[float] = []
        self.speeds = [self._speed() for _ in range(fleet.workers)]

    # -- events ------------------------------------------------------------------------------

    def run(self) -> Ran:
        """Simulate until all is drawn."""
        begun = time.perf_counter()
        for slot in range(self.fleet.workers):
            self.push(self.fleet.setup * (0.5 + self.rng.random()), "join", slot)
        while not self.dispatch.done:
            self.now, _, kind, what = heapq.heappop(self.events)
            getattr(self, f"on_{kind}")(what)
            self.look()
        return self.told(time.perf_counter() - begun)

    def push(self, when: float, kind: str, what: object) -> None:
        """Let something happen at a time."""
        heapq.heappush(self.events, (when, next(self.order), kind, what))

    def on_join(self, slot: int) -> None:
        """A worker is set up; its death is drawn, too."""
        lag = self.rng.random() * (self.fleet.linger + self.fleet.per_worker * self.fleet.workers)
        worker = Worker(f"w{next(self.names)}", slot, self.speeds[slot], self.now, lag)
        self.workers[slot] = worker
        self.dispatch.join(worker.name, self.now)
        self.push(self.now + self.rng.expovariate(1 / self.fleet.life), "die", worker)
        self.hand(worker)

    def on_over(self, what: tuple[Worker, Run]) -> None:
        """A block is over; that is reported at once by a worker that has no other."""
        worker, _ = what
        lag = worker.lag if len(worker.runs) > 1 else 0.0
        self.push(self.now + lag + self.fleet.latency, "end", what)

    def on_end(self, what: tuple[Worker, Run]) -> None:
        """The end of a block has reached the driver."""
        worker, run = what
        if worker.died <= self.now:
            return
        for other in worker.runs:
            self.bring(worker, other, self.now - self.fleet.latency)
        worker.runs.remove(run)
        self.book(run, self.now)
        self.dispatch.ended(worker.name, run.block.number, self.now)
        self.hand(worker)

    def on_ask(self, _: None) -> None:
        """Nothing is left: reports of paths come in, and those without a block ask again."""
        for worker in list(self.workers.values()):
            if worker.died > self.now:
                for run in worker.runs:
                    self.bring(worker, run, self.now - self.fleet.latency - worker.lag)
        for worker in list(self.hungry):
            self.hand(worker)
        self.push(self.now + ASK, "ask", None)

    def on_die(self, worker: Worker) -> None:
        """A worker dies, and perhaps its machine."""
        whole = self.rng.random() < self.fleet.node_share
        first = worker.slot - worker.slot % self.fleet.node
        slots = range(first, first + self.fleet.node) if whole else [worker.slot]
        for other in [self.workers[s] for s in slots if s in self.workers]:
            if other.died > self.now and (other is worker or whole):
                self.fall(other)

    def fall(self, worker: Worker) -> None:
        """One worker is gone: what it had reported has come, the rest is lost or comes late."""
        worker.died = self.now
        self.count["deaths"] += 1
        self.hungry.pop(worker, None)
        self.spent["alive"] += self.now - worker.joined
        for run in [r for r in worker.runs if r.start < self.now]:
            self.bring(worker, run, self.now - self.fleet.latency - worker.lag)
            self.book(run, self.now)
            if self.rng.random() < self.fleet.cut_off:
                self.push(self.now + self.fleet.notice + LATE, "late", (worker, run))
        worker.runs.clear()  # its own death may still be among the events
        self.gap(worker, self.now)
        self.push(self.now + self.fleet.notice, "gone", worker)

    def on_gone(self, worker: Worker) -> None:
        """The driver notices; a new worker takes the place once it is set up."""
        self.dispatch.died(worker.name, self.now)
        self.spent["away"] += self.fleet.notice + self.fleet.setup
        self.push(self.now + self.fleet.setup, "join", worker.slot)
        for other in list(self.hungry):
            self.hand(other)

    def on_late(self, what: tuple[Worker, Run]) -> None:
        """The other paths arrive of a worker that is held for dead; that time was nobody's."""
        self.bring(*what, what[1].end)

    # -- work --------------------------------------------------------------------------------

    def hand(self, worker: Worker) -> None:
        """Give a worker blocks until it has enough."""
        if worker.died <= self.now:
            return
        while block := self.dispatch.give(worker.name, self.now):
            self.count["blocks"] += 1
            start = max(self.now + self.fleet.latency, worker.free)
            if not self.dry:
                self.wait = max(self.wait, start - worker.empty)
            self.gap(worker, start)
            run = self.draw(worker, block, start)
            worker.free, worker.empty = start + run.good + run.pause, run.end
            worker.runs.append(run)
            self.push(run.end, "over", (worker, run))
        if worker.runs:
            self.hungry.pop(worker, None)
            return
        self.hungry[worker] = None
        if not self.dispatch.waiting and not self.dry:
            self.dry = self.now
            self.push(self.now, "ask", None)

    def gap(self, worker: Worker, until: float) -> None:
        """Book the time in which a worker had nothing to begin: running empty, then idle."""
        ending = min(max(0.0, until - worker.free), worker.empty - worker.free)
        self.spent["ending"] += ending
        self.spent["idle"] += max(0.0, until - worker.free) - ending

    def draw(self, worker: Worker, block: Block, start: float) -> Run:
        """How long a worker takes for a block."""
        part = self.paths
        tokens = sum(self.sums[row(i)] * len(i.paths) / part for i in block.items)
        good = tokens / worker.speed
        last = block.items[-1]
        running = min(self.fleet.width, block.paths)
        mean = self.sums[row(last)] / part
        steps = self.longest[row(last)] * self.fleet.width - mean * running
        pauses = int(good / self.fleet.between + self.rng.random())
        pause, at = pauses * self.fleet.pause, self.rng.random() * good
        return Run(block, start, good, steps / worker.speed, pause, at)

    def bring(self, worker: Worker, run: Run, when: float) -> None:
        """Bring what a block has given until then to the driver."""
        until = round(run.worked(when) / run.busy * run.paths)
        if until <= run.came:
            return
        self.arrive(run.seen, min(when, run.end), until - run.came)
        run.seen = when
        place = 0
        for item in run.block.items:
            low, high = max(0, run.came - place), min(len(item.paths), until - place)
            if low < high:
                run.new += self.take(worker, item, item.paths[low:high])
            place += len(item.paths)
            if place >= until:
                break
        run.came = until

    def book(self, run: Run, until: float) -> None:
        """Account for the seconds of a block until then."""
        useful = run.good * run.new / run.paths
        self.spent["useful"] += useful
        self.spent["paused"] += run.stood(until)
        self.spent["lost"] += max(0.0, min(run.good, run.worked(until)) - useful)

    def take(self, worker: Worker, item: Item, paths: tuple[int, ...]) -> int:
        """Tell the dispatcher of each path; how many were new."""
        bits = 0
        result, name, question = self.dispatch.result, worker.name, item.question_id
        for path in paths:
            if result(name, question, path):
                bits |= 1 << path
        self.kept.add(number(question), bits)
        self.count["twice"] += len(paths) - bits.bit_count()
        return bits.bit_count()

    def arrive(self, start: float, end: float, paths: int) -> None:
        """Spread paths evenly over the time they were drawn in."""
        first, last = int(start / BIN), int(end / BIN) + 1
        if last > len(self.arrivals):
            self.arrivals = np.concatenate([self.arrivals, np.zeros(max(last, 1024))])
        self.arrivals[first:last] += paths / (last - first)

    def look(self) -> None:
        """Read the memory now and then."""
        self.busy = max(self.busy, self.dispatch.open_paths)
        total = self.questions * self.paths
        if self.kept.paths * LOOKS >= total * (len(self.rss) + 1):
            self.rss.append(round(resident_mib(), 1))
            self.sizes.append(round(size_mib(self.dispatch, UNREAD), 1))

    # -- the end -----------------------------------------------------------------------------

    def told(self, wall: float) -> Ran:
        """All figures."""
        for w in self.workers.values():
            if w.died > self.now:
                self.spent["alive"] += self.now - w.joined
                self.gap(w, self.now)
                for run in [r for r in w.runs if r.start < self.now]:
                    self.book(run, self.now)
        alive, kept = self.spent["alive"], self.kept.paths
        paid = alive + self.spent["away"] + self.fleet.setup * self.fleet.workers
        rates = self.arrivals[: int(self.now / BIN) + 1] / BIN
        return Ran(
            questions=self.questions,
            paths=self.paths,
            kept=kept,
            missing=self.questions * self.paths - kept,
            set_apart=len(self.dispatch.set_apart),
            twice=self.count["twice"],
            again=self.kept.again,
            deaths=self.count["deaths"],
            blocks=self.count["blocks"],
            seconds=self.now,
            utilisation=self.spent["useful"] / alive,
            ending=self.spent["ending"] / alive,
            idle=self.spent["idle"] / alive,
            paused=self.spent["paused"] / alive,
            lost=self.spent["lost"] / alive,
            paid=self.spent["useful"] / paid,
            wait_s=self.wait,
            tail_s=self.now - self.dry if self.dry else 0.0,
            peak_rate=float(rates.max()),
            mean_rate=kept / self.now,
            driver_load=kept / self.now * self.timings.driver_s,
            queue=waiting(rates, self.timings.driver_s),
            open_paths=int(self.busy),
            rss_mib=tuple(self.rss),
            dispatch_mib=tuple(self.sizes),
            dispatch_us=wall / kept * 1e6,
            wall_s=wall,
        )

    def _speed(self) -> float:
        """Tokens a second of a machine."""
        usual = self.timings.tokens_s * self.rng.lognormvariate(0, self.fleet.spread)
        return usual / 4 if self.rng.random() < self.fleet.slow else usual


def number(question_id: str) -> int:
    """The place of a question."""
    return int(question_id[2:], 16)


def row(item: Item) -> int:
    """Which invented question of the pool it is."""
    return number(item.question_id) % POOL


def waiting(rates: np.ndarray, driver_s: float) -> float:
    """The most paths that wait at the driver, each taking so long."""
    most = queue = 0.0
    for rate in rates.tolist():
        queue = max(0.0, queue + (rate - 1 / driver_s) * BIN)
        most = max(most, queue)
    return most


def simulate(timings: Timings, fleet: Fleet, questions: int, paths: int) -> Ran:
    """Draw so many paths of so many questions."""
    return Simulation(timings, fleet, questions, paths).run()
