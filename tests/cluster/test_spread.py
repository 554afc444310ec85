"""The sampling stage over a crew writes what one process writes."""

import pytest

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.scripted import ScriptedEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Exemplar, Question, Template
from lmsi_cli.rundir import RunDir
from lmsi_cli.stages.sample import bind, sample, spread
from tests.cluster.crews import ThreadCrew
from tests.stages.stage_helpers import IDENTITY, TASK, Silent, formed, settled

QUESTIONS = [Question(id=f"q{i}", question=f"What is {i} + {i}?", answer="g0ld") for i in range(20)]
SCRIPT = {
    q.id: [f" The answer is {i}.", f" So {i}. The answer is {i}.", " The answer is 99.", " Who?"]
    for i, q in enumerate(QUESTIONS)
}
ROTATING = TASK.__class__(
    name="number",
    kind="number",
    exemplars=TASK.exemplars,
    templates=(
        Template(exemplars=TASK.exemplars),
        Template(exemplars=(Exemplar(question="1 + 1?", rationale="1 + 1 = 2.", answer="2"),)),
    ),
)


def drawing(**own):
    return settled(SampleConfig(**own))


def alone(root, config, questions=QUESTIONS, task=TASK):
    run = RunDir(root)
    bind(run, config, IDENTITY)
    return sample(questions, ScriptedEngine(SCRIPT), formed(task, config), config, run, Silent())


def together(root, config, crew=None, questions=QUESTIONS, progress=None, task=TASK):
    run = RunDir(root)
    bind(run, config, IDENTITY)
    crew = crew or ThreadCrew(SCRIPT, config)
    return spread(questions, crew, formed(task, config), config, run, progress or Silent())


def lines(root):
    return sorted(RunDir(root).paths.read_text().splitlines())


@pytest.mark.parametrize("task", [TASK, ROTATING], ids=["one prompt", "templates in turn"])
@pytest.mark.parametrize("prompt", ["cot-zero", "cot-few"])
def test_a_crew_writes_what_one_process_writes(tmp_path, prompt, task):
    config = drawing(paths=4, prompt=prompt)
    a = alone(tmp_path / "a", config, task=task)
    b = together(tmp_path / "b", config, task=task)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    for name in ("questions", "run_toml"):
        files = [getattr(RunDir(tmp_path / x), name).read_bytes() for x in "ab"]
        assert files[0] == files[1]
    assert (a.paths, a.new_paths, a.parsed, a.tokens) == (b.paths, b.new_paths, b.parsed, b.tokens)
    assert b"g0ld" not in RunDir(tmp_path / "b").questions.read_bytes()


def test_a_killed_workers_paths_are_drawn_by_others(tmp_path, watcher):
    config = drawing(paths=4)
    crew = ThreadCrew(SCRIPT, config, kill_after=10, seconds=0.002)
    together(tmp_path, config, crew, progress=watcher)
    alone(tmp_path / "a", config)
    assert crew.started == 4
    assert lines(tmp_path) == lines(tmp_path / "a")
    assert any("killed by the test" in line for line in watcher.said)


def test_a_driver_that_dies_goes_on_where_it_stopped(tmp_path):
    config = drawing(paths=4)

    class Interrupted(ThreadCrew):
        def events(self, seconds):
            if self.heard > 20:
                raise KeyboardInterrupt
            return super().events(seconds)

    with pytest.raises(KeyboardInterrupt):
        together(tmp_path / "b", config, Interrupted(SCRIPT, config, seconds=0.002))
    before = len(lines(tmp_path / "b"))
    assert 20 < before < 80
    summary = together(tmp_path / "b", config)
    assert summary.new_paths == 80 - before
    alone(tmp_path / "a", config)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_a_deadly_question_is_named_and_the_others_are_done(tmp_path, watcher):
    config = drawing(paths=4)
    crew = ThreadCrew(SCRIPT, config, deadly=["q7"], workers=2)
    summary = together(tmp_path, config, crew, progress=watcher)
    assert summary.skipped == ("q7",)
    assert summary.paths == 76
    assert any("'q7': workers died over it" in line for line in watcher.said)


def test_a_question_that_does_not_fit_is_named_and_the_others_are_done(tmp_path, watcher):
    long = Question(id="long", question="Why? " * 900)
    config = drawing(paths=2)
    summary = together(tmp_path, config, questions=[*QUESTIONS, long], progress=watcher)
    assert summary.skipped == ("long",)
    assert summary.paths == 40
    assert any("'long'" in line and "do not fit" in line for line in watcher.said)


def test_stop_decides_as_in_one_process(tmp_path):
    """A question lies whole with one worker, and what a former call drew is counted first."""
    config = drawing(paths=4, stop="window:2")
    a = alone(tmp_path / "a", config)
    b = together(tmp_path / "b", config)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert a.stopped == b.stopped == len(QUESTIONS)
    assert (b.cancelled, b.never_drawn) == (a.cancelled, a.never_drawn)
    again = together(tmp_path / "b", config)
    assert again.new_paths == 0 and again.stopped == b.stopped


def test_stop_counts_the_ballots_of_an_interrupted_call(tmp_path):
    first = drawing(paths=1, stop="window:2")
    together(tmp_path, first)
    second = drawing(paths=4, stop="window:2")
    assert together(tmp_path, second).new_paths == len(QUESTIONS)  # the second one agrees


def test_nothing_to_do_needs_no_worker(tmp_path):
    config = drawing(paths=2)
    together(tmp_path, config)
    crew = ThreadCrew(SCRIPT, config)
    assert together(tmp_path, config, crew).new_paths == 0
    assert crew.started == 0


def test_an_engine_that_fails_ends_the_run_with_its_words(tmp_path):
    config = drawing(paths=2)
    broken = {k: v for k, v in SCRIPT.items() if k != "q3"}
    with pytest.raises(LmsiError, match="KeyError: 'q3'"):
        together(tmp_path, config, ThreadCrew(broken, config))


def test_workers_that_only_die_end_the_run(tmp_path):
    config = drawing(paths=2)
    crew = ThreadCrew(SCRIPT, config, deadly=SCRIPT, workers=2)
    with pytest.raises(LmsiError, match="one after another"):
        together(tmp_path, config, crew)


def test_what_waits_at_a_worker_is_bounded(tmp_path, monkeypatch):
    """A worker whose reports nobody fetches stops drawing."""
    from lmsi_cli.cluster import worker as module
    from lmsi_cli.cluster.wire import Asked, Order, Start

    monkeypatch.setattr(module, "UNFETCHED", 5)
    drawn = []

    class Counting(ScriptedEngine):
        def generate(self, *args):
            for g in super().generate(*args):
                drawn.append(g)
                yield g

    config = drawing(paths=4)
    worker = module.Worker(Counting(SCRIPT), config)
    worker.start(Start(task=TASK, shown=(), paths=80))
    asked = tuple(Asked(id=q.id, question=q.question, paths=(0, 1, 2, 3)) for q in QUESTIONS)
    report = worker.trade([Order(number=0, questions=asked)], 1.0, 0.0)
    import time

    time.sleep(0.2)
    assert len(drawn) <= 5 + 1 + len(report.paths)
    seen = len(report.paths)
    while not report.ended:
        report = worker.trade([], 1.0, 0.01)
        seen += len(report.paths)
    assert seen == len(drawn) == 80
    worker.close()
