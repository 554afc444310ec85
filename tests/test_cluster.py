"""What workers of a cluster draw, without one: scripted engines, and a Ray that is a few lists."""

import signal
import socket
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from lmsi_cli import cluster
from lmsi_cli.cluster import Lacking, Pool, Room, Worker, WorkerSetup, open_engine, shown_of
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Exemplar, Question, Silent, Template
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.stages.sample import bind, sample_in_pool
from tests.scripted import ScriptedEngine
from tests.stages.stage_helpers import IDENTITY, TASK, formed, sampled, settled

QUESTIONS = [Question(id=f"q{i}", question=f"What is {i} + {i}?", answer="g0ld") for i in range(20)]
SCRIPT = {
    q.id: [f" The answer is {i}.", f" So {i}. The answer is {i}.", " The answer is 99.", " Who?"]
    for i, q in enumerate(QUESTIONS)
}
OTHER = Exemplar(question="1 + 1?", rationale="1 + 1 = 2.", answer="2")
TEMPLATES = tuple(Template(exemplars=e) for e in (TASK.exemplars, (OTHER,)))
ROTATING = msgspec.structs.replace(TASK, templates=TEMPLATES)


def remote(call):
    """Something of Ray's that is called by ``remote``."""
    made = SimpleNamespace(remote=call)
    made.options = lambda **_how: made
    return made


class FakeRay:
    """Actors of this process; one that draws the deadly question dies, as Ray tells it."""

    exceptions = SimpleNamespace(RayError=ConnectionError, RayTaskError=())

    def __init__(self, deadly=None):
        self.deadly = deadly

    def remote(self, kind):
        return remote(lambda setup: SimpleNamespace(draw=remote(partial(self._draw, kind(setup)))))

    def _draw(self, worker, batch):
        for result in worker.draw(batch):
            if result.question_id == self.deadly:
                yield ConnectionError("The actor died\n unexpectedly")
                return
            yield result

    def wait(self, calls, timeout):
        return calls[-1:], calls[:-1]  # the latest first: order must not matter

    def get(self, result):
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self, actor):
        """An idle one; nothing to free."""


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """What a worker opens."""
    made = ScriptedEngine(SCRIPT)
    monkeypatch.setattr(cluster, "open_engine", lambda setup: made)
    return made


def alone(root, config, task=TASK):
    return sampled(root, config, questions=QUESTIONS, engine=ScriptedEngine(SCRIPT), task=task)


def together(root, config, task=TASK, deadly=None, questions=QUESTIONS, progress=None):
    run, config = RunDir(root), settled(config)
    bind(run, config, IDENTITY)
    setup = WorkerSetup({"m": ""}, config, formed(task, config), shown_of(questions))
    pool = Pool(FakeRay(deadly), setup, Room(1, 3))
    return sample_in_pool(questions, pool, config, run, progress or Silent())


def lines(root):
    return sorted(RunDir(root).paths.read_text().splitlines())


COUNTS = attrgetter("paths", "new_paths", "parsed", "tokens", "stopped", "cancelled", "never_drawn")


@pytest.mark.parametrize(
    ("task", "prompt", "stop"), [(TASK, "cot-zero", "none"), (ROTATING, "cot-few", "window:2")]
)
def test_workers_draw_what_one_process_draws(tmp_path, prompt, task, stop):
    config = SampleConfig(paths=4, prompt=prompt, stop=stop)
    a, b = RunDir(tmp_path / "a"), RunDir(tmp_path / "b")
    assert COUNTS(alone(a.root, config, task)) == COUNTS(together(b.root, config, task))
    assert lines(a.root) == lines(b.root)
    assert a.questions.read_bytes() == b.questions.read_bytes()
    assert a.run_toml.read_bytes() == b.run_toml.read_bytes()
    assert b"g0ld" not in b.questions.read_bytes()
    assert together(b.root, config, task).new_paths == 0
    grown = tmp_path / "grown"  # what a former call drew counts
    together(grown, msgspec.structs.replace(config, paths=1), task)
    assert together(grown, config, task).new_paths
    assert lines(a.root) == lines(grown)


def test_a_worker_that_only_dies_ends_the_run_and_what_came_is_kept(tmp_path):
    with pytest.raises(LmsiError, match="a worker died again and again: The actor died unexpected"):
        together(tmp_path, SampleConfig(paths=4), deadly="q7")
    assert 0 < len(lines(tmp_path)) < 80
    assert together(tmp_path, SampleConfig(paths=4)).paths == len(set(lines(tmp_path))) == 80


def test_a_question_that_does_not_fit_is_named_and_the_others_are_done(tmp_path, watcher):
    long = Question(id="long", question="Why? " * 900)
    questions = [QUESTIONS[0], long, *QUESTIONS[1:]]
    summary = together(tmp_path, SampleConfig(paths=2), questions=questions, progress=watcher)
    assert (summary.skipped, summary.paths) == (("long",), 40)
    assert any("'long'" in line and "do not fit" in line for line in watcher.said)


def test_workers_fit_machines_and_not_their_sum():
    def room(nodes, address="auto", **settings):
        return cluster.room_of(SampleConfig(cluster=address, **settings), nodes)

    cpus = [{"CPU": 4}, {"CPU": 6, "GPU": 1}, {"CPU": 64}, {}]
    nodes = [{"Alive": own != {"CPU": 64}, "Resources": own} for own in cpus]
    assert room(nodes) == Room(4, 2)
    assert room(nodes, threads=2, workers=3) == Room(2, 3)
    assert room(nodes[:1], "local", workers=2) == Room(2, 2)
    assert room(nodes, threads=2, gpu_layers="all") == Room(2, 1, 1)
    with pytest.raises(LmsiError, match="no machine there has 16 CPUs for a worker"):
        room(nodes, threads=16)


@pytest.mark.parametrize("address", ["host:x", "127.0.0.1:{free}"])
def test_nobody_answers(address):
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = SampleConfig(cluster=address.format(free=server.getsockname()[1]))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(LmsiError, match="no Ray cluster"), cluster.connected(asked):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_draws_all_its_batches_in_the_kind_of_cache_of_the_first(engine):
    engine.settled, pinned = {"kv": "split", "flash_attn": "on", "parallel": 3}, []
    engine.pin = pinned.append
    config = settled(SampleConfig(paths=2))
    worker = Worker(WorkerSetup({"m": ""}, config, formed(TASK, config), ()))
    assert len([*worker.draw([Lacking(QUESTIONS[0], (0, 1))])]) == 2
    assert pinned == [{"kv": "split", "flash_attn": "on"}]


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
