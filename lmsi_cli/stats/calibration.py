"""Does confidence say how often an answer is right? Reliability, ECE and Brier's score.

Knows confidences and marks, not what made them. ``right`` is 1 or 0 per question, or the gold
answer's part of a tie.

    reliability([0.9, 0.95, 0.2], [1, 1, 0]) -> (Bin(low=0.2, high=0.3, n=1, ...),
                                                  Bin(low=0.9, high=1.0, n=2, ...))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.records import Interval, Record
from lmsi_cli.stats.basics import Floats, alike, fractions, interval
from lmsi_cli.stats.shares import mean_interval, wilson

BINS = 10
RESAMPLES = 1000


class Bin(Record, frozen=True, kw_only=True):
    """Questions with a confidence from ``low`` up to ``high``, the mean of it, and the accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Interval


class Brier(Record, frozen=True, kw_only=True):
    """Brier's score (0 is best), ``= reliability - resolution + uncertainty``.

    ``reliability`` is what miscalibration costs, ``resolution`` what telling questions apart
    gains, ``uncertainty`` the score of always stating the accuracy.
    """

    score: Interval
    reliability: float
    resolution: float
    uncertainty: float


def reliability(
    confidence: Sequence[float], right: Sequence[float], bins: int = BINS
) -> tuple[Bin, ...]:
    """Accuracy per range of confidence.

    Args:
        confidence: One value in [0, 1] per question.
        right: Its mark in [0, 1], in the same order.
        bins: Ranges of equal width, each without its upper end but the last.

    Returns:
        The ranges with at least one question, from low to high; intervals are Wilson's, or with
        ties those of ``mean_interval``.

    Raises:
        ValueError: The lengths differ, or a value is not within [0, 1].
    """
    x, y = alike(fractions(confidence), right, ("confidences", "marks"))
    index = bin_index(x, bins)
    return tuple(
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            n=int((index == i).sum()),
            confidence=float(x[index == i].mean()),
            accuracy=_accuracy(y[index == i]),
        )
        for i in range(bins)
        if (index == i).any()
    )


def ece(
    confidence: Sequence[float], right: Sequence[float], bins: int = BINS, seed: int = 0
) -> Interval:
    """Expected calibration error: the mean gap between confidence and accuracy over the ranges.

    Naeini et al. 2015 (AAAI 29); gaps weigh by their questions. Chance alone makes gaps, so the
    figure is too high for few questions, and a resample's is higher still; the interval is the
    basic bootstrap (Davison and Hinkley 1997, section 5.2), which turns that around.

    Returns:
        Without questions: value 0 in [0, 1].

    Raises:
        ValueError: The lengths differ, or a value is not within [0, 1].
    """
    x, y = alike(fractions(confidence), right, ("confidences", "marks"))
    n = len(x)
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    index, gaps = bin_index(x, bins), y - x
    rng = np.random.default_rng((seed, 4))
    value = _mean_gap(index, gaps, bins)
    picks = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    low, high = np.percentile([_mean_gap(index[i], gaps[i], bins) for i in picks], [2.5, 97.5])
    return interval(value, 2 * value - float(high), 2 * value - float(low), n)


def brier(confidence: Sequence[float], right: Sequence[float]) -> Brier | None:
    """Mean squared distance between confidence and mark (Brier 1950), and Murphy's parts of it.

    Murphy 1973 (J. Appl. Meteorol. 12:595). Questions of equal confidence form the classes, so the
    parts add up exactly; they mean little where hardly two confidences are equal.

    Returns:
        ``None`` without questions.

    Raises:
        ValueError: The lengths differ, or a value is not within [0, 1].
    """
    x, y = alike(fractions(confidence), right, ("confidences", "marks"))
    if len(x) == 0:
        return None
    levels, index = np.unique(x.round(9), return_inverse=True)
    counts = np.bincount(index)
    means, base = np.bincount(index, weights=y) / counts, float(y.mean())
    return Brier(
        score=mean_interval((x - y) ** 2),
        reliability=float(counts @ (levels - means) ** 2) / len(x),
        resolution=float(counts @ (means - base) ** 2) / len(x),
        uncertainty=float(y.var()),
    )


def bin_index(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """The range of each confidence; 3/5 belongs to the range that begins at 0.6."""
    found: NDArray[np.int64] = np.minimum((confidence * bins + 1e-9).astype(np.int64), bins - 1)
    return found


def _accuracy(right: Floats) -> Interval:
    return wilson(round(right.sum()), len(right)) if _binary(right) else mean_interval(right)


def _binary(right: Floats) -> bool:
    return bool(np.isin(right, [0, 1]).all())


def _mean_gap(index: NDArray[np.int64], gaps: Floats, bins: int) -> float:
    return float(np.abs(np.bincount(index, weights=gaps, minlength=bins)).sum()) / len(index)
