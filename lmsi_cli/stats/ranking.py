"""Does higher confidence mean right more often? AUROC, risk against coverage, the inversion.

Only the order of the confidences counts, and ties are ties.

    auroc([0.9, 0.4, 0.8], [True, False, False]) -> Interval(value=1.0, ..., n=3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmsi_cli.records import Interval, Record
from lmsi_cli.stats.basics import Z_TWO_SIDED, Floats, alike, interval
from lmsi_cli.stats.calibration import BINS, Bin, reliability

RESAMPLES = 1000
PERMUTATIONS = 10_000
LEVEL = 0.05


class RiskPoint(Record, frozen=True, kw_only=True):
    """Answering only where the confidence is at least ``threshold``: how many, how many wrong."""

    threshold: float
    coverage: float
    risk: float
    n: int


class RiskCoverage(Record, frozen=True, kw_only=True):
    """Risk against coverage, from the most confident question to all of them.

    ``aurc`` is the mean risk over all coverages, 0 at best; ``chance`` is what it is where
    confidence tells nothing, ``best`` where every right question stands above every wrong one.
    """

    points: tuple[RiskPoint, ...]
    aurc: Interval
    chance: float
    best: float


class Inversion(Record, frozen=True, kw_only=True):
    """Whether accuracy falls while confidence rises, beyond chance.

    ``lower`` and ``upper`` are the two ranges of confidence that contradict each other most, where
    any do; ``overall`` says that the whole order is upside down (AUROC clear below one half).
    """

    found: bool
    p_value: float
    overall: bool
    lower: Bin | None = None
    upper: Bin | None = None


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
    x, y = _marked(scores, right)
    if y.all() or not y.any():
        return None
    table = _levels(x, y).astype(np.float64)
    padded = table.copy()
    for end in (0, -1):
        padded[:, end] += 0.5
    return interval(float(_area(table)), *_area_bounds(padded), len(x))


def risk_coverage(
    confidence: Sequence[float], right: Sequence[bool], seed: int = 0
) -> RiskCoverage | None:
    """Risk of answering only the questions of highest confidence, and the area under that curve.

    El-Yaniv and Wiener 2010 (JMLR 11:1605); AURC as in Geifman et al. 2019 (arXiv:1805.08206).
    Questions of equal confidence are answered all or none in ``points``; in the area they come in
    random order, in expectation. The interval is the percentile bootstrap.

    Returns:
        ``None`` without questions.

    Raises:
        ValueError: The lengths differ.
    """
    x, y = _marked(confidence, right)
    n = len(x)
    if n == 0:
        return None
    levels, table = np.unique(-x.round(9)), _levels(x, y)[:, ::-1]
    low, high = np.percentile(
        _aurc(_resampled(table, np.random.default_rng((seed, 5)))), [2.5, 97.5]
    )
    return RiskCoverage(
        points=_points(-levels, table),
        aurc=interval(float(_aurc(table)), float(low), float(high), n),
        chance=float(1 - y.mean()),
        best=float(_aurc(_levels(y.astype(np.float64), y)[:, ::-1])),
    )


def inversion(
    confidence: Sequence[float], right: Sequence[bool], bins: int = BINS, seed: int = 0
) -> Inversion:
    """Test whether accuracy ever falls while confidence rises, more than chance makes it.

    The statistic is the likelihood ratio of the accuracies per range against the closest ones that
    never fall (isotonic regression; Barlow et al. 1972, chapter 3). Its null distribution is that
    where all ranges are equally right, by permuting the marks: the case nearest to an inversion
    that is none (Robertson et al. 1988, section 2.3), so the test is shy where accuracy does rise.

    Args:
        confidence: One value in [0, 1] per question.
        right: Whether the question is right, in the same order.
        bins: Ranges of confidence.
        seed: Of the permutations.

    Raises:
        ValueError: The lengths differ, or a confidence is not within [0, 1].
    """
    _, y = _marked(confidence, right)
    table = reliability(confidence, y.tolist(), bins)
    sizes = np.array([b.n for b in table], dtype=np.int64)
    counts = np.array([round(b.accuracy.value * b.n) for b in table], dtype=np.int64)
    pair = _worst_pair(sizes, counts)
    if pair is None:
        return Inversion(found=False, p_value=1.0, overall=False)
    rng = np.random.default_rng((seed, 6))
    drawn = rng.multivariate_hypergeometric(sizes, int(counts.sum()), size=PERMUTATIONS)
    seen = _fall(sizes, counts[None])[0]
    p_value = (1 + int((_fall(sizes, drawn) >= seen - 1e-9).sum())) / (1 + PERMUTATIONS)
    area = auroc(confidence, y.tolist())
    return Inversion(
        found=p_value < LEVEL,
        p_value=p_value,
        overall=area is not None and area.high < 0.5,
        lower=table[pair[0]],
        upper=table[pair[1]],
    )


def _marked(scores: ArrayLike, right: Sequence[bool]) -> tuple[Floats, NDArray[np.bool_]]:
    x, y = alike(scores, np.asarray(right, dtype=bool), ("scores", "marks"))
    return x, y.astype(bool)


def _levels(x: Floats, y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Right and wrong questions (two rows) per distinct score, from low to high."""
    levels, index = np.unique(x.round(9), return_inverse=True)
    counts = [np.bincount(index[z], minlength=len(levels)) for z in (y, ~y)]
    return np.array(counts, dtype=np.int64)


