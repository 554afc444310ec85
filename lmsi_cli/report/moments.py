"""One moment of a long command, in words: its figures, its memory, the time left.

Knows neither terminals nor files. A line of it:

    21.4 paths/s  1,420 tokens/s  parsed 96%  612 MiB  left 3:59
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from lmsi_cli.records import Path


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def size(count: int) -> str:
    """Bytes as ``612 MiB`` or ``1.4 GiB``."""
    mib = count / 2**20
    return f"{mib:,.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def figures_line(figures: Mapping[str, float | str], memory: int, left: float | None) -> str:
    """The figures of a moment in one line; ``memory`` in bytes, ``left`` in seconds."""
    shown = [_figure(k, v) for k, v in figures.items()]
    return "  ".join([*shown, size(memory), f"left {'?' if left is None else clock(left)}"])


def _figure(name: str, value: float | str) -> str:
    """``paths_s=21.4`` as ``21.4 paths/s``; ``parsed='96%'`` as ``parsed 96%``."""
    if isinstance(value, str):
        return f"{name} {value}"
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown} {name[:-2]}/s" if name.endswith("_s") else f"{name} {shown}"


class Rates:
    """What is worth seeing while answers are drawn."""

    def __init__(self) -> None:
        self.begun, self.paths, self.parsed, self.tokens = time.monotonic(), 0, 0, 0

    def after(self, path: Path) -> dict[str, float | str]:
        """Count a path; paths and tokens per second, and the share of paths with an answer."""
        self.paths += 1
        self.parsed += path.predicted_answer is not None
        self.tokens += path.num_generated_tokens
        seconds = max(time.monotonic() - self.begun, 1e-9)
        return {
            "paths_s": self.paths / seconds,
            "tokens_s": self.tokens / seconds,
            "parsed": f"{self.parsed / self.paths:.0%}",
        }
