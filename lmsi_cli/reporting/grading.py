"""From the marked answers of all models to one data set to its record.

Knows models by name and ways of drawing; the statistics are in ``stats``. Needs no engine, so
answers of another program are graded by the same code.

    base = Candidate("base", None, {})
    sittings = [(Way(0.0, 0, True), "base-test-greedy-1f.answers.jsonl", answers)]
    graded(Evaluation(data="test", questions=questions, ...), [(base, sittings)])
    -> Evaluation(data="test", variants=(...), ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.formats import decimal
from lmsi_cli.prompts import Task
from lmsi_cli.records import Mode, Question
from lmsi_cli.reporting.results import (
    Answer,
    Confidence,
    CurvePoint,
    Evaluation,
    Figure,
    Labelled,
    Rivalry,
    Stratum,
    Trust,
    Variant,
)
from lmsi_cli.reporting.rivals import rivalry
from lmsi_cli.stats import (
    auroc,
    curve_ks,
    ece,
    majority_at_k,
    majority_score,
    mean_interval,
    paired,
    pass_at_k,
    reliability,
    score_interval,
)

GREEDY_NAMES: dict[Mode, str] = {
    "direct": "direct",
    "cot": "CoT greedy",
    "cot-few": "CoT few-shot",
}
ORDER: tuple[Mode, ...] = ("direct", "cot", "cot-few", "sc")  # of the lines of a table
ONE = "one sampled path"

Answers = Mapping[str, Sequence[Answer]]  # question id -> its answers in one mode, by path number


class Way(NamedTuple):
    """How a sitting draws: at temperature 0, or sampled with a seed."""

    temperature: float
    seed: int
    greedy: bool

    def __str__(self) -> str:
        return "greedy" if self.greedy else f"t{self.temperature:g}-s{self.seed}"


class Candidate(NamedTuple):
    """Who answers: the base, or an adapter at a scale.

    ``identity`` holds hashes of all that could change the answers. A ``null`` one is a control,
    whose changes show what is no gain.
    """

    name: str
    adapter: str | None
    identity: Mapping[str, Any]
    scale: float = 1.0
    null: bool = False


Sitting = tuple[Way, str, Sequence[Answer]]  # a way, the name of its answers file, the answers


def ungraded(
    name: str, questions: Sequence[Question], gold: Mapping[str, str], task: Task, primary: str
) -> Evaluation:
    """A data set before anything is graded, with its right answers in canonical form by id."""
    return Evaluation(
        data=name,
        n=len(questions),
        primary=primary,
        kind=task.kind,
        task=task.name,
        questions=tuple(
            Labelled(id=q.id, question=q.question, gold=gold[q.id], family=q.family, group=q.group)
            for q in questions
        ),
    )


def graded(
    blank: Evaluation, answered: Iterable[tuple[Candidate, Sequence[Sitting]]], seed: int = 0
) -> Evaluation:
    """Grade all models' sittings; what needs other data sets comes by ``comparison.compared``.

    Args:
        blank: The data set, without any variant; the order of its questions is that of all scores.
        answered: Each model's sittings, the base first. A greedy one stands first among a model's
            own and becomes part of its main variant.
        seed: Of the resampled intervals.
    """
    variants: list[Variant] = []
    sampled: dict[str, Answers] = {}  # per model the paths of its main variant
    for who, sittings in answered:
        for number, (way, files, answers) in enumerate(_ways(sittings)):
            own = by_mode(answers, blank.gold)
            paths = own.get("sc", {})
            variant = Variant(
                name=f"{who.name} {way}" if number else who.name,
                model=who.name,
                adapter=who.adapter,
                adapter_sha256=who.identity.get("adapter_sha256"),
                scale=who.scale,
                temperature=way.temperature,
                seed=way.seed,
                main=not number,
                null=who.null,
                figures=tuple(f for mode in own for f in _figures(mode, own[mode], blank)),
                curve=tuple(_curve(paths, blank)),
                answers=files,
            )
            variants.append(variant)
            if not (number or who.null):
                sampled[who.name] = paths
    whole = msgspec.structs.replace(blank, variants=tuple(variants))
    return msgspec.structs.replace(
        whole,
        strata=tuple(_strata(whole)),
        confidence=confidence_of(sampled, blank.gold, seed),
        rivals=dict(_rivals(whole, sampled, seed)),
    )


def _ways(
    sittings: Sequence[Sitting],
) -> Iterator[tuple[Way, tuple[str, ...], Sequence[Answer]]]:
    """A model's sittings with their files, the greedy one as part of the first sampled one."""
    rest = list(sittings)
    if len(rest) > 1 and rest[0][0].greedy:
        (_, file, greedy), (way, other, paths), *rest = rest
        yield way, (file, other), [*greedy, *paths]
    yield from ((way, (file,), answers) for way, file, answers in rest)


