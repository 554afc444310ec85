"""Which llama.cpp this is, on which CPU, and the line that builds it so that AMX works.

Looks at files and flags; runs nothing. Knows nothing of models. What is said of this machine:

    build_id() == "0.3.36-1a2b3c4d5e"
    amx() == Amx(cpu=True, built=True)
    repair_line() == "CMAKE_ARGS=-DCMAKE_PROJECT_INCLUDE=.../amx.cmake pip install ..."
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

CPU = Path("/proc/cpuinfo")
NAMED = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python loads its libraries from there, if it is set
MENDED = Path(__file__).with_name("amx.cmake")
PIP = (
    "pip install --force-reinstall --no-deps --no-binary llama-cpp-python --no-cache-dir "
    "llama-cpp-python"
)


class Amx(NamedTuple):
    """Whether this CPU has AMX's tiles, and whether this llama.cpp was built to use them."""

    cpu: bool
    built: bool


def libraries(package: ModuleType) -> Path:
    """The folder that ``llama_cpp`` loads llama.cpp from."""
    named = os.environ.get(NAMED)
    return Path(named) if named else Path(str(package.__file__)).parent / "lib"


def build_id() -> str:
    """Name this llama.cpp on this CPU: version, bytes of its CPU libraries, and the CPU's flags."""
    import llama_cpp

    files = sorted(libraries(llama_cpp).glob("*ggml-cpu*"))
    marks = sorted({_hash(f, (s := f.stat()).st_size, s.st_mtime_ns) for f in files})
    digest = hashlib.sha256("".join([*marks, *sorted(cpu_flags())]).encode()).hexdigest()[:10]
    return f"{llama_cpp.__version__}-{digest}"


@cache
def _hash(file: Path, size: int, changed: int) -> str:
    """A file's bytes in short; read again if size or time differ."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cpu_flags() -> frozenset[str]:
    """What the CPU can do, by Linux's names; empty where nothing tells."""
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def amx(features: str) -> Amx:
    """Whether there is AMX, and whether it would be used.

    Args:
        features: From ``llama_print_system_info``.
    """
    built = "AMX_INT8 = 1" in features
    return Amx("amx_int8" in cpu_flags() or built, built)


def repair_line(kinds: Sequence[str] = ()) -> str:
    """The line that builds llama.cpp on this machine with what GCC's AMX code lacks.

    Args:
        kinds: Cards that it has to be built for as well, as ``["cuda"]``.
    """
    cards = [f"-DGGML_{kind.upper()}=on" for kind in kinds]
    arguments = shlex.join([*cards, f"-DCMAKE_PROJECT_INCLUDE={MENDED}"])
    return f"CMAKE_ARGS={shlex.quote(arguments)} {PIP}"
