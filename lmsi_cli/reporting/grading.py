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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress, takewhile
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

GREEDY_NAMES: dict[Mode, str] = {"direct": "direct", "cot": "CoT greedy", "cot-few": "CoT few-shot"}
ORDER: tuple[Mode, ...] = (*GREEDY_NAMES, "sc")  # of the lines of a table
MARGIN = 0.05  # share of questions by which an answer may be worse and still count as equal

Answers = Sequence[Sequence[Answer]]  # of each question, in one mode, by path number
Values = list[str | None]  # what each path of a question votes for


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

    The order of the questions in ``blank`` is that of all scores. The base is ``answered`` first; a
    model's greedy sitting stands first among its own and becomes part of its main variant. ``seed``
    is that of the resampled intervals.
    """
    gold = list(blank.gold.values())
    variants: list[Variant] = []
    sampled: dict[str, list[Values]] = {}  # per model the paths of its main variant
    for who, sittings in answered:
        for number, (way, files, answers) in enumerate(_ways(sittings)):
            own = _by_mode(answers, blank.gold)
            paths = own.get("sc", ())
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
            if paths and not (number or who.null):
                sampled[who.name] = _votes(paths)
    whole = msgspec.structs.replace(blank, variants=tuple(variants))
    return msgspec.structs.replace(
        whole,
        confidence=dict(_confidence(sampled, gold, blank.groups)),
        rivals=dict(_rivals(whole, sampled, gold, seed)),
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


def _by_mode(answers: Iterable[Answer], questions: Collection[str]) -> dict[Mode, Answers]:
    """Sort answers by mode and question, in the order of the questions and the path numbers."""
    found: dict[Mode, dict[str, list[Answer]]] = {}
    for a in sorted(answers, key=lambda a: a.path):
        found.setdefault(a.mode, {q: [] for q in questions})[a.question_id].append(a)
    return {mode: list(found[mode].values()) for mode in ORDER if mode in found}


def _figures(mode: Mode, groups: Answers, blank: Evaluation) -> Iterator[Figure]:
    """Figures of a greedy answer, or of k sampled paths: one path, their vote, the best of them."""
    paths = 1
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
    tokens = sum(a.num_generated_tokens for a in flat) / len(groups)
    seconds = sum(a.seconds for a in flat) / len(groups)
    for name, scores in lines.items():
        drawn = paths if name == ONE else 1  # the cost is that of all paths, and this line uses one
        yield Figure(
            name=name,
            mode=mode,
            accuracy=score_interval(scores, blank.groups),
            parsed=sum(a.predicted_answer is not None for a in flat) / len(flat),
            cut_off=sum(a.stop_reason == "length" for a in flat) / len(flat),
            tokens=tokens / drawn,
            seconds=seconds / drawn,
            scores=tuple(scores),
            whole=tuple(
                2 * sum(v is not None for v in _values(g)) >= max(1, len(g)) for g in groups
            ),
        )


def _curve(groups: Answers, blank: Evaluation) -> Iterator[CurvePoint]:
    """What k of the sampled paths are worth, for k = 1, 2, 4, ... and all of them."""
    values = _votes(groups)
    n = min(map(len, values), default=0)
    right = [sum(a.correct for a in g[:n]) for g in groups]
    for k in curve_ks(n):
        told = zip(values, blank.gold.values(), strict=True)
        votes = [majority_at_k(v[:n], g, k) for v, g in told]
        yield CurvePoint(
            k=k,
            majority=mean_interval(votes, blank.groups),
            any=mean_interval([pass_at_k(n, c, k) for c in right], blank.groups),
        )


def _values(answers: Sequence[Answer]) -> Values:
    """What each path votes for; one that was cut off abstains, as in `lmsi vote`."""
    return [a.predicted_answer if a.stop_reason != "length" else None for a in answers]


def _votes(groups: Answers) -> list[Values]:
    """Each question's votes; all abstain in one that was skipped, which is wrong for every k."""
    n = min(filter(None, map(len, groups)), default=0)
    return [_values(g) or [None] * n for g in groups]


def _rivals(
    e: Evaluation, sampled: Mapping[str, Sequence[Values]], gold: Sequence[str], seed: int
) -> Iterator[tuple[str, Rivalry]]:
    """Find how many votes of the base each adapter's greedy answer is worth.

    To be worth k votes it must pass a test of non-inferiority: the 95% interval of the change lies
    above ``-MARGIN``, for k and everything smaller. A few questions cannot pass this test, though
    their figures may happen to be equal. k goes up to the fewest paths of one that was asked.
    """
    base, *others = e.mains
    values = sampled.get(base.model, ())
    ks = curve_ks(min(map(len, values), default=0))
    votes = [[majority_at_k(v, g, k) for v, g in zip(values, gold, strict=True)] for k in ks]
    for v in others:
        if v.single is None or not votes:
            continue
        changes = [paired(s, v.single.scores, seed, e.groups) for s in votes]
        adjusted = holm([c.p_value for c in changes])
        rungs = tuple(
            Rung(k=k, accuracy=mean_interval(s, e.groups), change=c, p_value=p)
            for k, s, c, p in zip(ks, votes, changes, adjusted, strict=True)
        )
        as_good = takewhile(lambda r: r.change.low > -MARGIN, rungs)
        yield v.model, Rivalry(rungs=rungs, votes=max((r.k for r in as_good), default=0))


def _confidence(
    sampled: Mapping[str, Sequence[Values]], gold: Sequence[str], groups: Groups
) -> Iterator[tuple[str, Trust]]:
    """Measure how well each model's agreement with itself predicts right answers.

    A question's confidence is the share of its most frequent answer among the paths that gave one.
    Its score is that of its vote, where a tie is shared out. Models without any sampled path with
    an answer are left out.
    """
    for model, values in sampled.items():
        ballots = [Counter(v for v in paths if v is not None) for paths in values]
        confidence = [max(b.values()) / b.total() for b in ballots if b]
        if not confidence:
            continue
        told = zip(values, gold, ballots, strict=True)
        scores = [majority_score(paths, right) for paths, right, b in told if b]
        own = groups and list(compress(groups, ballots))
        table = reliability(confidence, scores, own)
        trust = Trust(
            questions=len(scores),
            silent=len(values) - len(scores),
            confidence=sum(confidence) / len(scores),
            accuracy=mean_interval(scores, own),
            reliability=table,
            ece=ece(table),
            auroc=auroc(confidence, [s == 1 for s in scores]),  # in ranking, a tie is not right
        )
        yield model, trust
