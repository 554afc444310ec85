"""The line that decides on parts of the questions: who gained where.

Knows labels and scores; the labels come from ``confidence.strata_of``.

    strata({"family": {"t1": "halves", ...}}, ["t1", ...], {"base": [1.0, ...]})
    -> (Stratum(by="family", name="halves", n=12, accuracy={"base": Interval(...)}), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.report.figures import Clusters, accuracy
from lmsi_cli.report.results import Stratum


def strata(
    labels: Mapping[str, Mapping[str, str]],
    ids: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    clusters: Clusters = None,
) -> Iterator[Stratum]:
    """Figures per part.

    Args:
        labels: Per kind of part the label of each question that has one.
        ids: The questions, in the order of scores and clusters.
        scores: Per model one score per question.
        clusters: Each question's cluster, if they have any.
    """
    for by, own in labels.items():
        for name in sorted(set(own.values())):
            places = [i for i, q in enumerate(ids) if own.get(q) == name]
            groups = [clusters[i] for i in places] if clusters else None
            figures = {m: accuracy([row[i] for i in places], groups) for m, row in scores.items()}
            yield Stratum(by=by, name=name, n=len(places), accuracy=figures)
