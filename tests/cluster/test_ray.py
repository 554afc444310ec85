"""A real Ray cluster of three nodes: one is killed, then the driver; the run goes on."""

import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from lmsi_cli.cluster.scratch import sweep
from lmsi_cli.rundir import RunDir

pytestmark = [pytest.mark.ray, pytest.mark.model]
ROOT = Path(__file__).parent.parent.parent
QUESTIONS = 24  # together 288 paths: twice what three workers hold, with two blocks each
PATHS = 12
ARGS = ["-n", PATHS, "--max-tokens", 32, "--kv", "split", "--seed", 3]
INTERRUPTED, TERMINATED = 130, 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="needs Ray: pip install 'lmsi[ray]'")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as m:
        warnings.simplefilter("ignore")
        m.setenv("PYTHONPATH", str(ROOT))
        m.setenv("RAY_USAGE_STATS_ENABLED", "0")
        m.setenv("RAY_worker_niceness", "0")
        m.setenv("RAY_health_check_period_ms", "500")  # a dead node is one after 13 s otherwise;
        m.setenv("RAY_health_check_failure_threshold", "3")  # one that is slow has 10 s each time
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        bare = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        found = Cluster(True, head_node_args={**node, **bare})
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


def begin(*args, told=subprocess.PIPE):
    pipes = {"stdout": subprocess.PIPE, "stderr": told, "text": True}
    own = {"start_new_session": True}  # signals go to it and what it starts, as a terminal's do
    return subprocess.Popen(command(*args), env=environment(), **pipes, **own)


def run(*args):
    return subprocess.run(
        command(*args), env=environment(), capture_output=True, text=True, check=False, timeout=100
    )


def paths_in(folder):
    file = RunDir(folder).paths
    if not file.exists():
        return []
    return [json.loads(x) for x in file.read_bytes().splitlines(True) if x.endswith(b"\n")]


def wait_for(what, seconds=100):
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

    log = tmp_path / "log"
    with log.open("w") as told:
        driver = begin(*spread, told=told)
    try:
        wait_for(lambda: paths_in(out))
        assert actors()
        driver.send_signal(signal.SIGSTOP)  # else a fast machine is through before Ray has noticed
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        cluster.wait_for_nodes()
        driver.send_signal(signal.SIGCONT)
        wait_for(lambda: "is gone" in log.read_text())
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
        with RayCrew(ray, job, room, Wish({cluster.address!r}), print) as crew:
            try:
                crew.ready()
            except LmsiError as e:
                print(e, "|", e.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    versions, missing = done.stdout.splitlines()
    assert "is installed there, 9.9.9 here | on that machine: pip install" in versions
    assert "/nowhere/m.gguf: no such file | every machine needs the file" in missing


def test_ctrl_c_is_one_line_and_leaves_no_worker(cluster, questions, tmp_path):
    out = tmp_path / "out"
    asked = ["sample", questions, "-n", 500, *ARGS[2:], "-o", out, "-q"]
    driver = begin(*asked, "--cluster", cluster.address, "--worker-threads", 1)
    try:
        wait_for(lambda: paths_in(out))
        os.killpg(driver.pid, signal.SIGINT)
        told = driver.communicate(timeout=20)[1]
    finally:
        driver.kill()
    assert driver.returncode == INTERRUPTED
    assert told == "interrupted; what was finished is saved, the same command goes on\n"
    wait_for(lambda: not actors(), 20)
    assert paths_in(out)


def listening(processes):
    """Addresses at which any of these takes connections."""
    found = set()
    for process in processes:
        try:
            inet = process.net_connections("inet")
        except psutil.Error:
            continue
        found |= {ipaddress.ip_address(c.laddr.ip) for c in inet if c.status == "LISTEN"}
    return {ip.ipv4_mapped or ip if ip.version == 6 else ip for ip in found}


def folder_of(processes):
    """The folder that Ray was told to live in."""
    told = " ".join(word for p in processes if p.is_running() for word in p.cmdline())
    return Path(re.search(r"=(/\S*?lmsi-ray-\w+)", told)[1])


def test_sigterm_ends_a_local_cluster_with_the_command(questions, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'lmsi[ray]'")
    asked = ["sample", questions, "-n", 500, *ARGS[2:], "-o", tmp_path / "out"]
    spread = [*asked, "--cluster", "local"]
    driver = begin(*spread, "--workers", 2, "--worker-threads", 1)
    try:
        wait_for(lambda: paths_in(tmp_path / "out"))
        below = psutil.Process(driver.pid).children(recursive=True)
        folder, open_ = folder_of(below), listening([psutil.Process(driver.pid), *below])
        assert folder.is_dir()
        driver.send_signal(signal.SIGTERM)
        driver.wait(10)
    finally:
        driver.kill()
        told = driver.communicate()[1]
    assert driver.returncode == TERMINATED, told
    assert told.count("terminated; what was finished is saved") == 1
    assert open_ and all(ip.is_loopback for ip in open_), open_
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    sweep(folder.parent)  # as the next start does; it may have gone already
    assert not folder.exists()
