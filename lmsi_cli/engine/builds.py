"""Which llama.cpp this is, what it can use of this machine, and the lines that build it anew.

Looks at files and flags; loads no model. What is said of this machine:

    build_id() == "0.3.36-1a2b3c4d5e"
    amx(features) == Amx(cpu=True, built=True)
    gpu(llama_cpp) == Gpu(usable=False, words="not built in", advice='with an NVIDIA card: ...')
    gpu_layers("all", llama_cpp) == -1
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lmsi_cli.config import Layers
from lmsi_cli.errors import LmsiError

CPU = Path("/proc/cpuinfo")
NAMED = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python loads its libraries from there, if it is set
MENDED = Path(__file__).with_name("amx.cmake")
PIP = (
    "pip install --force-reinstall --no-deps --no-binary llama-cpp-python --no-cache-dir "
    "llama-cpp-python"
)
REBUILD = (
    'CMAKE_ARGS="-DGGML_{kind}=on" pip install llama-cpp-python '
    "--no-binary llama-cpp-python --force-reinstall --no-cache-dir"
)
CARDS = {"CUDA": "an NVIDIA card", "METAL": "an Apple chip", "VULKAN": "another card"}
PLAIN = {"base", "cpu", "blas", "rpc"}  # parts of ggml that use no card of this machine
ALL = -1  # layers; llama.cpp's own word for it


class Amx(NamedTuple):
    """Whether this CPU has AMX's tiles, and whether this llama.cpp was built to use them."""

    cpu: bool
    built: bool


class Gpu(NamedTuple):
    """Whether layers can go to a GPU; in words, and what to do if not."""

    usable: bool
    words: str
    advice: str = ""


def libraries(package: Any) -> Path:  # noqa: ANN401 - an untyped module
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
    """Whether there is AMX, and whether it would be used; features: ``llama_print_system_info``."""
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


def gpu_layers(asked: Layers, package: Any) -> int:  # noqa: ANN401 - an untyped module
    """The number of layers that llama.cpp takes: 0 for none, -1 for all.

    llama.cpp itself takes any number and, built without GPU code, silently computes all layers on
    the CPU; here that is an error with the line that rebuilds it.

    Raises:
        LmsiError: Layers were asked for, and llama.cpp would leave them on the CPU.
    """
    if asked in ("none", 0):
        return 0
    found = gpu(package)
    if not found.usable:
        raise LmsiError(
            f"--gpu-layers {asked}: GPU offload is {found.words}",
            hint=f"leave --gpu-layers out, or {found.advice}",
        )
    return ALL if asked == "all" else int(asked)


def gpu(package: Any) -> Gpu:  # noqa: ANN401 - an untyped module
    """Ask llama.cpp for a card that it can use; its libraries tell what it was built for."""
    kinds = ", ".join(backends(package))
    if package.llama_supports_gpu_offload():
        return Gpu(True, f"available ({kinds})" if kinds else "available")
    if kinds:
        return Gpu(False, f"built in ({kinds}), but no card is found", "check the card's driver")
    return Gpu(False, "not built in", "; ".join(rebuild_lines()))


def backends(package: Any) -> list[str]:  # noqa: ANN401 - an untyped module
    """Kinds of cards that this llama.cpp was built for, such as ``["cuda"]``."""
    files = libraries(package).glob("*ggml-*")
    names = {f.name.partition("ggml-")[2].partition(".")[0] for f in files}
    return sorted(n for n in names if n and n.partition("-")[0] not in PLAIN)


def rebuild_lines(platform: str = sys.platform) -> list[str]:
    """The lines that build llama.cpp for a card of this platform, as advice."""
    kinds = ("METAL",) if platform == "darwin" else ("CUDA", "VULKAN")
    return [f"with {CARDS[kind]}: {REBUILD.format(kind=kind)}" for kind in kinds]
