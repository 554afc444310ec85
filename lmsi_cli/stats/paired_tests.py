"""The same questions before and after: the difference, its interval, its p-value, and the power.

Knows nothing of what happened in between; only ``holm`` knows of several comparisons.
``smallest_visible`` says what a set of questions could show, before anything is run.

    paired([0, 0, 1, 1], [1, 0, 1, 1])
    -> Paired(difference=0.25, gained=1, lost=0, p_value=1.0, ...)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.records import Paired
from lmsi_cli.stats.intervals import Floats, Groups, cluster_sums

RESAMPLES = 10_000
FINEST = 64  # multiples of 1 / n for an n up to this are counted exactly, not simulated
TINY = 1e-12  # a change up to this is only rounding
MOST_STEPS = 20_000_000  # additions that an exact sign-flip test may take (some 20 ms)
POWER = 0.8
LEVEL = 0.05
# Share of questions whose greedy answer changed between right and wrong by training: 0 to 21% in
# this project's own runs (benchmarks/results/verdict.json); a larger share plans more carefully.
MOVED_SHARE = 0.2
STEP = 1e-4  # a hundredth of a point is finer than anyone plans


def paired(
    before: Sequence[float], after: Sequence[float], seed: int = 0, groups: Groups = None
) -> Paired:
    """Compare the same questions before and after; positive is better after.

    The interval is the bootstrap over questions (Efron and Tibshirani 1993, chapter 13), with wider
    tails for few questions. It resamples the changes and two more of typical size, one up and one
    down (after Bonett and Price 2012, J. Educ. Behav. Stat. 37:479). Without those two it is far
    too narrow where few questions change, and a point where none does.

    The p-value is exact McNemar where all values are 0 or 1, else a sign-flip permutation test of
    the differences (Fisher 1935): exact where they are multiples of one part in up to 64, otherwise
    by 10,000 random flips.

    Where questions come in clusters, whole clusters are resampled (Davison and Hinkley 1997,
    section 3.8) and whole clusters change sign: a cluster's questions may go up or down together,
    and count as one.

    Values are in [0, 1]. ``seed`` is that of the resamples; swapping before and after flips the
    result exactly. ``groups`` has the cluster of each question; without, each is its own. With no
    questions: difference 0 in [-1, 1], p 1, smallest visible difference 1.
    """
    changes = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    sums, sizes = cluster_sums(changes, groups)
    n = len(changes)
    low, high = _bootstrap(sums, sizes, np.random.default_rng((seed, 0)))
    return Paired(
        difference=float(changes.mean()) if n else 0.0,
        low=low,
        high=high,
        n=n,
        gained=int((changes > 0).sum()),
        lost=int((changes < 0).sum()),
        p_value=_sign_flip(sums, np.random.default_rng((seed, 1))),
        smallest_visible=_smallest_visible(changes, sums, sizes),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests, so that the chance of any false finding keeps its level.

    Step-down Bonferroni (Holm 1979, Scand. J. Stat. 6:65); needs no independence. Written out,
    since scipy's ``false_discovery_control`` controls another rate. The adjusted values are in the
    given order, to be compared with the same 5%.
    """
    steps = [(q, (len(p_values) - rank) * q) for rank, q in enumerate(sorted(p_values))]
    return [min(1.0, max(step for q, step in steps if q <= p)) for p in p_values]


