"""The machine that a figure was measured on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Name the CPU, its vector and matrix units, and its number of threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    name = next(names, platform.processor())
    flags = next((x.split() for x in lines if x.startswith("flags")), [])
    units = [u for u in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if u in flags]
    return ", ".join([name, *units, f"{os.cpu_count()} threads"])
