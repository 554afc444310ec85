"""Every figure with an interval: accuracies, comparisons, votes over paths, confidence.

Pure functions from numbers to records. Knows nothing of models, files or what a question is, and
is the only place that makes an interval or a p-value, so that the terminal, the JSON and the
report show the same ones. All intervals are 95%, all values fractions of one. Why each is what it
is, and what it was measured to keep, is told in ``docs/statistics.md``.

    wilson(8, 10) -> Interval(value=0.8, low=0.490, high=0.943, n=10)
"""

from lmsi_cli.stats.basics import Groups
from lmsi_cli.stats.calibration import Bin, Brier, brier, ece, reliability
from lmsi_cli.stats.pairs import mcnemar, paired
from lmsi_cli.stats.paths import curve_ks, majority_at_k, majority_score, pass_at_k
from lmsi_cli.stats.planning import MOVED_SHARE, smallest_visible
from lmsi_cli.stats.ranking import (
    Inversion,
    RiskCoverage,
    RiskPoint,
    auroc,
    inversion,
    risk_coverage,
)
from lmsi_cli.stats.several import Replicates, evenness, holm, replicates
from lmsi_cli.stats.shares import clopper_pearson, mean_interval, wilson

__all__ = [
    "MOVED_SHARE",
    "Bin",
    "Brier",
    "Groups",
    "Inversion",
    "Replicates",
    "RiskCoverage",
    "RiskPoint",
    "auroc",
    "brier",
    "clopper_pearson",
    "curve_ks",
    "ece",
    "evenness",
    "holm",
    "inversion",
    "majority_at_k",
    "majority_score",
    "mcnemar",
    "mean_interval",
    "paired",
    "pass_at_k",
    "reliability",
    "replicates",
    "risk_coverage",
    "smallest_visible",
    "wilson",
]
