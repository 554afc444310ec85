"""How sure a figure is: shares and means of questions, confidence against accuracy, votes over k.

Knows numpy and the records; nothing of what a question is. A question's cluster is any label that
it shares with the questions it resembles: variants of one template, or several about one text. A
mark is 1 or 0 per question, or the gold answer's part of a tie. Scores of k paths, by their vote or
by the best of them, are expectations over drawing k of the n paths without replacement: exact, and
so the same on every call.

    majority_at_k(["7", "7", "8"], "7", 2) -> 0.667   (7 7 scores 1, 7 8 a half, twice)
    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
    reliability([0.9, 0.95, 0.2], [1, 1, 0]) -> (Bin(low=0.2, high=0.3, n=1, ...),
                                                  Bin(low=0.9, high=1.0, n=2, ...))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import compress
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmsi_cli.records import Interval, Record

Floats: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = Sequence[Hashable] | None

Z_TWO_SIDED = 1.959963984540054  # normal quantile of 0.975: a two-sided test at 5%
BINS = 10  # ranges of confidence


class Bin(Record, frozen=True, kw_only=True):
    """Questions with a confidence from ``low`` up to ``high``: its mean, and their accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Interval


def wilson(successes: int, n: int) -> Interval:
    """Share of successes with its Wilson score interval (Wilson 1927, JASA 22:209).

    It covers 95% on average over the true shares; near 0 and 1 it may cover less. Without any of
    the ``n`` independent yes/no trials, nothing is known: value 0 in [0, 1].
    """
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    return _interval(successes / n, *_score_bounds(successes / n, n), n)


def mean_interval(values: ArrayLike, groups: Groups = None) -> Interval:
    """Mean of one value per question, such as a share of right paths or a score with ties.

    Paths of one question are alike, so questions are the trials, not paths; where questions
    resemble each other, their clusters are. The interval is Wilson's at the effective sample size
    ``mean (1 - mean) / squared standard error``, reduced for the t quantile (Franco et al. 2019,
    J. Surv. Stat. Methodol. 7:334); the standard error is the cluster-robust one (Liang and Zeger
    1986, Biometrika 73:13; for evaluations Miller 2024, arXiv:2411.00640). A plain t interval
    would leave [0, 1] and, where every question is right, shrink to a point.

    ``values`` are in [0, 1]; none at all give value 0 in [0, 1]. ``groups`` has the cluster of each
    question; without, each is its own.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        return wilson(0, 0)
    mean, size = float(array.mean()), _effective_size(*cluster_sums(array, groups))
    return _interval(mean, *_score_bounds(mean, size), len(array))


def score_interval(scores: ArrayLike, groups: Groups = None) -> Interval:
    """Mean score: ``wilson`` where all are 0 or 1 and none cluster, else ``mean_interval``."""
    array = np.asarray(scores, dtype=np.float64)
    if groups is None and bool(np.isin(array, [0, 1]).all()):
        return wilson(round(float(array.sum())), len(array))
    return mean_interval(array, groups)


def reliability(
    confidence: Sequence[float], right: Sequence[float], groups: Groups = None
) -> tuple[Bin, ...]:
    """Accuracy per tenth of confidence, from low to high; a tenth without a question is left out.

    Each question has a confidence in [0, 1] and a mark in [0, 1], in the same order.
    """
    x, y = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    # the 1e-9 puts 3/5 into the range that begins at 0.6, despite rounding
    index = np.minimum((x * BINS + 1e-9).astype(np.int64), BINS - 1)
    bins = [(i, index == i) for i in np.unique(index).tolist()]
    return tuple(
        Bin(
            low=i / BINS,
            high=(i + 1) / BINS,
            n=int(own.sum()),
            confidence=float(x[own].mean()),
            accuracy=score_interval(y[own], groups and list(compress(groups, own))),
        )
        for i, own in bins
    )


def ece(table: Sequence[Bin]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over the ranges.

    Naeini et al. 2015 (AAAI 29); gaps are weighted by their questions. Chance alone makes gaps, so
    the figure is too high for few questions. Without any range it is 0.
    """
    gaps = sum(b.n * abs(b.confidence - b.accuracy.value) for b in table)
    return gaps / max(1, sum(b.n for b in table))


