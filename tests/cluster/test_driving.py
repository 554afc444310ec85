"""The driver's loop with a crew of threads, one of which stands still or comes late."""

import threading

import pytest

from lmsi_cli.cluster.dispatch import Dispatcher, Item
from lmsi_cli.cluster.driving import drive
from lmsi_cli.cluster.sizing import Sizing
from lmsi_cli.cluster.wire import Asked, Order, Start
from lmsi_cli.cluster.worker import Worker
from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.scripted import ScriptedEngine
from tests.cluster.crews import Slow, ThreadCrew
from tests.stages.stage_helpers import TASK

PATHS = 4  # the first three agree
SCRIPT = {f"q{i}": [f" The answer is {i}."] * 3 + [" The answer is 99."] for i in range(12)}


class StuckCrew(ThreadCrew):
    """The first worker that comes to ``stuck`` stands still there, alive, for ever."""

    def __init__(self, config, stuck, **how):
        super().__init__(SCRIPT, config, **how)
        self.stuck, self.still = stuck, []

    def _hire(self):
        joined = super()._hire()
        worker = self.workers[joined.worker]
        generate = worker.engine.generate

        def standing(*how, **watched):
            for g in generate(*how, **watched):
                if g.question_id == self.stuck and not self.still:
                    self.still.append(joined.worker)
                    threading.Event().wait()
                yield g

        worker.engine.generate = standing
        return joined


def drawn(crew):
    """The keys that come of all questions, and the reports' counts of those that were decided."""
    items = [Item(q, tuple(range(PATHS))) for q in SCRIPT]
    dispatch = Dispatcher(iter(items), PATHS * len(items), Sizing(first=8, shortest=0.05))
    crew.begin(Start(task=TASK, shown=tuple(SCRIPT), paths=PATHS * len(SCRIPT)))

    cast, stopped = {q: [] for q in SCRIPT}, 0

    def asked(question_id, paths):
        told = tuple(cast[question_id])
        return Asked(id=question_id, question="What is it?", paths=paths, told=told)

    for report in drive(crew, dispatch, asked, lambda _: None):
        stopped += report.stopped
        for p in report.paths:
            cast[p.question_id].append((p.path, p.predicted_answer))
    return [(q, path) for q, told in cast.items() for path, _ in told], stopped


@pytest.mark.parametrize("stuck", ["q0", "q5", "q11"])
def test_a_worker_that_stands_still_does_not_hold_the_run_up(stuck):
    crew = StuckCrew(SampleConfig(paths=PATHS), stuck, workers=3)
    keys, stopped = drawn(crew)
    assert len(crew.still) == 1  # it still stands there
    assert sorted(keys) == sorted((q, p) for q in SCRIPT for p in range(PATHS))
    assert not stopped


def test_a_decided_question_counts_once_though_two_workers_leave_it():
    """Blocks are copied soon, so that workers decide the same question and say so."""
    config = SampleConfig(paths=PATHS, stop="window:2")
    crew = StuckCrew(config, "q7", workers=3, seconds=0.03)
    keys, stopped = drawn(crew)
    assert crew.still
    assert stopped == len(SCRIPT)
    assert sorted(keys) == sorted((q, p) for q in SCRIPT for p in range(2))


def test_an_idle_worker_reports_at_once_and_a_busy_one_collects():
    config = SampleConfig(paths=PATHS)
    worker = Worker(Slow(SCRIPT, seconds=0.01), config)
    worker.start(Start(task=TASK, shown=(), paths=8))
    order = [Asked(id=q, question=q, paths=tuple(range(PATHS))) for q in ("q1", "q2")]
    report = worker.trade([Order(number=0, questions=tuple(order))], 5.0, 60.0)
    assert report.ended == (0,) and len(report.paths) == 8  # it did not linger for a minute
    worker.close()


def test_a_question_may_come_back_to_a_worker_at_once():
    """It closed there early, in the sampler, and the worker has not forgotten it yet."""
    worker = Worker(ScriptedEngine(SCRIPT), SampleConfig(paths=PATHS, stop="window:2"))
    worker._start = Start(task=TASK, shown=(), paths=8)
    worker._watch.closed.append("q1")
    asked = Asked(id="q1", question="What is 1?", paths=(2, 3), told=((0, "1"),))
    assert worker._requests(asked)
    worker._sweep()
    assert worker._words == {"q1": "What is 1?"} and "q1" in worker._watch.decisions
