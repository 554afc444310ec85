"""Is a model's agreement with itself worth anything? From marked answers to confidence figures.

Knows sampled paths, gold answers and labels of questions; the statistics are in ``stats``, the
drawing in ``confidence_tables.py``. A question's confidence is the share of its most frequent
answer among the paths that gave one; it is right as its vote is, a tie being shared out.

    confidence_of({"base": answers}, gold, {"family": {"q1": "rates"}})
    -> Confidence(models={"base": Trust(questions=300, ece=Interval(value=0.12, ...), ...)}, ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.equations import equations
from lmsi_cli.records import Interval, Paired, Question, Record
from lmsi_cli.stats import (
    Bin,
    Brier,
    Inversion,
    RiskCoverage,
    auroc,
    brier,
    ece,
    holm,
    inversion,
    majority_score,
    mean_interval,
    paired,
    reliability,
    risk_coverage,
)

if TYPE_CHECKING:  # the comparison may hold these figures, so it is the one that imports
    from lmsi_cli.report.comparison import Answer

SMALL = 30  # questions; with fewer an interval spans some 35 points, and ranges are nearly empty
CLEAR = 0.05  # p below which an inversion is named
LENGTHS = ("short", "middle", "long")  # thirds of the questions by their number of words
MOST_STEPS = 6  # equations; more are one stratum


class Trust(Record, frozen=True, kw_only=True):
    """What one model's confidence is worth on some questions.

    ``silent`` questions have no path with an answer, so no confidence; they are in none of the
    other figures. ``auroc`` is None where all are right or all wrong; all is None or 0 in [0, 1]
    without questions.
    """

    questions: int
    silent: int
    confidence: float
    accuracy: Interval
    reliability: tuple[Bin, ...]
    ece: Interval
    brier: Brier | None
    auroc: Interval | None
    risk: RiskCoverage | None
    inversion: Inversion


class Stratum(Record, frozen=True, kw_only=True):
    """The questions that have one label in common, per model; ``small`` says what not to read."""

    by: str
    label: str
    questions: int
    small: bool
    models: dict[str, Trust]


class Confidence(Record, frozen=True, kw_only=True):
    """Everything about confidence on one data set.

    ``surer`` and ``righter`` compare the first model with the last on the questions for which both
    have a confidence: change of the confidence, change of the vote's score; None for one model.
    ``findings`` are sentences, the inversions by p-values corrected for all that were tested.
    """

    models: dict[str, Trust]
    strata: tuple[Stratum, ...]
    surer: Paired | None
    righter: Paired | None
    findings: tuple[str, ...]


class Ballot(NamedTuple):
    """One question's vote: the share of its first answer, and its score (0 to 1)."""

    share: float
    score: float


Ballots = Mapping[str, Ballot | None]  # by question id; None where no path gave an answer


