"""What workers of a cluster draw, without one: scripted engines, and a Ray that is a few lists."""

import signal
import socket
from pathlib import Path

import pytest

from lmsi_cli.cluster import (
    Lacking,
    Pool,
    Room,
    Worker,
    WorkerSetup,
    connected,
    open_engine,
    room_of,
    shown_of,
)
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Exemplar, Question, Template
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.stages.sample import bind, sample, sample_in_pool
from tests.scripted import ScriptedEngine
from tests.stages.stage_helpers import IDENTITY, TASK, Silent, formed, settled

QUESTIONS = [Question(id=f"q{i}", question=f"What is {i} + {i}?", answer="g0ld") for i in range(20)]
SCRIPT = {
    q.id: [f" The answer is {i}.", f" So {i}. The answer is {i}.", " The answer is 99.", " Who?"]
    for i, q in enumerate(QUESTIONS)
}
OTHER = Exemplar(question="1 + 1?", rationale="1 + 1 = 2.", answer="2")
ROTATING = TASK.__class__(
    name="number",
    kind="number",
    exemplars=TASK.exemplars,
    templates=(Template(exemplars=TASK.exemplars), Template(exemplars=(OTHER,))),
)


def worker_with(engine, setup):
    """A worker that has opened this engine."""
    worker = Worker(setup)
    worker._engine = engine
    return worker


