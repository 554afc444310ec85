"""How sure a share is: intervals of accuracies, with one or several paths per question.

Knows nothing of what a question is. All intervals are 95%, all values fractions of one.

    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from lmsi_cli.records import Interval
from lmsi_cli.stats.basics import Z_TWO_SIDED, Floats, Groups, cluster_sums, fractions, interval


def wilson(successes: int, n: int) -> Interval:
    """Share of successes with its Wilson score interval (Wilson 1927, JASA 22:209).

    It holds its 95% on average over the true shares; near 0 and 1 it may cover less. Where it must
    not, take ``clopper_pearson``.

    Args:
        successes: 0 to n.
        n: Independent yes/no trials; with none, nothing is known: value 0 in [0, 1].

    Raises:
        ValueError: ``successes`` is not within 0 to n.
    """
    return _proportion(successes, n, "wilson")


def clopper_pearson(successes: int, n: int) -> Interval:
    """Share of successes with its exact interval (Clopper and Pearson 1934, Biometrika 26:404).

    It covers at least 95% whatever the true share, and so is wider than Wilson's.

    Args:
        successes: 0 to n.
        n: Independent yes/no trials; with none, nothing is known: value 0 in [0, 1].

    Raises:
        ValueError: ``successes`` is not within 0 to n.
    """
    return _proportion(successes, n, "exact")


def _proportion(successes: int, n: int, method: str) -> Interval:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    from scipy.stats import binomtest

    ci = binomtest(successes, n).proportion_ci(method=method)
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
    n = len(array)
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    mean = float(array.mean())
    return interval(mean, *score_bounds(mean, _effective_size(*cluster_sums(array, groups))), n)


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


def score_bounds(share: float, n: float) -> tuple[float, float]:
    """Wilson's bounds for a real-valued n, which scipy does not take."""
    z2 = Z_TWO_SIDED**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return centre - half, centre + half
