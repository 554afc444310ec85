"""What this machine can do for lmsi, and what to do about each problem.

Asks the libraries; changes nothing but the remembered answer of the probe. One check:

    {"name": "quantised models", "value": "work, with AMX", "problem": "", "advice": "", ...}
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil

from lmsi_cli.catalog import cards
from lmsi_cli.engine import builds
from lmsi_cli.engine.cpu_check import cpu_check
from lmsi_cli.engine.llama import default_threads, library
from lmsi_cli.records import Record

LITTLE_MEMORY = 4.0  # GiB free; less than this stops even a half-billion-parameter model
REBUILD = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
SLOWER = "lmsi avoids the crash and is slower for it; the line below builds a llama.cpp without it"
PACKAGES = ("lmsi", "llama-cpp-python", "torch", "transformers", "peft", "gguf", "numpy")


class Check(Record, frozen=True, kw_only=True):
    """One fact; ``problem`` is empty if all is well, ``fatal`` means nothing works before.

    ``command`` is one line to type, shown whole below all checks.
    """

    name: str
    value: str
    problem: str = ""
    advice: str = ""
    command: str = ""
    fatal: bool = False


def examine() -> list[Check]:
    """All checks, in the order a person reads them."""
    return [*_versions(), *_machine(), *_llama(), *_torch(), _models()]


def _versions() -> list[Check]:
    found = [Check(name="python", value=platform.python_version())]
    for package in PACKAGES:
        try:
            found.append(Check(name=package, value=version(package)))
        except PackageNotFoundError:
            found.append(
                Check(
                    name=package,
                    value="missing",
                    problem="not installed",
                    fatal=True,
                    advice=f"pip install {package}",
                )
            )
    return found


def _machine() -> list[Check]:
    memory = psutil.virtual_memory()
    free = memory.available / 2**30
    short = free < LITTLE_MEMORY
    return [
        Check(
            name="cores",
            value=f"{psutil.cpu_count(logical=False)} physical, "
            f"{os.cpu_count()} logical, lmsi uses {default_threads()} threads",
        ),
        Check(
            name="memory",
            value=f"{memory.total / 2**30:.1f} GiB, {free:.1f} GiB free",
            problem="little free memory" if short else "",
            advice="close other programs before training" if short else "",
        ),
    ]


def _llama() -> list[Check]:
    lib = library()
    features = lib.llama_print_system_info().decode().strip().replace("\n", " ")
    return [
        Check(name="llama.cpp features", value=features),
        _quantised(features),
        _gpu(),
    ]


def _gpu() -> Check:
    """Having none is no problem; what ``--gpu-layers`` would need is told all the same."""
    found = builds.gpu(library())
    if found.usable:
        return Check(name="GPU offload", value=f"{found.words}; --gpu-layers all uses it")
    return Check(name="GPU offload", value=found.words, advice=found.advice)


def _quantised(features: str) -> Check:
    """Whether quantised models work, and with the CPU's units for them, where it has any."""
    name, found, amx = "quantised models", cpu_check(), builds.amx(features)
    if not found.usable:
        return Check(name=name, value="broken", problem=found.note, advice=REBUILD, fatal=True)
    if not found.extra_buffers:
        lacking = "work without repacked weights" + (", and so without AMX" if amx.built else "")
        line = _repair() if amx.built else REBUILD
        return Check(name=name, value=lacking, problem=found.note, advice=SLOWER, command=line)
    if not amx.cpu:
        return Check(name=name, value="work (no AMX in this CPU)")
    if amx.built:
        return Check(name=name, value="work, with AMX")
    return Check(
        name=name,
        value="work, without AMX: this llama.cpp was built for other CPUs",
        advice="the line below builds it for this one",
        command=_repair(),
    )


def _repair() -> str:
    return builds.repair_line(builds.backends(library()))


def _torch() -> list[Check]:
    try:
        import torch
    except ImportError as e:
        return [
            Check(
                name="torch",
                value="does not import",
                problem=str(e),
                fatal=True,
                advice="pip install torch",
            )
        ]
    from lmsi_cli.training.devices import pick_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu only"
    return [
        Check(
            name="torch features",
            value=f"{torch.backends.cpu.get_cpu_capability()}, "
            f"{device}, trains in {pick_dtype('auto', 'cpu')}",
        )
    ]


def _models() -> Check:
    found = ", ".join(cards())
    return Check(
        name="models",
        value=found or "none",
        problem="" if found else "no model found",
        advice="" if found else "reinstall lmsi, or give a GGUF file with --model",
    )
