"""Whether llama.cpp survives a quantised model on this CPU, and whether it may repack weights.

On CPUs with AMX, llama.cpp built by some compilers dies with a segmentation fault at the first
decode of a quantised model: what GCC gets wrong stands in ``amx.h``. So a child process decodes a
tiny random model first (``cpu_check_child.py``), once per build. The answer is kept in the cache
folder:

    {"extra_buffers": true, "usable": true, "build": "0.3.36-1a2b3c", "note": ""}

Repacked weights are multiplied in AMX's tiles where there are any. llama.cpp gives the tiles their
shape once per thread; PyTorch (oneDNN) takes it from the threads that both work on, and the next
product kills the process with SIGILL. So no process computes with repacked weights beside PyTorch:
training has one of its own (``aside``), and where both must meet for a few tokens, as in the proof
of an adapter, llama.cpp does without. The rule is the same on every CPU, so that every machine
tests it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from lmsi_cli.engine.builds import build_id
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record

LOG = logging.getLogger(__name__)
CHILD = "lmsi_cli.engine.cpu_check_child"
R = TypeVar("R", bound=Record)
OPENVINO = "openvino"  # shapes the tiles as PyTorch does, with the same library
TIMEOUT = 120  # seconds; a healthy child needs about one


class CpuCheck(Record, frozen=True, kw_only=True):
    """What the children told us: whether a quantised model works at all, and with repacking."""

    build: str
    extra_buffers: bool
    usable: bool
    note: str = ""


def cache_folder() -> Path:
    """Where lmsi remembers facts about this machine; ``LMSI_CACHE`` moves it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LMSI_CACHE") or Path(home) / "lmsi")


def remember(file: Path, record: Record) -> None:
    """Keep a record in the cache folder; a read-only home costs a second look, nothing else."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(file)
    except OSError as e:
        LOG.info("%s: not kept: %s", file, e)


def recall(file: Path, kind: type[R]) -> R | None:
    """Read a kept record; None if there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


@cache
def cpu_check() -> CpuCheck:
    """The remembered answer for this build, or a fresh one."""
    file = cache_folder() / f"probe-{build_id()}.json"
    result = recall(file, CpuCheck)
    if result is None:
        result = _ask()
        if result.usable:  # a broken installation may be repaired; do not hold it against the build
            remember(file, result)
    return result


def may_repack() -> bool:
    """Whether a model that is loaded now may have its weights repacked.

    Raises:
        LmsiError: llama.cpp dies on a quantised model either way.
    """
    found = cpu_check()
    if not found.usable:
        raise LmsiError(
            f"llama.cpp does not work on this machine: {found.note}",
            hint="reinstall llama-cpp-python; `lmsi doctor` shows the line",
        )
    return found.extra_buffers and not torch_is_here() and OPENVINO not in sys.modules


def torch_is_here() -> bool:
    """Whether PyTorch has been imported; whether it has computed cannot be asked."""
    return "torch" in sys.modules


def check_repacked(repacked: bool) -> None:
    """Refuse to go on with repacked weights once PyTorch is here: asked before every decode.

    Raises:
        RuntimeError: Somebody imported it while a model was open; a fault of the program.
    """
    if repacked and torch_is_here():
        raise RuntimeError(
            "PyTorch was imported while a model with repacked weights was open: close the model "
            "first, or let PyTorch work in another process (lmsi_cli.aside)"
        )


def _ask() -> CpuCheck:
    fast = _child_fails(extra_buffers=True)
    if not fast:
        return CpuCheck(build=build_id(), extra_buffers=True, usable=True)
    slow = _child_fails(extra_buffers=False)
    note = f"with repacked weights llama.cpp {fast}"
    if slow:
        note = f"{note}; without, it {slow}"
        return CpuCheck(build=build_id(), extra_buffers=False, usable=False, note=note)
    goes_on = "lmsi goes on without them, slower; `lmsi doctor` tells what mends it"
    LOG.warning("note: %s on this CPU; %s", note, goes_on)  # here, and so only once
    return CpuCheck(build=build_id(), extra_buffers=False, usable=True, note=note)


def _child_fails(extra_buffers: bool) -> str:
    """Run the child: what became of it in words, or an empty string if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", CHILD, folder, str(int(extra_buffers))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"hangs for more than {TIMEOUT} s"
    if done.returncode < 0:
        return f"dies with signal {-done.returncode}"
    if done.returncode:
        return f"fails: {done.stderr.decode(errors='replace').strip()[-200:]}"
    return ""
