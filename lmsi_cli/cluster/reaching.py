"""Reaching a Ray cluster, or starting one on this machine, without a call nobody asked for.

Knows Ray and addresses; nothing of models. Usage statistics and the dashboard are off, Ray's own
handler of SIGTERM is put away again. A cluster that was started here listens on the loopback
address alone and ends with the process:

    with reached(Wish("local", threads=1, workers=2)) as room: ...   # -> Room(threads=1, workers=2)
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from lmsi_cli.cluster.scratch import clear, scratch
from lmsi_cli.errors import LmsiError

LOCAL, AUTO = "local", "auto"
STORE = 100 * 2**20  # bytes of Ray's object store: reports are small, and go through it at once
PATIENCE = 5.0  # seconds for a machine to answer at all
SETTINGS = 4  # the type of the frame that both sides of HTTP/2 begin with
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
ADDRESS = re.compile(r"^(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})\Z")
FORMS = "local, auto (the cluster that this machine belongs to) or HOST:PORT"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# "no cluster of several machines" is what makes Ray take the loopback address for its own; and its
# workers would yield to everything else that runs here, as one process of lmsi does not
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}


class Wish(NamedTuple):
    """What was asked for; 0 threads or workers: as many as there are."""

    address: str
    threads: int = 0
    workers: int = 0
    gpu: bool = False


class Room(NamedTuple):
    """What there is: CPUs for each worker, and how many workers."""

    threads: int
    workers: int


@contextmanager
def reached(wish: Wish) -> Iterator[Room]:
    """Connect; whatever happens, the workers end with it.

    Raises:
        LmsiError: Ray is not installed, nothing answers, versions differ, or there is no room.
    """
    check_address(wish.address)
    local = wish.address == LOCAL
    ray = load_ray(local)
    with scratch() if local else nullcontext() as folder:
        try:
            with _own_signals():
                _connect(ray, wish, folder)
            yield room(wish, ray.nodes())
        except KeyboardInterrupt:  # the process may be ended before Ray is through
            if folder is not None:
                clear(folder)
            raise
        finally:
            ray.shutdown()


def load_ray(local: bool = False) -> Any:  # noqa: ANN401 - a module
    """Import Ray, told to keep to itself; it reads what it is told when it is first imported.

    Args:
        local: For a cluster on this machine alone.

    Raises:
        LmsiError: It is not installed; the line to type.
    """
    os.environ.update({**QUIET, **LOOPBACK} if local else QUIET)
    try:
        import ray
    except ImportError as e:
        raise LmsiError(f"--cluster needs Ray: {e}", hint='pip install "lmsi[ray]"') from None
    return ray


def check_address(address: str) -> None:
    """Refuse what is no address, and a machine that does not answer, before anything is started.

    Raises:
        LmsiError: Says which of the two.
    """
    if address in (LOCAL, AUTO):
        return
    if address.startswith("ray://"):
        hint = "run lmsi on a machine of the cluster, with --cluster auto"
        raise LmsiError(f"--cluster {address}: a Ray Client cannot hold workers", hint)
    found = ADDRESS.match(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise LmsiError(f"--cluster {address}: expected {FORMS}")
    try:
        _greet(found["host"].strip("[]"), int(found["port"]))
    except OSError as e:
        raise _nobody(address, e.strerror or str(e)) from None


def _greet(host: str, port: int) -> None:
    """Ray's head speaks HTTP/2; of anything else Ray itself takes minutes to despair."""
    with socket.create_connection((host, port), PATIENCE) as wire:
        if os.environ.get("RAY_USE_TLS") == "1":
            return
        wire.sendall(PREFACE)
        frame = wire.recv(9, socket.MSG_WAITALL)
    if len(frame) < 9 or frame[3] != SETTINGS:
        raise OSError("something else does")


def _nobody(address: str, why: str) -> LmsiError:
    hint = "`ray start --head` on its first machine prints the address"
    return LmsiError(f"--cluster {address}: no Ray cluster answers there: {why}", hint)


def _connect(ray: Any, wish: Wish, folder: Path | None) -> None:  # noqa: ANN401 - a module
    common = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "lmsi"}
    if folder is not None:
        _begin(ray, wish, folder, common)
        return
    try:
        ray.init(address=wish.address, **common)
    except (RuntimeError, ConnectionError, ValueError, OSError) as e:
        raise _refused(wish.address, str(e)) from None


def _begin(ray: Any, wish: Wish, folder: Path, common: dict[str, Any]) -> None:  # noqa: ANN401
    """Start a cluster of this machine."""
    try:
        ray.init(
            address=LOCAL,
            num_cpus=wish.threads * wish.workers or _cores(),
            include_dashboard=False,
            object_store_memory=STORE,
            _temp_dir=str(folder),
            **common,
        )
    except Exception as e:  # so bare are those that Ray raises when it cannot start
        hint = f"it needs free memory, and room in {folder.parent} (or where TMPDIR says)"
        raise LmsiError(f"--cluster {LOCAL}: Ray does not start: {_line(str(e))}", hint) from e


def _refused(address: str, told: str) -> LmsiError:
    """Ray's own words in one line; its versions come in a table."""
    versions = re.findall(r"(?:Ray|Python): ([\w.]+)", told)
    if "ersion mismatch" in told and len(versions) == 4:
        cluster, here = versions[:2], versions[2:]
        return LmsiError(
            f"--cluster {address}: the cluster has Ray {cluster[0]} and Python {cluster[1]}, "
            f"here are {here[0]} and {here[1]}",
            hint="use the same versions of both on all machines",
        )
    return _nobody(address, _line(told))


def _line(told: str) -> str:
    return " ".join(told.split())[:200]


def room(wish: Wish, nodes: list[dict[str, Any]]) -> Room:
    """Count the workers that fit the machines.

    Args:
        wish: Without threads, a worker gets all CPUs of the smallest machine that has any.
        nodes: As ``ray.nodes()`` tells them.

    Raises:
        LmsiError: Not one fits.
    """
    cpus = [int(r.get("CPU", 0)) for r in _alive(nodes)]
    threads = wish.threads or min((c for c in cpus if c), default=1)
    fit = places(threads, wish.gpu, nodes)
    if not fit:
        card = " and a GPU" if wish.gpu else ""
        raise LmsiError(
            f"--cluster {wish.address}: no machine there has {threads} CPUs{card} for a worker",
            hint="lower --worker-threads" + (", or leave --gpu-layers out" if wish.gpu else ""),
        )
    return Room(threads, min(wish.workers or fit, fit))


def places(threads: int, gpu: bool, nodes: list[dict[str, Any]]) -> int:
    """How many workers of so many CPUs each, and perhaps a GPU, fit the machines that are alive."""
    return sum(_fit(resources, threads, gpu) for resources in _alive(nodes))


def _alive(nodes: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [n["Resources"] for n in nodes if n["Alive"]]


def _fit(resources: dict[str, float], threads: int, gpu: bool) -> int:
    by_cpu = int(resources.get("CPU", 0)) // threads
    return min(by_cpu, int(resources.get("GPU", 0))) if gpu else by_cpu


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it connects; lmsi's own handler saves and speaks."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
