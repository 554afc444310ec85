"""Does confidence say how often an answer is right? The reliability table, ECE and AUROC.

Knows confidences and marks, not what made them. A mark is 1 or 0 per question, or the gold
answer's part of a tie.

    reliability([0.9, 0.95, 0.2], [1, 1, 0]) -> (Bin(low=0.2, high=0.3, n=1, ...),
                                                  Bin(low=0.9, high=1.0, n=2, ...))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lmsi_cli.records import Interval, Record
from lmsi_cli.stats.intervals import (
    Z_TWO_SIDED,
    Floats,
    alike,
    fractions,
    interval,
    score_interval,
)

BINS = 10


class Bin(Record, frozen=True, kw_only=True):
    """Questions with a confidence from ``low`` up to ``high``, the mean of it, and the accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Interval


def reliability(
    confidence: Sequence[float], right: Sequence[float], bins: int = BINS
) -> tuple[Bin, ...]:
    """Accuracy per range of confidence.

    Args:
        confidence: One value in [0, 1] per question.
        right: Its mark in [0, 1], in the same order.
        bins: Ranges of equal width, each without its upper end but the last.

    Returns:
        The ranges with at least one question, from low to high.

    Raises:
        ValueError: The lengths differ, or a value is not within [0, 1].
    """
    x, y = alike(fractions(confidence), right, ("confidences", "marks"))
    # the least above a tenth, so that 3/5 belongs to the range that begins at 0.6
    index = np.minimum((x * bins + 1e-9).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            n=int((index == i).sum()),
            confidence=float(x[index == i].mean()),
            accuracy=score_interval(y[index == i]),
        )
        for i in range(bins)
        if (index == i).any()
    )


def ece(table: Sequence[Bin]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over the ranges.

    Naeini et al. 2015 (AAAI 29); gaps weigh by their questions. Chance alone makes gaps, so the
    figure reads too high for few questions. Without any range it is 0.
    """
    gaps = sum(b.n * abs(b.confidence - b.accuracy.value) for b in table)
    return gaps / max(1, sum(b.n for b in table))


def auroc(scores: Sequence[float], right: Sequence[bool]) -> Interval | None:
    """Chance that a right question scores above a wrong one, ties counting half.

    The area under the ROC curve as the Mann-Whitney statistic. The interval is that of DeLong et
    al. 1988 (Biometrics 44:837) on the scale of log odds, with one right and one wrong question
    added, half of each at the lowest and half at the highest score: with few of one kind any
    bootstrap is too narrow, and with a perfect order it is a point.

    Args:
        scores: One number per question, higher meant to be better.
        right: Whether the question is right, in the same order.

    Returns:
        ``None`` where all questions are right or all are wrong.

    Raises:
        ValueError: The lengths differ.
    """
    x, marks = alike(scores, np.asarray(right, dtype=bool), ("scores", "marks"))
    y = marks.astype(bool)
    if y.all() or not y.any():
        return None
    levels, index = np.unique(x.round(9), return_inverse=True)
    table = np.array([np.bincount(index[z], minlength=len(levels)) for z in (y, ~y)], dtype=float)
    padded = table.copy()
    for end in (0, -1):
        padded[:, end] += 0.5
    return interval(_area(table), *_area_bounds(padded), len(x))


def _area(table: Floats) -> float:
    """Share of pairs of a right and a wrong question (rows) in order; levels from low to high."""
    right, wrong = table
    above = right @ (wrong.cumsum() - wrong / 2)
    return float(above / (right.sum() * wrong.sum()))


def _area_bounds(table: Floats) -> tuple[float, float]:
    """DeLong's 95% bounds of the area, through log odds."""
    right, wrong = table
    area, positive, negative = _area(table), right.sum(), wrong.sum()
    above = (wrong.cumsum() - wrong / 2) / negative  # of a right question: wrong ones below it
    below = (positive - right.cumsum() + right / 2) / positive
    spread = (right @ (above - area) ** 2) / (positive * (positive - 1))
    spread += (wrong @ (below - area) ** 2) / (negative * (negative - 1))
    odds, half = math.log(area / (1 - area)), Z_TWO_SIDED * math.sqrt(spread)
    half /= area * (1 - area)
    return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))
