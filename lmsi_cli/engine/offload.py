"""Layers on the GPU: what was asked for, what this build of llama.cpp can do, and how to get it.

llama.cpp itself takes any number of layers and, built without GPU code, silently computes all of
them on the CPU; here that is an error with the line that rebuilds it. Knows nothing of models.

    to_layers("all") -> -1    to_layers(12) -> 12    to_layers("none") -> 0
    state() -> State(usable=False, told="not built in", advice='with an NVIDIA card: CMAKE_...')
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from lmsi_cli.config import Layers
from lmsi_cli.engine.builds import libraries
from lmsi_cli.engine.llama import library
from lmsi_cli.errors import LmsiError

ALL = -1  # llama.cpp's own word for it
PLAIN = {"base", "cpu", "blas", "rpc"}  # parts of ggml that use no card of this machine
REBUILD = (
    'CMAKE_ARGS="-DGGML_{kind}=on" pip install llama-cpp-python '
    "--no-binary llama-cpp-python --force-reinstall --no-cache-dir"
)
CARDS = {"CUDA": "an NVIDIA card", "METAL": "an Apple chip", "VULKAN": "another card"}


class State(NamedTuple):
    """Whether layers can go to a GPU; in words, and what to do if not."""

    usable: bool
    told: str
    advice: str = ""


def to_layers(asked: Layers) -> int:
    """The number that llama.cpp takes: 0 for none, -1 for all.

    Raises:
        LmsiError: Layers were asked for, and llama.cpp would leave them on the CPU.
    """
    if asked in ("none", 0):
        return 0
    found = state()
    if not found.usable:
        raise LmsiError(
            f"--gpu-layers {asked}: GPU offload is {found.told}",
            hint=f"leave --gpu-layers out, or {found.advice}",
        )
    return ALL if asked == "all" else int(asked)


def state() -> State:
    """Ask llama.cpp for a card that it can use; its libraries tell what it was built for."""
    kinds = ", ".join(backends())
    if library().llama_supports_gpu_offload():
        return State(True, f"available ({kinds})" if kinds else "available")
    if kinds:
        return State(False, f"built in ({kinds}), but no card is found", "check the card's driver")
    return State(False, "not built in", "; ".join(rebuild_lines()))


def backends() -> list[str]:
    """Kinds of cards that this llama.cpp was built for, such as ``["cuda"]``."""
    files = libraries(library()).glob("*ggml-*")
    names = {f.name.partition("ggml-")[2].partition(".")[0] for f in files}
    return sorted(n for n in names if n and n.partition("-")[0] not in PLAIN)


def rebuild_lines(platform: str = sys.platform) -> list[str]:
    """The lines that build llama.cpp for a card of this platform, as advice."""
    kinds = ("METAL",) if platform == "darwin" else ("CUDA", "VULKAN")
    return [f"with {CARDS[kind]}: {REBUILD.format(kind=kind)}" for kind in kinds]