def line_of(mode: Mode, paths: int) -> str:
    """The line that stands for a mode: of sampled paths, their vote."""
    return GREEDY_NAMES.get(mode, f"majority of {paths}")


def by_mode(answers: Iterable[Answer], gold: Mapping[str, str]) -> dict[Mode, Answers]:
    """Sort answers by mode and question, in the order of the questions and the path numbers."""
    found: dict[Mode, dict[str, list[Answer]]] = {}
    for a in sorted(answers, key=lambda a: a.path):
        if a.question_id in gold:
            found.setdefault(a.mode, {q: [] for q in gold})[a.question_id].append(a)
    return {mode: found[mode] for mode in ORDER if mode in found}


def _figures(mode: Mode, answers: Answers, blank: Evaluation) -> Iterator[Figure]:
    """A greedy answer; or what k sampled paths say: one, their vote, and the best of them."""
    groups, paths = answers.values(), 1
    if mode != "sc":
        lines = {GREEDY_NAMES[mode]: [float(g[0].correct) if g else 0.0 for g in groups]}
    else:
        paths = max(map(len, groups))
        right = [sum(a.correct for a in g) for g in groups]
        lines = {
            ONE: [c / paths for c in right],
            line_of("sc", paths): [
                majority_score(_values(g), gold)
                for g, gold in zip(groups, blank.gold.values(), strict=True)
            ],
            f"any of {paths}": [float(c > 0) for c in right],
        }
    flat = [a for g in groups for a in g]
    whole = tuple(sum(map(_is_whole, g)) * 2 >= max(1, len(g)) for g in groups)
    tokens, seconds = _cost(answers)
    for name, scores in lines.items():
        drawn = paths if name == ONE else 1  # of the paths that the cost is of, one is used
        yield Figure(
            name=name,
            mode=mode,
            accuracy=score_interval(scores, blank.groups),
            parsed=sum(a.predicted_answer is not None for a in flat) / max(1, len(flat)),
            cut_off=sum(a.stop_reason == "length" for a in flat) / max(1, len(flat)),
            tokens=tokens / drawn,
            seconds=seconds / drawn,
            scores=tuple(scores),
            whole=whole,
        )


def _is_whole(answer: Answer) -> bool:
    """Whether an answer could be read and was not cut off, be it right or wrong."""
    return answer.predicted_answer is not None and answer.stop_reason != "length"


def _curve(answers: Answers, blank: Evaluation) -> Iterator[CurvePoint]:
    """What k of the sampled paths are worth, for k = 1, 2, 4, ... and all of them."""
    n, most = (f(map(len, answers.values()), default=0) for f in (min, max))
    tokens, seconds = _cost(answers)
    values = [_values(g)[:n] for g in answers.values()]
    right = [sum(a.correct for a in g[:n]) for g in answers.values()]
    for k in curve_ks(n):
        votes = [majority_at_k(v, g, k) for v, g in zip(values, blank.gold.values(), strict=True)]
        yield CurvePoint(
            k=k,
            majority=mean_interval(votes, blank.groups),
            any=mean_interval([pass_at_k(n, c, k) for c in right], blank.groups),
            tokens=tokens * k / most,
            seconds=seconds * k / most,
        )


