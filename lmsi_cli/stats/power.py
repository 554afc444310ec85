"""What a set of questions could show, before anything is run.

Knows the exact McNemar test and its power; no data.

    smallest_visible(300, 0.2) -> 0.0745   (7.5 points)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

POWER = 0.8
LEVEL = 0.05
# Share of questions whose greedy answer changed between right and wrong by training: 0 to 21% in
# this project's own runs (benchmarks/results/verdict.json); more makes for a more careful plan.
MOVED_SHARE = 0.2
STEP = 1e-4  # a hundredth of a point is finer than anyone plans


@lru_cache(maxsize=1024)
def smallest_visible(n: int, moved_share: float = MOVED_SHARE) -> float:
    """Smallest true difference that exact McNemar at 5% shows in at least 4 of 5 repeats.

    The power is the exact one, summed over how many questions change and how many of them for the
    better (Connor 1987, Biometrics 43:207, has it as an approximation, which promises too much of
    few questions). A difference needs changes: where it is larger than ``moved_share``, that many
    questions are taken to change, all one way.

    Args:
        n: Questions.
        moved_share: Share of them whose answer changes between right and wrong, either way. The
            fewer change, the smaller the difference that shows.

    Returns:
        In (0, 1]; 1 below six questions: no test can tell.

    Raises:
        ValueError: ``n`` is negative, or ``moved_share`` not within [0, 1].
    """
    if n < 0 or not 0 <= moved_share <= 1:
        raise ValueError(f"needs n >= 0 and a share within [0, 1], got {n=}, {moved_share=}")
    least, enough = 0, round(1 / STEP)
    if mcnemar_power(n, 1.0, 1.0) < POWER:
        return 1.0
    while enough - least > 1:
        middle = (least + enough) // 2
        difference = middle * STEP
        seen = mcnemar_power(n, max(moved_share, difference), difference) >= POWER
        least, enough = (least, middle) if seen else (middle, enough)
    return round(enough * STEP, 4)


def mcnemar_power(n: int, moved_share: float, difference: float) -> float:
    """Chance that exact McNemar at 5% is significant, in either direction.

    Args:
        n: Questions.
        moved_share: Chance that a question changes, in (0, 1].
        difference: Chance of a gain minus that of a loss; no larger than ``moved_share``.
    """
    from scipy.stats import binom

    moved = np.arange(n + 1)
    chance = binom.pmf(moved, n, moved_share)
    moved, chance = moved[chance > 1e-12], chance[chance > 1e-12]
    needed = binom.isf(LEVEL / 2, moved, 0.5) + 1  # gains; fewest with a tail of 2.5% or less
    up = 0.5 + difference / moved_share / 2
    seen = binom.sf(needed - 1, moved, up) + binom.cdf(moved - needed, moved, up)
    return float(chance @ seen)
