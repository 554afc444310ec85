"""Every figure with an interval: accuracies, before/after comparisons, scores over many paths.

Pure functions from numbers to records. Knows nothing of models, files or what a question is, and
is the only place that makes an interval or a p-value, so that the terminal, the JSON and the
report show the same ones. All intervals are 95%, all values fractions of one.

    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmsi_cli.records import Interval, Paired

Floats: TypeAlias = NDArray[np.float64]

RESAMPLES = 10_000
RANK_RESAMPLES = 1000  # where each costs a sort or a draw per answer
BLOCK = 2_000_000  # resampled items held in memory at once (16 MB of indices)
Z_TWO_SIDED = 1.959964  # normal quantile of 0.975: a two-sided test at 5%
Z_POWER = 0.841621  # normal quantile of 0.80: 80% power
FEWEST_CHANGES = 6  # with 5, even five gains to none have p = 2 / 2**5 = 0.0625


def wilson(successes: int, n: int) -> Interval:
    """Share of successes with its Wilson score interval (Wilson 1927, JASA 22:209).

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
    return _interval(successes / n, float(ci.low), float(ci.high), n)


def mean_interval(values_per_question: ArrayLike) -> Interval:
    """Accuracy of one sampled path: the mean over questions of the share of right paths.

    Paths of one question are alike, so questions are the trials (clusters), not paths. The
    interval is Wilson's at the effective sample size ``mean (1 - mean) / squared standard
    error``, reduced for the t quantile (Franco et al. 2019, J. Surv. Stat. Methodol. 7:334). A
    plain t interval would leave [0, 1] and, where every question is right, shrink to a point.

    Args:
        values_per_question: One value in [0, 1] per question, each the mean over its paths.
            None at all gives value 0 in [0, 1].

    Raises:
        ValueError: A value is not within [0, 1].
    """
    values = _fractions(values_per_question)
    n = len(values)
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    mean = float(values.mean())
    return _interval(mean, *_score_bounds(mean, _effective_size(values)), n)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact two-sided p that the same questions are right equally often before and after.

    A sign test on the questions that changed (McNemar 1947, Psychometrika 12:153). 1 where none
    changed, so also for no questions.

    Raises:
        ValueError: The lengths differ.
    """
    changes = _changes(before, after)
    gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Paired:
    """Compare the same questions before and after; positive is better after.

    The interval is the percentile bootstrap over questions (Efron and Tibshirani 1993, chapter
    13). It is a point where all questions change alike, as when none does; ``smallest_visible``
    then says what that may hide. The p-value is exact McNemar where all values are 0 or 1, else
    a sign-flip permutation test of the differences (Fisher 1935), at least 1 / 10,001.

    Args:
        before: One value in [0, 1] per question.
        after: The values of the same questions, in the same order.
        seed: Of the resamples; swapping before and after flips the result exactly.

    Returns:
        With no questions: difference 0 in [-1, 1], p 1, smallest visible difference 1.

    Raises:
        ValueError: The lengths differ, or a value is not within [0, 1].
    """
    changes = _changes(before, after)
    n = len(changes)
    low, high = _bootstrap(changes, np.random.default_rng((seed, 0)))
    if np.isin([before, after], [0, 1]).all():
        p_value = mcnemar([v == 1 for v in before], [v == 1 for v in after])
    else:
        p_value = _sign_flip(changes, np.random.default_rng((seed, 1)))
    return Paired(
        difference=float(changes.mean()) if n else 0.0,
        low=low,
        high=high,
        n=n,
        gained=int((changes > 0).sum()),
        lost=int((changes < 0).sum()),
        p_value=p_value,
        smallest_visible=_smallest_visible(changes),
    )


def auroc(scores: Sequence[float], right: Sequence[bool], seed: int = 0) -> Interval | None:
    """Chance that a right question scores above a wrong one, ties counting half.

    The area under the ROC curve as the Mann-Whitney statistic; the interval is the percentile
    bootstrap over questions, resamples without both kinds left out.

    Args:
        scores: One number per question, higher meant to be better.
        right: Whether the question is right, in the same order.
        seed: Of the resamples.

    Returns:
        ``None`` where all questions are right or all are wrong.

    Raises:
        ValueError: The lengths differ.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    if x.shape != y.shape:
        raise ValueError(f"{len(x)} scores, {len(y)} marks")
    if y.all() or not y.any():
        return None
    rng = np.random.default_rng((seed, 2))
    picks = (rng.integers(0, len(x), len(x)) for _ in range(RANK_RESAMPLES))
    areas = [_area(x[i], y[i]) for i in picks if y[i].any() and not y[i].all()]
    low, high = np.percentile(areas, [2.5, 97.5])
    return _interval(_area(x, y), float(low), float(high), len(x))


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
    drawn = [_evenness(rng.multinomial(n, shares)) for _ in range(RANK_RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return _interval(value, 2 * value - float(high), 2 * value - float(low), n)


def majority_score(values: Sequence[str | None], gold: str) -> float:
    """Score of one question's vote: 1, 0, or the gold answer's part of a tie for first place.

    A tie is scored as the mean over the tied answers, which is what drawing one of them would
    give on average (NVIDIA NeMo-Skills, ``majority@k``).

    Args:
        values: Canonical answers, one per path; ``None`` (unparsed, truncated) abstains. 0 where
            all abstain or there are none.
        gold: The right answer in the same canonical form.
    """
    ballots = Counter(v for v in values if v is not None)
    if not ballots:
        return 0.0
    most = max(ballots.values())
    winners = [answer for answer, votes in ballots.items() if votes == most]
    return 1.0 / len(winners) if gold in winners else 0.0


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n paths, drawn without replacement, hold a right one.

    The unbiased estimator ``1 - C(n-c, k) / C(n, k)`` of Chen et al. 2021 (arXiv:2107.03374,
    equation 1), as a product because the binomials overflow.

    Args:
        n: Paths sampled, k or more; so there is no value for n = 0.
        c: Right ones among them, 0 to n.
        k: Paths drawn, 1 to n.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, got {n=}, {c=}, {k=}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def _area(scores: Floats, right: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    positive = int(right.sum())
    above = float(rankdata(scores)[right].sum()) - positive * (positive + 1) / 2
    return above / (positive * (len(right) - positive))


def _evenness(counts: NDArray[np.int64]) -> float:
    n = counts.sum()
    shares = counts[counts > 0] / n
    return min(1.0, float(-(shares * np.log(shares)).sum()) / math.log(n))


def _interval(value: float, low: float, high: float, n: int) -> Interval:
    """Build the record, so that rounding never leaves the value outside its own interval."""
    low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Interval(value=value, low=low, high=high, n=n)


def _fractions(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not bool(((array >= 0) & (array <= 1)).all()):  # also refuses NaN
        raise ValueError("values must lie within [0, 1]")
    return array


def _changes(before: ArrayLike, after: ArrayLike) -> Floats:
    """Subtract per question; positive where the question got better."""
    old, new = _fractions(before), _fractions(after)
    if old.shape != new.shape:
        raise ValueError(f"{len(old)} values before, {len(new)} after")
    return np.asarray(new - old, dtype=np.float64)


def _effective_size(values: Floats) -> float:
    """Yes/no trials that would give the mean the precision it has.

    The spread is taken with two right and two wrong questions added (after Agresti and Coull
    1998, Am. Stat. 52:119): a hundred questions that are all right prove no spread of zero.
    """
    from scipy.special import stdtrit

    padded = np.concatenate([values, [0.0, 0.0, 1.0, 1.0]])
    mean, spread = float(padded.mean()), float(padded.var(ddof=1))
    t = float(stdtrit(len(padded) - 1, 0.975))
    return len(values) * mean * (1 - mean) / spread * (Z_TWO_SIDED / t) ** 2


def _score_bounds(share: float, n: float) -> tuple[float, float]:
    """Wilson's bounds for a real-valued n, which scipy does not take."""
    z2 = Z_TWO_SIDED**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return centre - half, centre + half


def _bootstrap(changes: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Find the 2.5% and 97.5% points of the mean over resampled questions."""
    n = len(changes)
    if n == 0:
        return -1.0, 1.0
    rows = max(1, BLOCK // n)
    means = [
        changes[rng.integers(0, n, size=(min(rows, RESAMPLES - done), n))].mean(axis=1)
        for done in range(0, RESAMPLES, rows)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _sign_flip(changes: Floats, rng: np.random.Generator) -> float:
    """Two-sided p that the changes are as likely up as down, by 10,000 random flips.

    Changes of one size are interchangeable, so the number that point up is drawn per size.
    """
    sizes, counts = np.unique(np.abs(changes[changes != 0]).round(12), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    seen = abs(float(changes.sum()))
    rows = max(1, BLOCK // len(sizes))
    extreme = 0
    for done in range(0, RESAMPLES, rows):
        ups = rng.binomial(counts, 0.5, size=(min(rows, RESAMPLES - done), len(sizes)))
        sums = np.abs((2 * ups - counts) @ sizes)
        extreme += int((sums >= seen - 1e-9).sum())
    return (1 + extreme) / (1 + RESAMPLES)  # the observed signs are one of the flips


def _smallest_visible(changes: Floats) -> float:
    """Find the smallest true difference that this set would have shown in 4 of 5 repeats.

    Connor 1987 (Biometrics 43:207) for McNemar at two-sided 5% and 80% power, solved for the
    difference d at n questions of which a share s changes:
    ``sqrt(n) d = 1.96 sqrt(s) + 0.84 sqrt(s - d^2)``. As s is only observed, it is taken as no
    smaller than the share a visible difference needs (all changes going one way, s = d, about
    7.9 / n); so 0 changes in 100 questions still give 0.076, not 0. Changes smaller than one
    scale the result by their root mean square. 1 below six questions: no test can tell.
    """
    n, moved = len(changes), changes[changes != 0]
    if n < FEWEST_CHANGES:
        return 1.0
    least = 1.0
    for _ in range(100):  # fixed point of s = d; converges within a few dozen steps from n = 6 on
        least = min(1.0, (Z_TWO_SIDED + Z_POWER * math.sqrt(1 - least)) ** 2 / n)
    share = max(len(moved) / n, least)
    size = float(np.sqrt((moved**2).mean())) if len(moved) else 1.0
    root = Z_POWER * math.sqrt(share * (n - Z_TWO_SIDED**2 + Z_POWER**2))
    return min(1.0, size * (Z_TWO_SIDED * math.sqrt(share * n) + root) / (n + Z_POWER**2))
