"""Turn the marked answers of all models to one data set into its record.

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
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.prompts import Task
from lmsi_cli.records import Mode, Question
from lmsi_cli.reporting.results import (
    ONE,
    Answer,
    CurvePoint,
    Evaluation,
    Figure,
    Labelled,
    Rivalry,
    Rung,
    Trust,
    Variant,
)
from lmsi_cli.stats.intervals import (
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
)
from lmsi_cli.stats.paired_tests import holm, paired

GREEDY_NAMES: dict[Mode, str] = {
    "direct": "direct",
    "cot": "CoT greedy",
    "cot-few": "CoT few-shot",
}
ORDER: tuple[Mode, ...] = ("direct", "cot", "cot-few", "sc")  # of the lines of a table
MARGIN = 0.05  # share of questions by which an answer may be worse and still count as equal

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

    ``identity`` holds hashes of all that could change the answers. A ``null`` candidate is a
    control: its changes are no gain.
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
    """A data set before grading; ``gold`` holds the canonical right answers by id."""
    return Evaluation(
        data=name,
        n=len(questions),
        primary=primary,
        kind=task.kind,
        task=task.name,
        questions=tuple(
            Labelled(id=q.id, question=q.question, gold=gold[q.id], group=q.group)
            for q in questions
        ),
    )


def graded(
    blank: Evaluation, answered: Iterable[tuple[Candidate, Sequence[Sitting]]], seed: int = 0
) -> Evaluation:
    """Grade all models' sittings; ``comparison.compared`` adds what needs other data sets.

    Args:
        blank: The data set, without any variant; the order of its questions is that of all scores.
        answered: Each model's sittings, the base first. A greedy one stands first among a model's
            own and becomes part of its main variant.
        seed: The seed of the resampled intervals.
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
        confidence=confidence_of(sampled, blank.gold),
        rivals=dict(_rivals(whole, sampled, seed)),
    )


def _ways(
    sittings: Sequence[Sitting],
) -> Iterator[tuple[Way, tuple[str, ...], Sequence[Answer]]]:
    """A model's sittings with their files, the greedy one merged into the first sampled one."""
    rest = list(sittings)
    if len(rest) > 1 and rest[0][0].greedy:
        (_, file, greedy), (way, other, paths), *rest = rest
        yield way, (file, other), [*greedy, *paths]
    yield from ((way, (file,), answers) for way, file, answers in rest)


def line_of(mode: Mode, paths: int) -> str:
    """The line that represents a mode; for sampled paths, the line of their vote."""
    return GREEDY_NAMES.get(mode, f"majority of {paths}")


def by_mode(answers: Iterable[Answer], gold: Mapping[str, str]) -> dict[Mode, Answers]:
    """Sort answers by mode and question, in the order of the questions and the path numbers."""
    found: dict[Mode, dict[str, list[Answer]]] = {}
    for a in sorted(answers, key=lambda a: a.path):
        if a.question_id in gold:
            found.setdefault(a.mode, {q: [] for q in gold})[a.question_id].append(a)
    return {mode: found[mode] for mode in ORDER if mode in found}


def _figures(mode: Mode, answers: Answers, blank: Evaluation) -> Iterator[Figure]:
    """Figures of a greedy answer, or of k sampled paths: one path, their vote, the best of them."""
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
        drawn = paths if name == ONE else 1  # the cost is that of all paths, and this line uses one
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
    n = min(map(len, answers.values()), default=0)
    values = [_values(g)[:n] for g in answers.values()]
    right = [sum(a.correct for a in g[:n]) for g in answers.values()]
    for k in curve_ks(n):
        votes = [majority_at_k(v, g, k) for v, g in zip(values, blank.gold.values(), strict=True)]
        yield CurvePoint(
            k=k,
            majority=mean_interval(votes, blank.groups),
            any=mean_interval([pass_at_k(n, c, k) for c in right], blank.groups),
        )


def _values(answers: Sequence[Answer]) -> list[str | None]:
    """What each path votes for; one that was cut off abstains, as in `lmsi vote`."""
    return [a.predicted_answer if a.stop_reason != "length" else None for a in answers]


def _cost(answers: Answers) -> tuple[float, float]:
    """Tokens and seconds per question."""
    flat = [a for g in answers.values() for a in g]
    n = max(1, len(answers))
    return sum(a.num_generated_tokens for a in flat) / n, sum(a.seconds for a in flat) / n


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
        if v.single is not None:
            yield v.model, rivalry(v.single.scores, values, gold, seed, e.groups)


def rivalry(
    single: Sequence[float],
    values: Sequence[Sequence[str | None]],
    gold: Sequence[str],
    seed: int = 0,
    groups: Groups = None,
) -> Rivalry:
    """Find how many votes of the base one answer of the adapter is worth.

    To be worth k votes it must pass a test of non-inferiority: the 95% interval of the change lies
    above ``-MARGIN``, for k and everything smaller. A few questions cannot pass this test, though
    their figures may happen to be equal.

    Args:
        single: Scores of the adapter's greedy answers, 0 or 1 per question.
        values: Canonical answers of the base's sampled paths, at least one for each question in the
            order of the scores; k goes up to the fewest paths that any question has.
        gold: The right answers in the same order.
        seed: The seed of the bootstrap.
        groups: The cluster of each question.
    """
    ks = curve_ks(min(map(len, values)))
    votes = [[majority_at_k(v, g, k) for v, g in zip(values, gold, strict=True)] for k in ks]
    changes = [paired(s, single, seed, groups) for s in votes]
    adjusted = holm([c.p_value for c in changes])
    rungs = tuple(
        Rung(k=k, accuracy=mean_interval(s, groups), change=c, p_value=p)
        for k, s, c, p in zip(ks, votes, changes, adjusted, strict=True)
    )
    as_good = takewhile(lambda r: r.change.low > -MARGIN, rungs)
    return Rivalry(rungs=rungs, votes=max((r.k for r in as_good), default=0))


def confidence_of(sampled: Mapping[str, Answers], gold: Mapping[str, str]) -> dict[str, Trust]:
    """Measure how well each model's agreement with itself predicts right answers.

    A question's confidence is the share of its most frequent answer among the paths that gave one.
    Its score is that of its vote, where a tie is shared out.

    Args:
        sampled: Per model its sampled paths.
        gold: Canonical right answer per question.

    Returns:
        Per model; without those that have no sampled path with an answer.
    """
    found = {}
    for model, answers in sampled.items():
        ballots = {q: Counter(v for v in _values(g) if v is not None) for q, g in answers.items()}
        shares = {q: max(b.values()) / b.total() for q, b in ballots.items() if b}
        if not shares:
            continue
        scores = [majority_score(_values(answers[q]), gold[q]) for q in shares]
        confidence = list(shares.values())
        table = reliability(confidence, scores)
        found[model] = Trust(
            questions=len(shares),
            silent=len(ballots) - len(shares),
            confidence=sum(confidence) / len(shares),
            accuracy=mean_interval(scores),
            reliability=table,
            ece=ece(table),
            auroc=auroc(confidence, [s == 1 for s in scores]),  # in ranking, a tie is not right
        )
    return found
