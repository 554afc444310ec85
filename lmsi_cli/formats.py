r"""How single figures are written: shares, intervals, differences, p-values, sizes, times.

The one place for it, so that a figure looks the same in the terminal, in Markdown and on the page.
It also makes text from models and files safe for terminals:

    with_interval(Interval(value=0.543, low=0.49, high=0.60, n=300)) -> "54.3 [49, 60]"
    printable("4\x1b[2J2") -> "4\\x1b[2J2"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from lmsi_cli.records import Interval, Paired

CLEAR = 0.05  # p below which a change counts as clear
SMALLEST_P = 0.001  # the smallest p shown as a number; further digits say nothing
NONE = "-"  # no figure

# All control characters but tab and line end; marks of direction; halves of surrogate pairs.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Escape the characters that control a terminal; line ends and tabs stay."""
    return _STEERING.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def percent(x: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * x:.1f}%"


def with_interval(i: Interval | None, sign: Literal["", "+"] = "") -> str:
    """A figure with its 95% interval, in percent; ``+`` for a difference, shown with its sign."""
    if i is None:
        return ""
    value, low, high = 100 * i.value, 100 * i.low, 100 * i.high
    return f"{value:{sign}.1f} [{low:{sign}.0f}, {high:{sign}.0f}]"


def decimal(i: Interval | None) -> str:
    """A figure that is no share of questions, such as an AUROC, with its interval."""
    return NONE if i is None else f"{i.value:.2f} [{i.low:.2f}, {i.high:.2f}]"


def share(i: Interval) -> str:
    """A share of questions or paths in a sentence, in whole percent."""
    return f"{100 * i.value:.0f}% [{100 * i.low:.0f}, {100 * i.high:.0f}]"


def whole_points(i: Interval) -> str:
    """A difference of such shares in whole points, to be followed by the word points."""
    return f"{100 * i.value:+.0f} [{100 * i.low:+.0f}, {100 * i.high:+.0f}]"


def points(c: Paired, unit: str = " points") -> str:
    """A paired difference in percentage points, with its interval."""
    return f"{100 * c.difference:+.1f}{unit} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"


def moved(c: Paired) -> str:
    """Questions gained and lost."""
    return f"+{c.gained} -{c.lost}"


def least_change(smallest: float) -> str:
    """Put the smallest difference that a set can show, a fraction, into words; 1 is none."""
    if smallest >= 1:
        return "nothing, with so few questions"
    return f"a change of {100 * smallest:.{0 if smallest >= 0.02 else 1}f} points or more"


def p_text(p: float) -> str:
    """A p-value in a table."""
    return f"{p:.3f}" if p >= SMALLEST_P else f"<{SMALLEST_P}"


def p_words(p: float) -> str:
    """A p-value in a sentence, after the letter p."""
    return f"= {p:.3f}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


def tone(c: Paired, p: float) -> str:
    """The colour of a row with a change: none unless the change is clear."""
    return "" if p >= CLEAR else "good" if c.difference > 0 else "bad"


def size(count: int) -> str:
    """Bytes as ``96.0 KiB``, ``612 MiB`` or ``1.4 GiB``."""
    mib = count / 2**20
    if mib < 1 / 8:
        return f"{count / 2**10:.1f} KiB"
    return f"{mib / 1024:.1f} GiB" if mib >= 1000 else f"{mib:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def figures_line(figures: Mapping[str, float | str], memory: int, left: float | None) -> str:
    """One moment of a long command: ``21.4 paths/s  parsed 96%  612 MiB  left 3:59``.

    Args:
        figures: By name; a name that ends in ``_s`` is a rate per second.
        memory: In bytes.
        left: Seconds to the end; None: not known.
    """
    shown = []
    for name, value in figures.items():
        if isinstance(value, str):
            shown.append(f"{name} {value}")
            continue
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        shown.append(f"{text} {name[:-2]}/s" if name.endswith("_s") else f"{name} {text}")
    return "  ".join([*shown, size(memory), f"left {'?' if left is None else clock(left)}"])
