"""Is a model's agreement with itself worth anything? From marked answers to confidence figures.

Knows sampled paths and gold answers; the statistics are in ``stats``. A question's confidence is
the share of its most frequent answer among the paths that gave one; it is right as its vote is, a
tie being shared out.

    confidence_of({"base": answers}, gold)
    -> Confidence(models={"base": Trust(questions=300, ece=0.12, ...)}, ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lmsi_cli.records import Paired
from lmsi_cli.report.formats import decimal
from lmsi_cli.report.results import Answer, Confidence, Trust
from lmsi_cli.stats import auroc, ece, majority_score, mean_interval, paired, reliability


class Ballot(NamedTuple):
    """One question's vote: the share of its first answer, and its score (0 to 1)."""

    share: float
    score: float


Ballots = Mapping[str, Ballot | None]  # by question id; None where no path gave an answer


def confidence_of(
    answers: Mapping[str, Sequence[Answer]], gold: Mapping[str, str], seed: int = 0
) -> Confidence | None:
    """Compute every figure of confidence.

    Args:
        answers: Per model its answers; only sampled paths (mode "sc") are read. The last model is
            compared with the first.
        gold: Canonical right answer per question.
        seed: Of the resamples.

    Returns:
        ``None`` where a model has no sampled path with an answer.
    """
    models = {name: ballots_of(a, gold) for name, a in answers.items()}
    if not models or not all(any(b is not None for b in m.values()) for m in models.values()):
        return None
    trusts = {name: _trust(m) for name, m in models.items()}
    first, *_, last = [*models.values()] * 2
    two = len(models) > 1
    return Confidence(
        models=trusts,
        surer=_change(first, last, 0, seed) if two else None,
        righter=_change(first, last, 1, seed) if two else None,
        findings=tuple(
            f"{name}: more agreement, fewer right answers. The order is upside down: AUROC "
            f"{decimal(t.auroc)}. Filters by share keep the wrong paths."
            for name, t in trusts.items()
            if t.auroc is not None and t.auroc.high < 0.5
        ),
    )


def ballots_of(answers: Iterable[Answer], gold: Mapping[str, str]) -> dict[str, Ballot | None]:
    """Vote of every question that has sampled paths, in the order of ``gold``."""
    values: dict[str, list[str | None]] = {}
    for a in answers:
        if a.mode == "sc" and a.question_id in gold:
            values.setdefault(a.question_id, []).append(a.predicted_answer)
    return {q: _ballot(values[q], gold[q]) for q in gold if q in values}


def _ballot(values: Sequence[str | None], gold: str) -> Ballot | None:
    counts = Counter(v for v in values if v is not None)
    if not counts:
        return None
    return Ballot(max(counts.values()) / counts.total(), majority_score(values, gold))


def _trust(ballots: Ballots) -> Trust:
    known = [b for b in ballots.values() if b is not None]
    shares, scores = [b.share for b in known], [b.score for b in known]
    table = reliability(shares, scores)
    return Trust(
        questions=len(known),
        silent=len(ballots) - len(known),
        confidence=sum(shares) / max(1, len(known)),
        accuracy=mean_interval(scores),
        reliability=table,
        ece=ece(table),
        auroc=auroc(shares, [s == 1 for s in scores]),  # to rank, a tie is not right
    )


def _change(first: Ballots, last: Ballots, field: int, seed: int) -> Paired:
    pairs = [(a, b) for q, a in first.items() if a is not None and (b := last.get(q)) is not None]
    return paired([a[field] for a, _ in pairs], [b[field] for _, b in pairs], seed)
