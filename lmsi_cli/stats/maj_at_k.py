"""Scores over many paths of one question: of their vote, and of the best of them, for every k.

Knows answers as equal or unequal strings. All are expectations over drawing k of the n paths
without replacement, exact and so the same on every call:

    majority_at_k(["7", "7", "8"], "7", 2) -> 0.667   (7 7 scores 1, 7 8 a half, twice)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lmsi_cli.stats.intervals import Floats

MOST_AT_ONCE = 1000  # paths; a fair coin's probabilities underflow beyond


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


def majority_at_k(values: Sequence[str | None], gold: str, k: int) -> float:
    """Mean of ``majority_score`` over all ways to draw k of the paths: the unbiased maj@k.

    Args:
        values: Canonical answers, one per path; ``None`` abstains.
        gold: The right answer in the same canonical form.
        k: Paths drawn, 1 to as many as there are.
    """
    n = len(values)
    ballots = Counter(v for v in values if v is not None)
    own = ballots.pop(gold, 0)
    others = tuple(sorted(ballots.values()))
    coin = 0.5 if n <= MOST_AT_ONCE else min(k / n, 1 - 1e-9)
    return round(float(_curve(own, others, n, coin)[k]), 12)  # what is certain is exactly 0 or 1


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n paths, drawn without replacement, hold a right one.

    The unbiased estimator ``1 - C(n-c, k) / C(n, k)`` of Chen et al. 2021 (arXiv:2107.03374,
    equation 1), as a product because the binomials overflow.

    Args:
        n: Paths sampled, k or more; so there is no value for n = 0.
        c: Right ones among them, 0 to n.
        k: Paths drawn, 1 to n.
    """
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def curve_ks(n: int) -> list[int]:
    """Values of k for a curve over n paths: 1, 2, 4, ... and n itself; none for no paths."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n] if n > 0 else []


@lru_cache(maxsize=4096)  # questions repeat one another's counts, and a curve asks for every k
def _curve(own: int, others: tuple[int, ...], n: int, coin: float) -> Floats:
    """Expected score for every number of paths drawn, 0 to n.

    Each path is taken by the toss of a coin; given how many were taken, all such draws are equally
    likely. So the score is the coefficient of x^k in a product of polynomials, one per answer,
    whose coefficients are binomial probabilities. Gold wins with v votes where no other answer has
    more; t others with just v make it 1 / (t + 1), the integral of y^t from 0 to 1, so a tie is
    marked by y and the product is integrated over y by Gauss and Legendre's rule, which is exact
    for polynomials. Nothing is subtracted, so nothing cancels.
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
    """Places and weights in [0, 1] that integrate polynomials up to degree 2n - 1 exactly."""
    places, weights = np.polynomial.legendre.leggauss(n)
    return (places + 1) / 2, weights / 2