def _resampled(table: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Tables of as many questions drawn with replacement: right and wrong, resample, level."""
    n, levels = int(table.sum()), table.shape[1]
    drawn = rng.multinomial(n, table.ravel() / n, size=RESAMPLES)
    split: NDArray[np.int64] = np.stack([drawn[:, :levels], drawn[:, levels:]])
    return split


def _area(table: NDArray[Any]) -> Floats:
    """Share of pairs of a right and a wrong question in order; levels run from low to high."""
    right, wrong = table.astype(np.float64)
    above = (right * (wrong.cumsum(axis=-1) - wrong / 2)).sum(axis=-1)
    share: Floats = above / (right.sum(axis=-1) * wrong.sum(axis=-1))
    return share


def _area_bounds(table: Floats) -> tuple[float, float]:
    """DeLong's 95% bounds of the area, through log odds."""
    right, wrong = table
    area, positive, negative = float(_area(table)), right.sum(), wrong.sum()
    above = (wrong.cumsum() - wrong / 2) / negative  # of a right question: wrong ones below it
    below = (positive - right.cumsum() + right / 2) / positive
    spread = (right @ (above - area) ** 2) / (positive * (positive - 1))
    spread += (wrong @ (below - area) ** 2) / (negative * (negative - 1))
    odds, half = math.log(area / (1 - area)), Z_TWO_SIDED * math.sqrt(spread)
    half /= area * (1 - area)
    return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))


def _points(levels: Floats, table: NDArray[np.int64]) -> tuple[RiskPoint, ...]:
    wrong, n = table[1].cumsum(), table.sum(axis=0).cumsum()
    return tuple(
        RiskPoint(threshold=float(t), coverage=float(k / n[-1]), risk=float(w / k), n=int(k))
        for t, k, w in zip(levels, n, wrong, strict=True)
    )


def _aurc(table: NDArray[np.int64]) -> Floats:
    """Mean over i of the share of errors among the i most confident; levels from high to low.

    Within a level of c questions and e errors, after N questions and E errors, the i-th adds
    ``(E + i e/c) / (N + i)``; their sum is ``e + (E - N e/c) (H(N + c) - H(N))`` with harmonic
    numbers H.
    """
    from scipy.special import digamma

    errors, counts = table[1].astype(np.float64), table.sum(axis=0).astype(np.float64)
    n, wrong = counts.cumsum(axis=-1), errors.cumsum(axis=-1)
    rate = errors / np.maximum(counts, 1)
    harmonic = digamma(n + 1) - digamma(n - counts + 1)
    each = errors + (wrong - errors - (n - counts) * rate) * harmonic
    area: Floats = each.sum(axis=-1) / n[..., -1]
    return area


def _worst_pair(sizes: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[int, int] | None:
    """The two ranges whose accuracies fall the most standard errors apart."""
    shares, worst, found = right / np.maximum(sizes, 1), 1e-9, None
    for i in range(len(sizes)):
        for j in range(i + 1, len(sizes)):
            pooled = (right[i] + right[j]) / (sizes[i] + sizes[j])
            spread = pooled * (1 - pooled) * (1 / sizes[i] + 1 / sizes[j])
            if shares[i] > shares[j] and (shares[i] - shares[j]) / spread**0.5 > worst:
                worst, found = (shares[i] - shares[j]) / spread**0.5, (i, j)
    return found


def _fall(sizes: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
    """Likelihood ratio of free accuracies against those that never fall, one per row."""
    from scipy.special import xlogy

    fit, free, wrong = _isotonic(sizes, right), right / sizes, sizes - right
    gain = xlogy(right, free) - xlogy(right, fit) + xlogy(wrong, 1 - free) - xlogy(wrong, 1 - fit)
    ratio: Floats = 2 * gain.sum(axis=1)
    return ratio


def _isotonic(sizes: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
    """The closest accuracies that never fall: the largest over starts of the smallest mean."""
    n, bins = np.append(0, sizes.cumsum()), len(sizes)
    sums = np.pad(right.cumsum(axis=1), ((0, 0), (1, 0)))
    fit = np.empty(right.shape)
    for i in range(bins):
        least = [
            np.min([(sums[:, k] - sums[:, j]) / (n[k] - n[j]) for k in range(i + 1, bins + 1)], 0)
            for j in range(i + 1)
        ]
        fit[:, i] = np.max(least, axis=0)
    return fit