def _bootstrap(sums: Floats, sizes: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Find the bounds of the mean over resampled clusters, two pseudo-clusters among them.

    Clusters of equal sum and size are interchangeable, so only the count of each kind is drawn.
    """
    from scipy.special import ndtr, stdtrit

    if len(sums) == 0:
        return -1.0, 1.0
    moved, size = (sums / sizes)[np.abs(sums) > TINY], float(sizes.mean())
    if len(moved) and moved[0] < 0:  # so that swapping before and after flips the result exactly
        low, high = _bootstrap(-sums, sizes, rng)
        return -high, -low
    typical = size * (float(np.sqrt((moved**2).mean())) if len(moved) else 1.0)
    pairs = np.array([np.append(sums, [typical, -typical]), np.append(sizes, [size, size])])
    kinds, counts = np.unique(pairs.round(12), axis=1, return_counts=True)
    n, mean = int(counts.sum()), float(sums.sum() / sizes.sum())
    drawn = rng.multinomial(n, counts / n, size=RESAMPLES)
    # What is cut off at each end is 2.5% for many items. For few it is less, since a resample's
    # spread is divided by n, not by n - 1, and since Student's quantile is beyond the normal one
    # (Hesterberg 2015, Am. Stat. 69:371, section 5.3).
    cut = 100 * float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
    low, high = np.percentile((drawn @ kinds[0]) / (drawn @ kinds[1]), [cut, 100 - cut])
    return min(float(low), mean), max(float(high), mean)


def _sign_flip(changes: Floats, rng: np.random.Generator) -> float:
    """Two-sided p-value of the hypothesis that changes go up and down equally often."""
    sizes = np.abs(changes[np.abs(changes) > TINY])
    if len(sizes) == 0:
        return 1.0
    seen = abs(float(changes.sum()))
    for parts in range(1, FINEST + 1):
        steps = sizes * parts
        if np.allclose(steps, steps.round(), rtol=0, atol=1e-9):
            whole = steps.round().astype(np.int64)
            if len(whole) * int(whole.sum()) <= MOST_STEPS:
                return _all_flips(whole, round(seen * parts))
            break
    return _random_flips(sizes, seen, rng)


def _all_flips(sizes: NDArray[np.int64], seen: int) -> float:
    """Share of all sign patterns whose sum is at least as far from zero as the one seen."""
    chances, total = np.ones(1), int(sizes.sum())
    for size in sizes:  # the sum of those that point up
        longer = np.zeros(len(chances) + size)
        longer[: len(chances)] += chances / 2
        longer[size:] += chances / 2
        chances = longer
    far = np.abs(2 * np.arange(total + 1) - total) >= seen
    return min(1.0, float(chances[far].sum()))


def _random_flips(changes: Floats, seen: float, rng: np.random.Generator) -> float:
    """The same from 10,000 random patterns and the one seen.

    Changes of equal size are interchangeable, so only the number that point up is drawn per size.
    """
    sizes, counts = np.unique(changes.round(12), return_counts=True)
    ups = rng.binomial(counts, 0.5, size=(RESAMPLES, len(sizes)))
    sums = np.abs((2 * ups - counts) @ sizes)
    return (1 + int((sums >= seen - 1e-9).sum())) / (1 + RESAMPLES)


def _smallest_visible(changes: Floats, sums: Floats, sizes: Floats) -> float:
    """Find the smallest true difference that this set would have shown in 4 of 5 repeats.

    The share of questions that changed is taken as seen. Clusters count as the number of questions
    that would give the difference the same precision, never as more than there are. Changes smaller
    than one scale the result by their root mean square.
    """
    n, moved = len(changes), changes[np.abs(changes) > TINY]
    if len(moved) == 0:
        return smallest_visible(len(sums), 0.0)
    means = sums - sizes * changes.mean()
    spread, clustered = float(((changes - changes.mean()) ** 2).sum()), float((means**2).sum())
    worth = n * min(1.0, spread / clustered) if clustered > TINY else len(sums)
    size = float(np.sqrt((moved**2).mean()))
    return min(1.0, size * smallest_visible(math.floor(worth), round(len(moved) / n, 3)))


@lru_cache(maxsize=1024)
def smallest_visible(n: int, moved_share: float = MOVED_SHARE) -> float:
    """Smallest true difference that exact McNemar at 5% shows in at least 4 of 5 repeats.

    The power is exact, summed over how many questions change and how many of them for the better
    (the approximation of Connor 1987, Biometrics 43:207, promises too much for few questions). A
    difference needs changes: if it is larger than ``moved_share``, that many questions are taken to
    change, all one way. ``moved_share`` of the questions change between right and wrong, either
    way; the fewer do, the smaller the difference that shows. 1 below six questions: no test can
    tell.
    """
    if mcnemar_power(n, 1.0, 1.0) < POWER:
        return 1.0
    steps = range(1, round(1 / STEP) + 1)
    found = bisect_left(
        steps,
        POWER,
        hi=len(steps) - 1,
        key=lambda step: mcnemar_power(n, max(moved_share, step * STEP), step * STEP),
    )
    return round(steps[found] * STEP, 4)


def mcnemar_power(n: int, moved_share: float, difference: float) -> float:
    """Chance that exact McNemar at 5% is significant, in either direction, over n questions.

    ``moved_share`` is the chance that a question changes, above 0; ``difference`` that of a gain
    minus that of a loss, no larger than ``moved_share``.
    """
    from scipy.stats import binom

    moved = np.arange(n + 1)
    chance = binom.pmf(moved, n, moved_share)
    moved, chance = moved[chance > 1e-12], chance[chance > 1e-12]
    needed = binom.isf(LEVEL / 2, moved, 0.5) + 1  # gains; fewest with a tail of 2.5% or less
    up = 0.5 + difference / moved_share / 2
    seen = binom.sf(needed - 1, moved, up) + binom.cdf(moved - needed, moved, up)
    return float(chance @ seen)
