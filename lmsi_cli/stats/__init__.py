"""Every figure with an interval: accuracies, comparisons, votes over paths, confidence.

Pure functions from numbers to records. Knows nothing of models, files or what a question is, and
is the only place that makes an interval or a p-value, so that the terminal, the JSON and the
report show the same ones. All intervals are 95%, all values fractions of one.
``docs/evaluation.md`` explains each choice and its measured coverage.

    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
"""

from lmsi_cli.stats.intervals import (
    Bin,
    Groups,
    auroc,
    curve_ks,
    ece,
    majority_at_k,
    majority_score,
    mean_interval,
    pass_at_k,
    reliability,
    score_interval,
    wilson,
)
from lmsi_cli.stats.paired_tests import MOVED_SHARE, holm, paired, smallest_visible

__all__ = [
    "MOVED_SHARE",
    "Bin",
    "Groups",
    "auroc",
    "curve_ks",
    "ece",
    "holm",
    "majority_at_k",
    "majority_score",
    "mean_interval",
    "paired",
    "pass_at_k",
    "reliability",
    "score_interval",
    "smallest_visible",
    "wilson",
]
