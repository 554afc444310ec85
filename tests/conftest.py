"""Shared by all tests: the embedded model, a cache folder of their own, and a silent watcher."""

import os
import signal
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import broken_models
import forked
import pytest
from builders import Watcher
from hypothesis import HealthCheck, settings

from lmsi_cli import aside

# A machine busy with something else is no failure: an example takes what it takes.
SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("patient", max_examples=50, **SLOWLY)
settings.load_profile("patient")
# A shell's background jobs ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Processes that train are forked from one that has PyTorch, which takes seconds to import.
aside.multiprocessing = SimpleNamespace(get_context=lambda _: forked.CONTEXT)


def pytest_configure():
    """Give each of several test processes its own cores: threads of two that spin on one starve."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        own = cores[int(worker.removeprefix("gw")) % count :: count]
        os.sched_setaffinity(0, own or cores)


def pytest_collection_modifyitems(items):
    """Put the files with the most slow tests first: a long one at the end is waited for alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what lmsi remembers of this machine out of the user's home."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("LMSI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """No call that the user did not ask for: from this process only this machine is reached."""
    connect = socket.socket.connect

    def guarded(self, address):
        stream = self.family != socket.AF_UNIX and self.type == socket.SOCK_STREAM
        if stream and not str(address[0]).startswith(("127.", "localhost", "::1")):
            pytest.fail(f"a connection to {address}")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def gguf():
    return Path(__file__).parents[1] / "models" / "tinymath" / "tinymath-f16.gguf"


@pytest.fixture(scope="session")
def one_block(gguf, tmp_path_factory):
    """The embedded model's first block: it writes nonsense, but at once."""
    return broken_models.relabelled(gguf, tmp_path_factory.mktemp("models") / "one.gguf")


@pytest.fixture(scope="module")
def engine(gguf):
    """llama.cpp with the embedded model, on one thread: two would spin on a busy machine."""
    from lmsi_cli.config import EngineConfig
    from lmsi_cli.engine.engine import LlamaEngine

    with LlamaEngine(gguf, EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture
def aside_here(monkeypatch):
    """Training in this process, and not in one of its own, where nobody could listen."""

    def run(work, *given, progress, name):
        return work(*given, progress=progress)

    monkeypatch.setattr(aside, "run", run)


@pytest.fixture
def watcher():
    return Watcher()
