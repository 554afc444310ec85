"""Figures of several runs and sets: seeds as replicates, many tests at once, how even answers are.

Knows nothing of what was repeated.

    holm([0.01, 0.04, 0.03]) -> [0.03, 0.06, 0.06]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.records import Interval, Record
from lmsi_cli.stats.basics import interval

RESAMPLES = 1000


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
    mean = statistics.fmean(values)
    sd = statistics.stdev(values) if n > 1 else None
    half = _t_quantile(n - 1) * sd / math.sqrt(n) if sd is not None else None
    return Replicates(
        mean=mean,
        low=mean - half if half is not None else None,
        high=mean + half if half is not None else None,
        sd=sd,
        smallest=min(values),
        largest=max(values),
        n=n,
    )


def _t_quantile(df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests, so that the chance of any false finding keeps its level.

    Step-down Bonferroni (Holm 1979, Scand. J. Stat. 6:65); needs no independence.

    Args:
        p_values: Each in [0, 1].

    Returns:
        The adjusted values in the given order, to be held against the same 5%.

    Raises:
        ValueError: A value is not within [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("p-values must lie within [0, 1]")
    adjusted, highest, n = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, i in enumerate(sorted(range(n), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (n - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def evenness(counts: Sequence[int], seed: int = 0) -> Interval:
    """Entropy of a distribution over answers as a share of its most: 1 if no two are the same.

    Shannon's entropy of the counts divided by the logarithm of their sum. A resample holds fewer
    kinds than the sample, as the sample holds fewer than its source; so the interval is the basic
    bootstrap (Davison and Hinkley 1997, section 5.2), which turns that bias around.

    Args:
        counts: How often each answer occurs, each at least 1.
        seed: Of the resamples.

    Returns:
        With fewer than two items: value 0 in [0, 1].
    """
    n = int(sum(counts))
    if n < 2:
        return Interval(value=0.0, low=0.0, high=1.0, n=n)
    rng, shares = np.random.default_rng((seed, 3)), np.asarray(counts) / n
    value = _evenness(np.asarray(counts))
    drawn = [_evenness(rng.multinomial(n, shares)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return interval(value, 2 * value - float(high), 2 * value - float(low), n)


def _evenness(counts: NDArray[np.int64]) -> float:
    n = counts.sum()
    shares = counts[counts > 0] / n
    return min(1.0, float(-(shares * np.log(shares)).sum()) / math.log(n))