class FakeRay:
    """Actors of this process; one that draws a deadly question dies, as Ray tells it."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def __init__(self, script, deadly=()):
        self.script, self.deadly, self.killed = script, set(deadly), 0

    def remote(self, _kind):
        return self

    def options(self, **_how):
        return Made(lambda setup: Actor(self, worker_with(ScriptedEngine(self.script), setup)))

    def wait(self, calls, timeout):
        return calls[-1:], calls[:-1]  # the latest first: order must not matter

    def get(self, result):
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self, _actor):
        self.killed += 1


class Made:
    """Something with ``remote``."""

    def __init__(self, call):
        self.remote = call

    def options(self, **_how):
        return self


class Actor:
    """A worker as Ray shows it."""

    def __init__(self, ray, worker):
        self.draw = Made(lambda batch: self._results(ray, worker, batch))
        self.ready = Made(worker.ready)

    @staticmethod
    def _results(ray, worker, batch):
        for result in worker.draw(batch):
            if result.question_id in ray.deadly:
                yield ray.exceptions.RayError("The actor died\n unexpectedly")
                return
            yield result


def drawing(**own):
    return settled(SampleConfig(**own))


def alone(root, config, questions=QUESTIONS, task=TASK):
    run = RunDir(root)
    bind(run, config, IDENTITY)
    return sample(questions, ScriptedEngine(SCRIPT), formed(task, config), config, run, Silent())


def together(root, config, ray=None, questions=QUESTIONS, progress=None, task=TASK):
    run, task = RunDir(root), formed(task, config)
    bind(run, config, IDENTITY)
    setup = WorkerSetup({"m": ""}, config, task, shown_of(questions))
    pool = Pool(ray or FakeRay(SCRIPT), setup, Room(1, 3))
    return sample_in_pool(questions, pool, config, run, progress or Silent())


def lines(root):
    return sorted(RunDir(root).paths.read_text().splitlines())


@pytest.mark.parametrize(
    ("task", "prompt", "stop"), [(TASK, "cot-zero", "none"), (ROTATING, "cot-few", "window:2")]
)
def test_workers_draw_what_one_process_draws(tmp_path, prompt, task, stop):
    config = drawing(paths=4, prompt=prompt, stop=stop)
    a = alone(tmp_path / "a", config, task=task)
    b = together(tmp_path / "b", config, task=task)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    for name in ("questions", "run_toml"):
        files = [getattr(RunDir(tmp_path / x), name).read_bytes() for x in "ab"]
        assert files[0] == files[1]
    assert (a.paths, a.new_paths, a.parsed, a.tokens) == (b.paths, b.new_paths, b.parsed, b.tokens)
    assert (a.stopped, a.cancelled, a.never_drawn) == (b.stopped, b.cancelled, b.never_drawn)
    assert b"g0ld" not in RunDir(tmp_path / "b").questions.read_bytes()
    assert together(tmp_path / "b", config, task=task).new_paths == 0


def test_what_a_former_call_drew_counts(tmp_path):
    alone(tmp_path / "a", drawing(paths=4, stop="window:2"))
    together(tmp_path / "b", drawing(paths=1, stop="window:2"))
    assert together(tmp_path / "b", drawing(paths=4, stop="window:2")).new_paths
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_a_worker_that_only_dies_ends_the_run_and_what_came_is_kept(tmp_path):
    with pytest.raises(LmsiError, match="a worker died again and again: The actor died unexpected"):
        together(tmp_path, drawing(paths=4), FakeRay(SCRIPT, deadly=["q7"]))
    assert 0 < len(lines(tmp_path)) < 80
    assert together(tmp_path, drawing(paths=4)).paths == len(set(lines(tmp_path))) == 80


def test_a_question_that_does_not_fit_is_named_and_the_others_are_done(tmp_path, watcher):
    long = Question(id="long", question="Why? " * 900)
    questions = [QUESTIONS[0], long, *QUESTIONS[1:]]
    summary = together(tmp_path, drawing(paths=2), questions=questions, progress=watcher)
    assert (summary.skipped, summary.paths) == (("long",), 40)
    assert any("'long'" in line and "do not fit" in line for line in watcher.said)


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


def test_workers_fit_machines_and_not_their_sum():
    nodes = [node(CPU=4), node(CPU=6, GPU=1), node(alive=False, CPU=64), node()]
    assert room_of(SampleConfig(cluster="auto"), nodes) == Room(4, 2)
    assert room_of(SampleConfig(cluster="auto", threads=2, workers=3), nodes) == Room(2, 3)
    assert room_of(SampleConfig(cluster="local", workers=2), nodes[:1]) == Room(2, 2)
    assert room_of(SampleConfig(cluster="auto", threads=2, gpu_layers="all"), nodes).workers == 1
    with pytest.raises(LmsiError, match="no machine there has 16 CPUs for a worker"):
        room_of(SampleConfig(cluster="auto", threads=16), nodes)


@pytest.mark.parametrize("address", ["host:x", "127.0.0.1:{free}"])
def test_nobody_answers(address):
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(free=server.getsockname()[1])
    before = signal.getsignal(signal.SIGTERM)
    asked = SampleConfig(cluster=address)
    with pytest.raises(LmsiError, match="no Ray cluster answers there"), connected(asked):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


class Settled(ScriptedEngine):
    """An engine that has settled on a kind of cache."""

    settled = {"kv": "split", "flash_attn": "on", "parallel": 3}  # noqa: RUF012 - never changed

    def pin(self, kind):
        self.pinned = kind


def test_a_worker_draws_all_its_batches_in_the_kind_of_cache_of_the_first():
    engine = Settled(SCRIPT)
    config = settled(SampleConfig(paths=2))
    worker = worker_with(engine, WorkerSetup({"m": ""}, config, formed(TASK, config), ()))
    assert len([*worker.draw([Lacking(QUESTIONS[0], (0, 1))])]) == 2
    assert engine.pinned == {"kv": "split", "flash_attn": "on"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lmsi": "9.9"}, "is installed there, 9.9 here"),
        ({"files": {"/nowhere/m.gguf": "aa"}}, "/nowhere/m.gguf: no such file"),
        ({"files": {__file__: "aa"}}, "another file than the driver's"),
    ],
)
def test_a_machine_that_cannot_work_says_so(change, told):
    setup = WorkerSetup({__file__: sha256_file(Path(__file__))}, SampleConfig(), TASK, ())
    with pytest.raises(LmsiError, match=f"^on .*{told}"):
        open_engine(setup._replace(**change))
