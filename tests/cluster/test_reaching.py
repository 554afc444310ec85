"""What a user meets before a cluster works: one line each, and what to type."""

import os
import signal
import socket
import sys
import threading

import pytest

from lmsi_cli.cluster.reaching import (
    LOOPBACK,
    QUIET,
    Room,
    Wish,
    _connect,
    _own_signals,
    _refused,
    check_address,
    load_ray,
    room,
)
from lmsi_cli.cluster.serving import open_worker
from lmsi_cli.cluster.wire import Job, sent
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.rundir import sha256_file


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LmsiError, match="--cluster needs Ray") as e:
        load_ray()
    assert e.value.hint == 'pip install "lmsi[ray]"'


def test_ray_is_told_to_keep_to_itself_before_it_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", object())
    for name in (*QUIET, *LOOPBACK):
        monkeypatch.setenv(name, "so")
        monkeypatch.delenv(name)
    load_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not set(LOOPBACK) & set(
        os.environ
    )  # a cluster of several machines needs their addresses
    load_ray(local=True)
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_local_ray_that_does_not_start_is_one_line(tmp_path):
    class Broken:
        def init(self, **_):
            raise Exception("The current node timed out\n during startup. " + "x" * 900)

    with pytest.raises(
        LmsiError, match="local: Ray does not start: The current node timed out"
    ) as e:
        _connect(Broken(), Wish("local"), tmp_path)
    assert "\n" not in str(e.value) and len(str(e.value)) < 300
    assert "TMPDIR" in e.value.hint


@pytest.mark.parametrize("address", ["somewhere", "h:0", "h:70000", "http://h:80", "h:x", "a b:1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(LmsiError, match="expected local, auto"):
        check_address(address)


def test_a_ray_client_is_refused_with_the_reason():
    with pytest.raises(LmsiError, match="cannot hold workers") as e:
        check_address("ray://head:10001")
    assert "--cluster auto" in e.value.hint


@pytest.mark.parametrize(
    ("says", "told"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "something else does"), (b"", "something else does")],
)
def test_something_else_answers(says, told):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            wire, _ = server.accept()
            with wire:
                wire.recv(100)
                wire.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LmsiError, match=f"no Ray cluster answers there: {told}"):
            check_address(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LmsiError, match="no Ray cluster answers there: Connection refused"):
        check_address(f"127.0.0.1:{port}")


def test_a_host_that_does_not_exist():
    with pytest.raises(LmsiError, match="no Ray cluster answers there"):
        check_address("no-such-host.invalid:6379")


@pytest.mark.ray
def test_other_versions_are_told_in_one_line():
    """In the words of the Ray that is installed."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'lmsi[ray]'")
    from ray._private.utils import check_version_info

    with pytest.raises(RuntimeError) as e:
        check_version_info({"ray_version": "2.0.1", "python_version": "3.8.9"}, "here")
    told = _refused("head:6379", str(e.value))
    assert "the cluster has Ray 2.0.1 and Python 3.8.9, here are " in str(told)
    assert "\n" not in str(told)
    assert "same versions" in told.hint


def test_rays_long_complaints_become_one_line():
    told = str(_refused("head:6379", "This node\n  has no raylet " + "x" * 900))
    assert "\n" not in told and len(told) < 300


def test_workers_fit_machines_and_not_their_sum():
    nodes = [node(CPU=4), node(CPU=6), node(alive=False, CPU=64), node()]
    assert room(Wish("auto"), nodes) == Room(4, 2)
    assert room(Wish("auto", threads=2), nodes) == Room(2, 5)
    assert room(Wish("auto", threads=2, workers=3), nodes) == Room(2, 3)
    assert room(Wish("auto", threads=2, workers=99), nodes) == Room(2, 5)


def test_a_worker_with_layers_on_a_gpu_has_one():
    nodes = [node(CPU=8, GPU=2), node(CPU=8)]
    assert room(Wish("auto", threads=2, gpu=True), nodes) == Room(2, 2)
    with pytest.raises(LmsiError, match="2 CPUs and a GPU") as e:
        room(Wish("auto", threads=2, gpu=True), nodes[1:])
    assert "--gpu-layers" in e.value.hint


def test_no_machine_is_large_enough():
    with pytest.raises(LmsiError, match="no machine there has 16 CPUs") as e:
        room(Wish("auto", threads=16), [node(CPU=8)] * 4)
    assert e.value.hint == "lower --worker-threads"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_stays_lmsis_own():
    def own(*_):
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with _own_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def job(**changed):
    fields = {"model": "m.gguf", "model_sha256": "aa", "settings": SampleConfig(), "lmsi": "1"}
    return sent(Job(**{**fields, **changed}))


def test_a_machine_without_the_model_says_so(tmp_path):
    worker, told = open_worker(job(model=str(tmp_path / "m.gguf")))
    assert worker is None
    assert b"m.gguf: no such file" in told and b"shared disk" in told


def test_a_machine_with_another_file_of_that_name_says_so(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF other")
    worker, told = open_worker(job(model=str(tmp_path / "m.gguf")))
    assert worker is None
    assert b"another file than the driver's" in told


def test_a_machine_with_another_adapter_says_so(gguf, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF other")
    files = {"model": str(gguf), "model_sha256": sha256_file(gguf)}
    worker, told = open_worker(job(**files, adapter=str(tmp_path / "a.gguf"), adapter_sha256="aa"))
    assert worker is None
    assert b"a.gguf: another file" in told


def test_a_machine_without_llama_cpp_python_says_so(gguf, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    worker, told = open_worker(job(model=str(gguf), model_sha256=sha256_file(gguf)))
    assert worker is None
    assert b"llama-cpp-python does not load" in told and b"pip install llama-cpp-python" in told