def auroc(scores: Sequence[float], right: Sequence[bool]) -> Interval | None:
    """Chance that a right question scores above a wrong one, ties counting half.

    The area under the ROC curve as the Mann-Whitney statistic. The interval is that of DeLong et
    al. 1988 (Biometrics 44:837) on the scale of log odds, with one right and one wrong question
    added, half of each at the lowest and half at the highest score: with few right or few wrong
    ones any bootstrap is too narrow, and with a perfect order it is a point. ``None`` where all
    questions are right or all are wrong.
    """
    y = np.asarray(right, dtype=bool)
    if y.all() or not y.any():
        return None
    levels, index = np.unique(np.asarray(scores, dtype=np.float64).round(9), return_inverse=True)
    table = np.array([np.bincount(index[z], minlength=len(levels)) for z in (y, ~y)], dtype=float)
    padded = table.copy()
    for end in (0, -1):
        padded[:, end] += 0.5
    return _interval(_area(table), *_area_bounds(padded), len(y))


def cluster_sums(values: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Sum of the values and number of questions per cluster; without labels each is its own."""
    if groups is None:
        return values, np.ones(len(values))
    place = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    index = np.array([place[g] for g in groups], dtype=np.int64)
    sums = np.bincount(index, weights=values, minlength=len(place))
    return sums.astype(np.float64), np.bincount(index, minlength=len(place)).astype(np.float64)


def _interval(value: float, low: float, high: float, n: int) -> Interval:
    """Build the record, so that rounding never leaves the value outside its own interval."""
    low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Interval(value=value, low=low, high=high, n=n)


def _score_bounds(share: float, n: float) -> tuple[float, float]:
    """Wilson's bounds for any n; scipy needs a whole one, which effective sample sizes are not."""
    z2 = Z_TWO_SIDED**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return centre - half, centre + half


def _effective_size(sums: Floats, sizes: Floats) -> float:
    """How many yes/no trials would give the mean the same precision.

    The spread is computed with two right and two wrong clusters of mean size added (after Agresti
    and Coull 1998, Am. Stat. 52:119): a hundred right answers do not prove that the spread is zero.
    """
    from scipy.special import stdtrit

    n, size = float(sizes.sum()), float(sizes.mean())
    sums, sizes = np.append(sums, [0, 0, size, size]), np.append(sizes, [size] * 4)
    clusters, total = len(sizes), float(sizes.sum())
    mean = float(sums.sum()) / total
    squares = float(((sums - sizes * mean) ** 2).sum()) * clusters / (clusters - 1)
    t = float(stdtrit(clusters - 1, 0.975))
    return n * mean * (1 - mean) * total / squares * (Z_TWO_SIDED / t) ** 2


def _area(table: Floats) -> float:
    """Share of right-wrong pairs in order; rows are right and wrong, columns levels upwards."""
    right, wrong = table
    above = right @ (wrong.cumsum() - wrong / 2)
    return float(above / (right.sum() * wrong.sum()))


def _area_bounds(table: Floats) -> tuple[float, float]:
    """DeLong's 95% bounds of the area, by way of log odds."""
    right, wrong = table
    area, positive, negative = _area(table), right.sum(), wrong.sum()
    above = (wrong.cumsum() - wrong / 2) / negative  # of a right question: wrong ones below it
    below = (positive - right.cumsum() + right / 2) / positive
    spread = (right @ (above - area) ** 2) / (positive * (positive - 1))
    spread += (wrong @ (below - area) ** 2) / (negative * (negative - 1))
    odds, half = math.log(area / (1 - area)), Z_TWO_SIDED * math.sqrt(spread)
    half /= area * (1 - area)
    return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))