def confidence_of(
    answers: Mapping[str, Sequence[Answer]],
    gold: Mapping[str, str],
    strata: Mapping[str, Mapping[str, str]],
    seed: int = 0,
) -> Confidence | None:
    """Compute every figure of confidence, for all questions and for each stratum.

    Args:
        answers: Per model its answers; only sampled paths (mode "sc") are read. The last model is
            compared with the first.
        gold: Canonical right answer per question.
        strata: Per kind of label ("family", "length", ...) the label of each question that has
            one; see ``strata_of``.
        seed: Of the resamples.

    Returns:
        ``None`` where a model has no sampled path with an answer.
    """
    models = {name: ballots_of(a, gold) for name, a in answers.items()}
    if not models or not all(any(b is not None for b in m.values()) for m in models.values()):
        return None
    whole = {name: _trust(m, seed) for name, m in models.items()}
    parts = tuple(_strata(models, strata, seed))
    first, *_, last = [*models.values()] * 2
    two = len(models) > 1
    return Confidence(
        models=whole,
        strata=parts,
        surer=_change(first, last, 0, seed) if two else None,
        righter=_change(first, last, 1, seed) if two else None,
        findings=tuple(_findings(whole, parts)),
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


def strata_of(
    questions: Iterable[Question], answers: Iterable[Answer]
) -> dict[str, dict[str, str]]:
    """Label questions by family, by length, and by the steps that their solutions take.

    Args:
        questions: Those of the data set.
        answers: Of one model, the base, so that both models' strata hold the same questions.

    Returns:
        Label by question id, per kind. The number of steps is the median number of equations over
        the sampled paths that gave an answer; questions without any have none.
    """
    asked = list(questions)
    found = {
        "family": {q.id: q.family for q in asked if q.family is not None},
        "length": _lengths(asked),
        "steps": _steps(answers),
    }
    return {by: labels for by, labels in found.items() if len(set(labels.values())) > 1}


def _lengths(questions: Sequence[Question]) -> dict[str, str]:
    """Cut by thirds; questions of equal length stay together."""
    words = {q.id: len(q.question.split()) for q in questions}
    ordered = sorted(words.values())
    cuts = [ordered[len(ordered) * i // 3] for i in (1, 2)] if ordered else []
    return {q: LENGTHS[sum(n >= c for c in cuts)] for q, n in words.items()}


def _steps(answers: Iterable[Answer]) -> dict[str, str]:
    counts: dict[str, list[int]] = {}
    for a in answers:
        if a.mode == "sc" and a.predicted_answer is not None:
            counts.setdefault(a.question_id, []).append(len(equations(a.text)))
    middle = {q: sorted(c)[len(c) // 2] for q, c in counts.items()}
    return {q: f"{n}" if n < MOST_STEPS else f"{MOST_STEPS} or more" for q, n in middle.items()}


def _trust(ballots: Ballots, seed: int) -> Trust:
    told = [b for b in ballots.values() if b is not None]
    shares, scores = [b.share for b in told], [b.score for b in told]
    right = [s == 1 for s in scores]  # to rank, a tie is not right
    return Trust(
        questions=len(told),
        silent=len(ballots) - len(told),
        confidence=sum(shares) / max(1, len(told)),
        accuracy=mean_interval(scores),
        reliability=reliability(shares, scores),
        ece=ece(shares, scores, seed=seed),
        brier=brier(shares, scores),
        auroc=auroc(shares, right),
        risk=risk_coverage(shares, right, seed),
        inversion=inversion(shares, right, seed=seed),
    )


def _strata(
    models: Mapping[str, Ballots], strata: Mapping[str, Mapping[str, str]], seed: int
) -> Iterator[Stratum]:
    for by, labels in strata.items():
        for label in sorted(set(labels.values())):
            own = {
                name: {q: b for q, b in m.items() if labels.get(q) == label}
                for name, m in models.items()
            }
            n = max(len(m) for m in own.values())
            if n:
                found = {name: _trust(m, seed) for name, m in own.items()}
                yield Stratum(by=by, label=label, questions=n, small=n < SMALL, models=found)


def _change(first: Ballots, last: Ballots, field: int, seed: int) -> Paired:
    pairs = [(a, b) for q, a in first.items() if a is not None and (b := last.get(q)) is not None]
    return paired([a[field] for a, _ in pairs], [b[field] for _, b in pairs], seed)


def _findings(whole: Mapping[str, Trust], strata: Sequence[Stratum]) -> Iterator[str]:
    """Inversions in words. Strata are tested together, and so is the whole: one family of tests."""
    tested = [(name, "", t) for name, t in whole.items()]
    for s in strata:
        tested += [(name, f"{s.by} {s.label}", t) for name, t in s.models.items() if not s.small]
    adjusted = holm([t.inversion.p_value for _, _, t in tested])
    for (name, where, trust), p in zip(tested, adjusted, strict=True):
        if p < CLEAR:
            yield inverted(f"{name}, {where}" if where else name, trust, p)


def inverted(who: str, trust: Trust, p: float) -> str:
    """Name an inversion: where, how much, and what follows."""
    i, area = trust.inversion, trust.auroc
    if i.lower is None or i.upper is None:
        raise ValueError("no ranges of confidence contradict each other")
    down, up = i.lower.accuracy, i.upper.accuracy
    whole = (
        f" The whole order is upside down: AUROC {area.value:.2f}." if area and i.overall else ""
    )
    return (
        f"{who}: more agreement, fewer right answers. With a share of {_range(i.upper)} "
        f"{_right(up)} are right, with {_range(i.lower)} {_right(down)} (p {p_words(p)} if "
        f"accuracy never fell).{whole if i.overall else ''} Filters by share keep the wrong paths."
    )


def _range(b: Bin) -> str:
    return f"{b.low:.1f} to {b.high:.1f}"


def _right(i: Interval) -> str:
    return f"{100 * i.value:.0f}% [{100 * i.low:.0f}, {100 * i.high:.0f}] of {i.n} questions"


def p_words(p: float) -> str:
    """A p-value in a sentence."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
