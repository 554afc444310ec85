"""What this machine can do for lmsi, and what to do about each problem.

Asks the libraries; writes nothing but the remembered result of the CPU check.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import psutil

from lmsi_cli.engine.cpu_check import amx, backends, cpu_check, gpu, repair_line
from lmsi_cli.engine.llama import default_threads, library
from lmsi_cli.records import Record
from lmsi_cli.training.devices import INSTALL, PACKAGES

LITTLE_MEMORY = 4.0  # GiB free; less than this stops even a half-billion-parameter model
REBUILD = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
SLOWER = "lmsi avoids the crash and is slower for it; the line below builds a llama.cpp without it"
UNTRAINED = "no training without it"
OURS = ("lmsi", "llama-cpp-python", "gguf", "numpy")


class Check(Record, frozen=True):
    """One fact, and a ``command`` that improves it; ``fatal``: nothing works until it is fixed."""

    name: str
    value: str
    problem: str = ""
    advice: str = ""
    command: str = ""
    fatal: bool = False


def examine() -> list[Check]:
    """Run all checks, in the order to show them."""
    versions = [Check("python", platform.python_version()), *map(_version, (*OURS, *PACKAGES))]
    try:
        lib = library()
    except (ImportError, OSError, RuntimeError) as e:
        broken = _missing("llama.cpp", "broken", f"does not load: {e}", REBUILD)
        return versions if any(c.fatal for c in versions) else [*versions, broken]
    features = lib.llama_print_system_info().decode().strip().replace("\n", " ")
    cores = f"{psutil.cpu_count(logical=False)} physical, {os.cpu_count()} logical"
    memory = psutil.virtual_memory()
    free = memory.available / 2**30
    room = Check("memory", f"{memory.total / 2**30:.1f} GiB, {free:.1f} GiB free")
    if free < LITTLE_MEMORY:
        closing = "close other programs before training"
        room = Check("memory", room.value, "little free memory", closing)
    usable, state, advice = gpu(lib)
    offload = f"{state}; --gpu-layers all uses it" if usable else state
    return [
        *versions,
        Check("cores", f"{cores}, lmsi uses {default_threads()} threads"),
        room,
        Check("llama.cpp features", features),
        _quantised(features),
        # having no GPU is no problem; the advice still says what --gpu-layers would need
        Check("GPU offload", offload, advice=advice),
        _torch(),
    ]


def conclusion(checks: Sequence[Check]) -> str:
    """The line below the checks: whether this machine is ready, and what to type."""
    if bad := next((c for c in checks if c.fatal), None):
        return f"not ready: {bad.name}: {bad.problem}; type: {bad.advice}"
    if slow := next((c for c in checks if c.command), None):
        return f"ready; faster after: {slow.command}"
    if any(c.problem == UNTRAINED for c in checks):
        return f"ready to sample, vote and measure; to train as well, type: {INSTALL}"
    if doubt := next((c for c in checks if c.problem), None):
        return f"ready, but: {doubt.problem}; {doubt.advice}"
    return "ready; try: lmsi run"


def _version(package: str) -> Check:
    try:
        return Check(package, version(package))
    except PackageNotFoundError:
        if package in PACKAGES:  # needed for training alone
            return Check(package, "missing", UNTRAINED, INSTALL)
        return _missing(package, "missing", "not installed", f"pip install {package}")


def _missing(name: str, value: str, problem: str, advice: str) -> Check:
    return Check(name, value, problem, advice, fatal=True)


def _quantised(features: str) -> Check:
    """Whether quantised models work, and whether they use the CPU's AMX units if it has them."""
    name, found, (tiles, used) = "quantised models", cpu_check(), amx(features)
    if not found.usable:
        return _missing(name, "broken", found.note, REBUILD)
    repair = repair_line(backends(library()))
    if not found.extra_buffers:
        lacking = "work without repacked weights" + (", and so without AMX" if used else "")
        line = repair if used else REBUILD
        return Check(name, lacking, found.note, SLOWER, line)
    if not tiles:
        return Check(name, "work (no AMX in this CPU)")
    if used:
        return Check(name, "work, with AMX")
    value = "work, without AMX: this llama.cpp was built for other CPUs"
    return Check(name, value, advice="the line below builds it for this one", command=repair)


def _torch() -> Check:
    try:
        import torch
    except ModuleNotFoundError:
        return Check("torch features", "none")
    except ImportError as e:
        return _missing("torch", "does not import", str(e), "pip install --force-reinstall torch")
    from lmsi_cli.training.devices import pick_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu only"
    cpu, dtype = torch.backends.cpu.get_cpu_capability(), pick_dtype("auto", "cpu")
    return Check("torch features", f"{cpu}, {device}, trains in {dtype}")
