"""One worker: an engine that draws what orders ask for, and reports as paths end.

Knows an engine, a task and the records of ``wire.py``; nothing of Ray, so that a scripted engine
can test it. Drawing has a thread of its own; whoever owns the worker trades orders for reports:

    worker.trade([order], patience=5.0, linger=0.2) -> Report(paths=(...), ended=(3,), ...)

Paths go from the thread to the reports through a queue of bounded length: while nobody fetches
reports, drawing waits. The prefix that all prompts share is read once, however many orders come.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence

from lmsi_cli.cluster.feeding import Ledger, OrderFeed, common, refusal
from lmsi_cli.cluster.wire import Asked, Order, Refused, Report, Start
from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import Engine, Generated, Request, Wanted, path_seed
from lmsi_cli.engine.drawing import draw
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.layout import Need, need_of
from lmsi_cli.engine.reading import to_path, to_requests
from lmsi_cli.engine.watching import BallotWatch
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import rotates
from lmsi_cli.records import Path, Question
from lmsi_cli.stopping import Decision, Stop

UNFETCHED = 512  # paths that may wait for a report
BATCH = 256  # events in one report
LONGER = 1.1  # room in a stream's cache for prompts that are longer than those that are shown

# what the thread tells: an int is the number of an order that is over
Event = Path | Refused | int | BaseException


class Watch(BallotWatch):
    """Also notes what is over, and counts the questions that were left early."""

    def __init__(self, stop: Stop | None, ledger: Ledger) -> None:
        super().__init__(stop)
        self.ledger, self.early = ledger, 0
        self.closed: list[str] = []

    def decided(self, question_id: str) -> bool:
        """Say so; the sampler asks when it has handed over all that ended in a step."""
        found = super().decided(question_id)
        if found:
            self.close(question_id)
        return found

    def close(self, question_id: str) -> None:
        """Nothing more will come of a question."""
        if self.ledger.left(question_id) and super().decided(question_id):
            self.early += 1
        if self.ledger.over(question_id):
            self.closed.append(question_id)

    def recall(self, asked: Asked) -> None:
        """Count the ballots that a question had before."""
        if self.stop is not None:
            decision = self.decisions[asked.id] = Decision(self.stop)
            for path, ballot in asked.told:
                decision.tell(path, ballot)


class Worker:
    """Draws in a thread; the public methods are for the owner's one thread."""

    def __init__(self, engine: Engine, settings: SampleConfig) -> None:
        self.engine, self.settings = engine, settings
        self._room = min(engine.info.context, settings.ctx or engine.info.context)
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._events: queue.Queue[Event] = queue.Queue(UNFETCHED)
        self._watch = Watch(Stop.parse(settings.stop), Ledger(self._events.put))
        self._feed = OrderFeed(self._orders, self._watch.ledger.begin, self._requests)
        self._words: dict[str, str] = {}
        self._counted = (0, 0, 0)
        self._settled: dict[str, int | str] = {}
        self._open = 0  # orders that are not over, as far as has been reported

    def start(self, start: Start) -> None:
        """Begin to wait for orders."""
        self._start = start
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """No more orders will come."""
        self._orders.put(None)

    def trade(self, orders: Sequence[Order], patience: float, linger: float) -> Report:
        """Take orders, and report what has happened.

        Args:
            orders: May be empty.
            patience: Seconds to wait for something to report.
            linger: Seconds to wait for more once there is something; not if all orders are over.
        """
        self._open += len(orders)
        for order in orders:
            self._orders.put(order)
        return self._report(list(self._collect(patience, linger)))

    # -- reports ---------------------------------------------------------------------------

    def _collect(self, patience: float, linger: float) -> Iterator[Event]:
        end = time.monotonic() + patience
        for count in range(BATCH):
            try:
                event = self._events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            yield event
            self._open -= isinstance(event, int)
            if not self._open:  # idle: the driver shall know at once
                return
            if not count:
                end = min(end, time.monotonic() + linger)

    def _report(self, events: Sequence[Event]) -> Report:
        failed = next((e for e in events if isinstance(e, BaseException)), None)
        stopped, cancelled, tokens = self._counts()
        return Report(
            paths=tuple(e for e in events if isinstance(e, Path)),
            ended=tuple(e for e in events if isinstance(e, int)),
            refused=tuple(e for e in events if isinstance(e, Refused)),
            stopped=stopped,
            cancelled=cancelled,
            cancelled_tokens=tokens,
            settled=self._news(),
            error=_words(failed),
            hint=failed.hint if isinstance(failed, LmsiError) else "",
        )

    def _counts(self) -> tuple[int, int, int]:
        """What was counted since the last report."""
        before = self._counted
        self._counted = now = (self._watch.early, self._watch.paths, self._watch.tokens)
        return now[0] - before[0], now[1] - before[1], now[2] - before[2]

    def _news(self) -> dict[str, int | str]:
        settled = self.engine.settled
        if settled == self._settled:
            return {}
        self._settled = settled
        return settled

    # -- drawing ---------------------------------------------------------------------------

    def _run(self) -> None:
        one_prefix = rotates(self._start.task, self._start.task.format) == 1
        try:
            if isinstance(self.engine, LlamaEngine) and one_prefix:
                self._stream(self.engine)
            else:
                self._in_turn()
        except BaseException as e:  # noqa: BLE001 - the owner is told, and ends the run
            self._events.put(e)

    def _stream(self, engine: LlamaEngine) -> None:
        """Draw without a pause between orders, in one cache for as long as questions fit it."""
        shown = [r for words in self._start.shown for r in self._written(words)]
        watch = None if self._watch.stop is None else self._watch
        while (head := self._feed.head()) is not None:
            seen = [*shown, head]
            need = self._need(seen)
            self._feed.below(common(seen), need, self.settings.max_tokens)
            trigger = self._start.task.trigger
            for g in engine.stream(need, seen, self._feed, self.settings, trigger, watch):
                self._came(g)
                self._sweep()

    def _need(self, seen: Sequence[Request]) -> Need:
        """The cache for questions of which only some are known."""
        need = need_of(seen, self.settings.max_tokens)
        longest = max(need.longest, min(int(LONGER * need.longest), self._room - need.max_tokens))
        return need._replace(longest=longest, paths=max(self._start.paths, 1))

    def _in_turn(self) -> None:
        """Draw what is there, then what has come meanwhile: several prefixes, or no stream."""
        stopping = self._watch.stop is not None
        while (head := self._feed.head()) is not None:
            requests = list(self._feed.there())
            trigger = self._start.task.trigger
            watch = self._watch if stopping else None
            for g in draw(self.engine, requests, self.settings, trigger, watch, stopping):
                self._came(g)
            for r in (head, *requests):
                self._watch.close(r.question_id)
            self._sweep()

    def _came(self, generated: Generated) -> None:
        path = to_path(generated, self._start.task, self._words[generated.question_id])
        self._watch.tell(path)
        self._events.put(path)
        if self._watch.ledger.path(path.question_id, path.path):
            self._watch.close(path.question_id)

    def _sweep(self) -> None:
        """Forget what is over, so that memory follows the open questions."""
        while self._watch.closed:
            question_id = self._watch.closed.pop()
            self._words.pop(question_id, None)
            self._watch.decisions.pop(question_id, None)

    # -- prompts ---------------------------------------------------------------------------

    def _requests(self, asked: Asked) -> list[Request]:
        """Write a question's prompts, or tell that it does not fit."""
        self._sweep()  # it may have been here before
        seed = self.settings.seed
        wanted = tuple(Wanted(i, path_seed(seed, asked.id, i)) for i in asked.paths)
        self._words[asked.id] = asked.question
        self._watch.recall(asked)
        written = self._written(asked.question, asked.id, wanted)
        refused = refusal(written, self.settings.max_tokens, self._room)
        if refused is not None:
            self._events.put(refused)
            self._watch.close(asked.id)
            return []
        return written

    def _written(
        self, words: str, question_id: str = "", wanted: tuple[Wanted, ...] = ()
    ) -> list[Request]:
        question = Question(id=question_id, question=words)
        longest = self.settings.max_tokens
        task = self._start.task
        return to_requests(self.engine, task, question, task.format, wanted, longest)


def _words(failed: BaseException | None) -> str:
    """What went wrong, in one line."""
    if failed is None:
        return ""
    return str(failed) if isinstance(failed, LmsiError) else f"{type(failed).__name__}: {failed}"
