"""A real Ray cluster of three nodes: one is killed, then the driver; the run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from lmsi_cli.rundir import RunDir

pytestmark = [pytest.mark.ray, pytest.mark.model]
ROOT = Path(__file__).parent.parent.parent
QUESTIONS = 40
PATHS = 24  # Ray takes some seconds to notice a death; the run has to take longer
ARGS = ["-n", PATHS, "--max-tokens", 32, "--kv", "split", "--seed", 3]
TERMINATED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="needs Ray: pip install 'lmsi[ray]'")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as m:
        warnings.simplefilter("ignore")
        m.setenv("PYTHONPATH", str(ROOT))
        m.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        found = Cluster(True, head_node_args={**node, "include_dashboard": False})
        try:
            found.nodes = [found.add_node(**node, wait=False) for _ in range(2)]
            found.wait_for_nodes()
            yield found
        finally:
            found.shutdown()


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.jsonl"
    lines = [
        {"id": f"q{i}", "question": f"Tom has {i + 3} apples and buys {i + 5} more. How many now?"}
        for i in range(QUESTIONS)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def command(*args):
    return [sys.executable, "-m", "lmsi_cli", *map(str, args)]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def begin(*args):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*args), env=environment(), **pipes)


def run(*args):
    return subprocess.run(
        command(*args), env=environment(), capture_output=True, text=True, check=False, timeout=100
    )


def paths_in(folder):
    file = RunDir(folder).paths
    if not file.exists():
        return []
    return [json.loads(x) for x in file.read_bytes().splitlines(True) if x.endswith(b"\n")]


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def actors():
    """Worker processes below this one that hold a model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found += [process.pid] if "ray::Drawer" in " ".join(process.cmdline()) else []
        except psutil.Error:
            continue
    return found


def test_a_node_dies_then_the_driver_and_nothing_is_lost_or_twice(cluster, questions, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    asked = ["sample", questions, *ARGS]
    spread = [*asked, "-o", out, "--cluster", cluster.address, "--worker-threads", 1]

    driver = begin(*spread)
    try:
        wait_for(lambda: paths_in(out))
        assert actors()
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        wait_for(lambda: "is gone" in RunDir(out).status.read_text())
        assert driver.poll() is None
    finally:
        driver.kill()
        driver.communicate()
    assert len(paths_in(out)) < QUESTIONS * PATHS
    wait_for(lambda: not actors(), 30)  # no detached ones stay behind

    done = run(*spread)
    assert done.returncode == 0, done.stderr
    assert run(*asked, "-o", alone, "--threads", 1, "-q").returncode == 0
    ours, theirs = (
        sorted(paths_in(f), key=lambda p: (p["question_id"], p["path"])) for f in (out, alone)
    )
    assert len(ours) == QUESTIONS * PATHS
    assert ours == theirs  # in a split cache a path's bits do not depend on what else runs
    assert not (set(settings_of(out)) ^ set(settings_of(alone)))
    assert not actors()


def settings_of(folder):
    """What a run is tied to, as text."""
    from lmsi_cli.stages.sample import FREE

    return [
        f"{k}={v}" for k, v in RunDir(folder).load_settings()["sample"].items() if k not in FREE
    ]


def test_a_worker_with_another_lmsi_is_refused_before_any_work(cluster, tmp_path):
    """Also one without the model, and without lmsi: what `ready` says in a real actor."""
    code = f"""
import sys, msgspec
from lmsi_cli.cluster.crew import RayCrew
from lmsi_cli.cluster.reaching import Room, Wish, load_ray, reached
from lmsi_cli.cluster.wire import Job
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from importlib.metadata import version
ray = load_ray()
with reached(Wish({cluster.address!r}, 1, 1)) as room:
    for lmsi, model in (("9.9.9", "m.gguf"), (version("lmsi"), "/nowhere/m.gguf")):
        job = Job(model=model, model_sha256="aa", settings=SampleConfig(), lmsi=lmsi)
        with RayCrew(ray, job, room, False, print) as crew:
            try:
                crew.chat()
            except LmsiError as e:
                print(e, "|", e.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    versions, missing = done.stdout.splitlines()
    assert "is installed there, 9.9.9 here | on that machine: pip install" in versions
    assert "/nowhere/m.gguf: no such file | every machine needs the file" in missing


def test_sigterm_ends_a_local_cluster_with_the_command(questions, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'lmsi[ray]'")
    spread = ["sample", questions, *ARGS, "-o", tmp_path / "out", "--cluster", "local"]
    driver = begin(*spread, "--workers", 2, "--worker-threads", 1)
    try:
        wait_for(lambda: paths_in(tmp_path / "out"), 80)
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGTERM)
        driver.wait(10)
    finally:
        driver.kill()
        told = driver.communicate()[1]
    assert driver.returncode == TERMINATED, told
    assert told.count("terminated; what was finished is saved") == 1
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
