"""How sure a figure is: shares and means of questions, seeds as replicates.

Knows numpy and the records; nothing of what a question is. A question's cluster is any label that
it shares with the questions it resembles: variants of one template, or several about one text.

    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmsi_cli.records import Interval, Record

Floats: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = Sequence[Hashable] | None

Z_TWO_SIDED = 1.959964  # normal quantile of 0.975: a two-sided test at 5%


class Replicates(Record, frozen=True, kw_only=True):
    """One figure from several seeds: their mean with its 95% t interval, and how far they differ.

    ``low``, ``high`` and ``sd`` are ``None`` for a single seed: nothing is known of the spread.
    """

    mean: float
    low: float | None
    high: float | None
    sd: float | None
    smallest: float
    largest: float
    n: int


def wilson(successes: int, n: int) -> Interval:
    """Share of successes with its Wilson score interval (Wilson 1927, JASA 22:209).

    It holds its 95% on average over the true shares; near 0 and 1 it may cover less.

    Args:
        successes: 0 to n.
        n: Independent yes/no trials; with none, nothing is known: value 0 in [0, 1].

    Raises:
        ValueError: ``successes`` is not within 0 to n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    from scipy.stats import binomtest

    ci = binomtest(successes, n).proportion_ci(method="wilson")
    return interval(successes / n, float(ci.low), float(ci.high), n)


def mean_interval(values: ArrayLike, groups: Groups = None) -> Interval:
    """Mean of one value per question: of a share of right paths, or of a score with ties.

    Paths of one question are alike, so questions are the trials, not paths; and where questions
    resemble each other, their clusters are. The interval is Wilson's at the effective sample size
    ``mean (1 - mean) / squared standard error``, reduced for the t quantile (Franco et al. 2019,
    J. Surv. Stat. Methodol. 7:334); the standard error is the cluster-robust one (Liang and Zeger
    1986, Biometrika 73:13; for evaluations Miller 2024, arXiv:2411.00640). A plain t interval
    would leave [0, 1] and, where every question is right, shrink to a point.

    Args:
        values: One value in [0, 1] per question. None at all gives value 0 in [0, 1].
        groups: The cluster of each question; without, each is its own.

    Raises:
        ValueError: A value is not within [0, 1], or there is not one label per value.
    """
    array = fractions(values)
    if len(array) == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    mean, size = float(array.mean()), _effective_size(*cluster_sums(array, groups))
    return interval(mean, *score_bounds(mean, size), len(array))


def score_interval(scores: ArrayLike, groups: Groups = None) -> Interval:
    """Mean score: ``wilson`` where all are 0 or 1 and none cluster, else ``mean_interval``."""
    array = np.asarray(scores, dtype=np.float64)
    if groups is None and bool(np.isin(array, [0, 1]).all()):
        return wilson(round(float(array.sum())), len(array))
    return mean_interval(array, groups)


def replicates(values: Sequence[float]) -> Replicates:
    """Mean over seeds with Student's t interval; the seeds are the trials, not the questions.

    It tells what another training would give on the same questions. It is not bound to [0, 1],
    since differences are averaged, too.

    Raises:
        ValueError: There are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no replicates")
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    sd = statistics.stdev(values) if n > 1 else None
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n) if sd is not None else None
    return Replicates(
        mean=mean,
        low=mean - half if half is not None else None,
        high=mean + half if half is not None else None,
        sd=sd,
        smallest=min(values),
        largest=max(values),
        n=n,
    )


def interval(value: float, low: float, high: float, n: int) -> Interval:
    """Build the record, so that rounding never leaves the value outside its own interval."""
    low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Interval(value=value, low=low, high=high, n=n)


def fractions(values: ArrayLike) -> Floats:
    """Take values in [0, 1].

    Raises:
        ValueError: A value is not.
    """
    array = np.asarray(values, dtype=np.float64)
    if not bool(((array >= 0) & (array <= 1)).all()):  # also refuses NaN
        raise ValueError("values must lie within [0, 1]")
    return array


def alike(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    """Take two sequences of one length; the second lies within [0, 1].

    Raises:
        ValueError: The lengths differ, or a value of the second is out of range.
    """
    x, y = np.asarray(first, dtype=np.float64), fractions(second)
    if x.shape != y.shape:
        raise ValueError(f"{len(x)} {names[0]}, {len(y)} {names[1]}")
    return x, y


def cluster_sums(values: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Sum of the values and number of questions per cluster, in the order of first sight.

    Without labels every question is its own.

    Raises:
        ValueError: There is not one label per value.
    """
    if groups is None:
        return values, np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} group labels, {len(values)} values")
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(g, len(place)) for g in groups], dtype=np.int64)
    sums = np.bincount(index, weights=values, minlength=len(place))
    return sums.astype(np.float64), np.bincount(index, minlength=len(place)).astype(np.float64)


def score_bounds(share: float, n: float) -> tuple[float, float]:
    """Wilson's bounds for a real-valued n, which scipy does not take."""
    z2 = Z_TWO_SIDED**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return centre - half, centre + half


def _effective_size(sums: Floats, sizes: Floats) -> float:
    """Yes/no trials that would give the mean the precision it has.

    The spread is taken with two right and two wrong clusters of mean size added (after Agresti and
    Coull 1998, Am. Stat. 52:119): a hundred questions that are all right prove no spread of zero.
    """
    from scipy.special import stdtrit

    n, size = float(sizes.sum()), float(sizes.mean())
    sums, sizes = np.append(sums, [0, 0, size, size]), np.append(sizes, [size] * 4)
    clusters, total = len(sizes), float(sizes.sum())
    mean = float(sums.sum()) / total
    squares = float(((sums - sizes * mean) ** 2).sum()) * clusters / (clusters - 1)
    t = float(stdtrit(clusters - 1, 0.975))
    return n * mean * (1 - mean) * total / squares * (Z_TWO_SIDED / t) ** 2
