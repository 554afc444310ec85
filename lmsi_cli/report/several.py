"""Many comparisons at once, in words: which changes are still clear once all tests are counted.

Knows names and p-values.

    corrected({"gsm8k": 0.004, "svamp": 0.03, "aqua": 0.6})
    -> "Of 3 comparisons 1 is clear after Holm's correction: gsm8k (p = 0.012). Alone svamp ..."
"""

from __future__ import annotations

from collections.abc import Mapping

from lmsi_cli.report.confidence import CLEAR, p_words
from lmsi_cli.stats import holm


def corrected(p_values: Mapping[str, float]) -> str:
    """Say which of several comparisons are clear; empty for fewer than two, which need no word.

    Args:
        p_values: By name, uncorrected.
    """
    if len(p_values) < 2:
        return ""
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    clear = [f"{name} (p {p_words(p)})" for name, p in adjusted.items() if p < CLEAR]
    lost = [name for name, p in adjusted.items() if p >= CLEAR > p_values[name]]
    told = f"Of {len(p_values)} comparisons {_count(len(clear))} clear after Holm's correction"
    told += f": {', '.join(clear)}." if clear else "."
    if lost:
        told += f" Alone {' and '.join(lost)} would look clear; among so many chance makes such."
    return told


def _count(n: int) -> str:
    return "none is" if n == 0 else "1 is" if n == 1 else f"{n} are"