MOST_AT_ONCE = 1000  # paths; with more, a fair coin's probabilities underflow


def majority_score(values: Sequence[str | None], gold: str) -> float:
    """Score of one question's vote: 1, 0, or the gold answer's part of a tie for first place.

    A tie is scored as the mean over the tied answers, which is what drawing one of them would
    give on average (NVIDIA NeMo-Skills, ``majority@k``). ``values`` and ``gold`` are canonical
    answers; a path with ``None`` (unparsed, truncated) abstains. 0 where all do or there are none.
    """
    ballots = Counter(v for v in values if v is not None)
    most = max(ballots.values(), default=0)
    winners = [answer for answer, votes in ballots.items() if votes == most]
    return 1.0 / len(winners) if gold in winners else 0.0


def majority_at_k(values: Sequence[str | None], gold: str, k: int) -> float:
    """Mean of ``majority_score`` over all ways to draw k of the paths: the unbiased maj@k."""
    n = len(values)
    ballots = Counter(v for v in values if v is not None)
    own = ballots.pop(gold, 0)
    others = tuple(sorted(ballots.values()))
    coin = 0.5 if n <= MOST_AT_ONCE else min(k / n, 1 - 1e-9)
    return round(float(_curve(own, others, n, coin)[k]), 12)  # what is certain is exactly 0 or 1


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n paths, drawn without replacement, hold a right one.

    ``c`` of the n paths are right. The unbiased estimator ``1 - C(n-c, k) / C(n, k)`` of Chen et
    al. 2021 (arXiv:2107.03374, equation 1), as a product because the binomials overflow.
    """
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def curve_ks(n: int) -> list[int]:
    """Values of k for a curve over n paths: 1, 2, 4, ... and n itself; none for no paths."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n] if n > 0 else []


@lru_cache(maxsize=4096)  # many questions have equal counts, and a curve asks for every k
def _curve(own: int, others: tuple[int, ...], n: int, coin: float) -> Floats:
    """Expected score for every number of paths drawn, 0 to n.

    Each path is taken by the toss of a coin; given how many were taken, all such draws are equally
    likely. So the score is the coefficient of x^k in a product of polynomials, one per answer,
    whose coefficients are binomial probabilities. Gold wins with v votes if no other answer has
    more. If t others have v too, it scores 1 / (t + 1), the integral of y^t from 0 to 1. So each
    tie gets a factor y, and Gauss-Legendre quadrature integrates the product over y, exactly since
    it is a polynomial. Nothing is subtracted, so nothing cancels.
    """
    total: Floats = np.zeros(n + 1)
    for v in range(1, own + 1):
        rivals = [c for c in others if c >= v]
        free = _tosses(n - own - sum(rivals), coin)  # abstentions, and those too few to matter
        nodes, weights = _nodes(len(rivals) // 2 + 1)
        wins = np.zeros(n + 1 - own)
        for y, weight in zip(nodes, weights, strict=True):
            part = free
            for c in rivals:
                kept = _tosses(c, coin)[: v + 1] * np.append(np.ones(v), y)
                part = np.convolve(part, kept)
            wins[: len(part)] += weight * part
        total[v : v + len(wins)] += _tosses(own, coin)[v] * wins
    shown: Floats = total / np.maximum(_tosses(n, coin), np.finfo(float).tiny)
    return shown


@lru_cache(maxsize=512)
def _tosses(n: int, coin: float) -> Floats:
    """Chances of 0 to n heads in n tosses."""
    from scipy.stats import binom

    return np.asarray(binom.pmf(np.arange(n + 1), n, coin), dtype=np.float64)


@lru_cache(maxsize=64)
def _nodes(n: int) -> tuple[Floats, Floats]:
    """Nodes and weights in [0, 1] that integrate polynomials up to degree 2n - 1 exactly."""
    places, weights = np.polynomial.legendre.leggauss(n)
    return (places + 1) / 2, weights / 2
