"""A real Ray of three nodes: a worker dies, a node, then the driver; the run goes on."""

import contextlib
import ipaddress
import json
import os
import signal
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import forked
import psutil
import pytest
from commands import whole_lines

from lmsi_cli.run_folder import RunDir

pytestmark = [
    pytest.mark.ray,
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install '.[ray]'"),
]
ROOT = Path(__file__).parent.parent
QUESTIONS, PATHS = 24, 12
ARGS = ["--max-tokens", 32, "--set", "kv=split", "--seed", 3, "--threads", 1, "-q"]
INTERRUPTED = 130


@pytest.fixture(scope="module")
def cluster():
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
    file, some = tmp_path / "questions.txt", range(3, 3 + QUESTIONS)
    file.write_text("".join(f"Tom has {i} apples and buys {i + 2} more. How many?\n" for i in some))
    return file


def begin(*args):
    """Start a command; signals go to it and what it starts, as a terminal's do."""
    return forked.python("-m", "lmsi_cli", *args, start_new_session=True)


def paths_in(folder):
    """The paths that are there by now, in the order of their keys."""
    paths = map(json.loads, whole_lines(RunDir(folder).paths))
    return sorted(paths, key=lambda p: (p["question_id"], p["path"]))


def wait_for(what, seconds=100):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def workers():
    """Processes below this one that hold a model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [process] if "ray::Worker" in " ".join(process.cmdline()) else []
    return found


def test_a_worker_a_node_and_the_driver_die_and_nothing_is_lost_or_twice(
    cluster, questions, tmp_path
):
    out, alone = tmp_path / "out", tmp_path / "alone"
    asked = ["sample", questions, "-n", PATHS, *ARGS]
    spread = [*asked, "-o", out, "--cluster", cluster.address]
    driver = begin(*spread)
    try:
        wait_for(lambda: paths_in(out) or driver.poll() is not None)
    finally:
        driver.kill()
        driver.communicate()
    wait_for(lambda: not workers(), 60)  # they end with their driver, also one that is killed
    begun = len(paths_in(out))

    with begin(*spread) as again:
        wait_for(lambda: len(paths_in(out)) > begun or again.poll() is not None)
        workers()[0].kill()
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        there = len(paths_in(out))
        told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    with begin(*asked, "-o", alone) as process:
        assert process.communicate(timeout=300) and process.returncode == 0
    assert 0 < begun < there < len(paths_in(out)) == QUESTIONS * PATHS
    # in a split cache a path's bits do not depend on what else runs
    assert paths_in(out) == paths_in(alone)


def test_a_mistake_at_a_worker_is_one_line(cluster):
    code = f"""
from lmsi_cli.cluster import Pool, WorkerSetup, connected
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
settings = SampleConfig(cluster={cluster.address!r}, threads=1, workers=1)
with connected(settings) as (ray, room):
    try:
        Pool(ray, WorkerSetup({{"/nowhere/m.gguf": "aa"}}, settings, None, ()), room).ready()
    except LmsiError as e:
        print(e, "|", e.hint)
"""
    told, trouble = forked.python("-c", code).communicate()
    assert "/nowhere/m.gguf: no such file | every machine needs it at" in told, trouble


def listening(processes):
    """Addresses at which any of these takes connections."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            inet = process.net_connections("inet")
            found |= {c.laddr.ip.removeprefix("::ffff:") for c in inet if c.status == "LISTEN"}
    return found


def test_ctrl_c_ends_a_local_cluster_with_the_command(questions, tmp_path):
    local = ["-o", tmp_path / "out", "--cluster", "local", "--set", "workers=2"]
    driver = begin("sample", questions, "-n", 100, *ARGS, *local)
    try:
        wait_for(lambda: paths_in(tmp_path / "out") or driver.poll() is not None)
        here = psutil.Process(driver.pid)
        processes = here.children(recursive=True)
        addresses = listening([here, *processes])
        os.killpg(driver.pid, signal.SIGINT)
        told = driver.communicate(timeout=120)[1]
    finally:
        driver.kill()
    assert driver.returncode == INTERRUPTED, told
    assert "Traceback" not in told
    assert addresses and all(ipaddress.ip_address(ip).is_loopback for ip in addresses)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