def _values(answers: Sequence[Answer]) -> list[str | None]:
    return [a.predicted_answer for a in answers]


def _cost(answers: Answers) -> tuple[float, float]:
    """Tokens and seconds per question."""
    flat = [a for g in answers.values() for a in g]
    n = max(1, len(answers))
    return sum(a.num_generated_tokens for a in flat) / n, sum(a.seconds for a in flat) / n


def _strata(e: Evaluation) -> Iterator[Stratum]:
    """The line that decides by family of the questions: who gained where."""
    families = sorted({q.family for q in e.questions if q.family is not None})
    figures = {v.model: f for v in e.mains if (f := v.figure(e.primary)) is not None}
    clusters = e.groups
    for name in families if len(families) > 1 else ():
        places = [i for i, q in enumerate(e.questions) if q.family == name]
        groups = [clusters[i] for i in places] if clusters else None
        shares = {
            m: score_interval([f.scores[i] for i in places], groups) for m, f in figures.items()
        }
        yield Stratum(by="family", name=name, n=len(places), accuracy=shares)


def _rivals(
    e: Evaluation, sampled: Mapping[str, Answers], seed: int
) -> Iterator[tuple[str, Rivalry]]:
    """Each adapter's greedy answer against votes of the base."""
    base, *others = e.mains
    one, paths = base.figure(ONE), sampled[base.model].values()
    if one is None or not all(paths):
        return
    values, gold = [_values(g) for g in paths], list(e.gold.values())
    for v in others:
        greedy = [f for f in v.figures if f.mode not in ("sc", "direct")]
        if greedy:
            yield v.model, rivalry(greedy[0], one, values, gold, seed, e.groups)


class Ballot(NamedTuple):
    """One question's vote: the share of its first answer, and its score (0 to 1)."""

    share: float
    score: float


Ballots = Mapping[str, Ballot | None]  # by question id; None where no path gave an answer


def confidence_of(
    sampled: Mapping[str, Answers], gold: Mapping[str, str], seed: int = 0
) -> Confidence | None:
    """Find out whether each model's agreement with itself is worth anything.

    A question's confidence is the share of its most frequent answer among the paths that gave one;
    it is right as its vote is, a tie being shared out.

    Args:
        sampled: Per model its sampled paths. The last model is compared with the first.
        gold: Canonical right answer per question.
        seed: Of the resamples.

    Returns:
        ``None`` where a model has no sampled path with an answer.
    """
    models = {
        name: {q: _ballot(_values(g), gold[q]) for q, g in own.items() if g}
        for name, own in sampled.items()
    }
    if not models or not all(any(m.values()) for m in models.values()):
        return None
    trusts = {name: _trust(m) for name, m in models.items()}
    surer = righter = None
    if len(models) > 1:
        first, *_, last = models.values()
        both = [(a, b) for q, a in first.items() if a and (b := last.get(q))]
        surer = paired([a.share for a, _ in both], [b.share for _, b in both], seed)
        righter = paired([a.score for a, _ in both], [b.score for _, b in both], seed)
    return Confidence(
        models=trusts,
        surer=surer,
        righter=righter,
        findings=tuple(
            f"{name}: more agreement, fewer right answers. The order is upside down: AUROC "
            f"{decimal(t.auroc)}. Filters by share keep the wrong paths."
            for name, t in trusts.items()
            if t.auroc is not None and t.auroc.high < 0.5
        ),
    )


def _ballot(values: Sequence[str | None], gold: str) -> Ballot | None:
    counts = Counter(v for v in values if v is not None)
    if not counts:
        return None
    return Ballot(max(counts.values()) / counts.total(), majority_score(values, gold))


def _trust(ballots: Ballots) -> Trust:
    known = [b for b in ballots.values() if b]
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
