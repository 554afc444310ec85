"""From the marked answers of all models to one data set to its record.

Knows models by name and ways of drawing; the statistics are in ``stats``. Needs no engine, so
answers of another program are graded by the same code.

    marking = Marking("test", questions, primary="CoT greedy")
    marking.add(Model("base"), [(Way(0.0, 0, True), "base-test-greedy-1f.answers.jsonl", answers)])
    marking.result("number", "tinymath") -> Evaluation(data="test", variants=(...), ...)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lmsi_cli.records import Interval, Mode
from lmsi_cli.report.comparison import score
from lmsi_cli.report.confidence import confidence_of
from lmsi_cli.report.results import (
    Answer,
    CurvePoint,
    Evaluation,
    Figure,
    Labelled,
    Rivalry,
    Stratum,
    Variant,
    clusters_of,
)
from lmsi_cli.report.rivals import rivalry
from lmsi_cli.stats import (
    curve_ks,
    majority_at_k,
    majority_score,
    mean_interval,
    pass_at_k,
    wilson,
)

GREEDY_NAMES: dict[Mode, str] = {
    "direct": "direct",
    "cot": "CoT greedy",
    "cot-few": "CoT few-shot",
}
ORDER: tuple[Mode, ...] = ("direct", "cot", "cot-few", "sc")  # of the lines of a table
ONE = "one sampled path"

Sorted = dict[Mode, dict[str, list[Answer]]]
Answers = Mapping[str, Sequence[Answer]]  # question id -> its answers in one mode, by path number
Clusters = Sequence[str] | None


class Way(NamedTuple):
    """How a sitting draws: at temperature 0, or sampled with a seed."""

    temperature: float
    seed: int
    greedy: bool

    def __str__(self) -> str:
        return "greedy" if self.greedy else f"t{self.temperature:g}-s{self.seed}"


class Model(NamedTuple):
    """Who answered: the base, or an adapter at a scale."""

    name: str
    adapter: str | None = None
    adapter_sha256: str | None = None
    scale: float = 1.0


Sat = tuple[Way, str, Sequence[Answer]]  # a way, the name of its answers file, the answers


class Marking:
    """Collects what was answered, and makes the record of it."""

    def __init__(self, data: str, questions: Sequence[Labelled], primary: str) -> None:
        """Begin with a data set.

        Args:
            data: What it is called.
            questions: With their right answers; their order is that of all scores.
            primary: The line that decides.
        """
        self.data, self.questions, self.primary = data, tuple(questions), primary
        self.gold = {q.id: q.gold for q in questions}
        self.clusters = clusters_of(questions)
        self.variants: list[Variant] = []
        self.main: dict[str, Sorted] = {}  # per model what its main variant answered

    def add(self, model: Model, sat: Sequence[Sat]) -> None:
        """One model's sittings, a greedy one first; that becomes part of the main variant."""
        found: list[tuple[Way, tuple[str, ...], Sorted]] = [
            (way, (file,), by_mode(answers, self.gold)) for way, file, answers in sat
        ]
        if len(found) > 1 and found[0][0].greedy:
            (_, file, greedy), (way, other, sampled), *rest = found
            found = [(way, (*file, *other), {**greedy, **sampled}), *rest]
        for number, (way, files, answers) in enumerate(found):
            self.variants.append(self._variant(model, way, answers, files, number == 0))
        self.main |= {model.name: found[0][2]} if found else {}

    def result(self, kind: str, task: str, seed: int = 0) -> Evaluation:
        """The record, without what needs other data sets (``comparison.compared``).

        Args:
            kind: Of the answers.
            task: What the task is called.
            seed: Of the resampled intervals.
        """
        answers = {
            m: [a for g in own.get("sc", {}).values() for a in g] for m, own in self.main.items()
        }
        return Evaluation(
            data=self.data,
            n=len(self.questions),
            primary=self.primary,
            kind=kind,
            task=task,
            questions=self.questions,
            variants=tuple(self.variants),
            strata=tuple(self._strata()),
            confidence=confidence_of(answers, self.gold, seed),
            rivals=dict(self._rivals(seed)),
        )

    def _strata(self) -> Iterator[Stratum]:
        """The line that decides by family of the questions: who gained where."""
        families = sorted({q.family for q in self.questions if q.family is not None})
        scores = {v.model: score([v], self.primary) for v in self.variants if v.main}
        for name in families if len(families) > 1 else ():
            places = [i for i, q in enumerate(self.questions) if q.family == name]
            groups = [self.clusters[i] for i in places] if self.clusters else None
            figures = {
                model: accuracy([row[i] for i in places], groups)
                for model, row in scores.items()
                if row is not None
            }
            yield Stratum(by="family", name=name, n=len(places), accuracy=figures)

    def _rivals(self, seed: int) -> Iterator[tuple[str, Rivalry]]:
        """Each adapter's greedy answer against votes of the base."""
        base, *others = (v for v in self.variants if v.main)
        one, paths = base.figure(ONE), self.main[base.model].get("sc", {})
        if one is None or not all(paths.values()):
            return
        values = [[a.predicted_answer for a in g] for g in paths.values()]
        gold = list(self.gold.values())
        for v in others:
            greedy = [f for f in v.figures if f.mode not in ("sc", "direct")]
            for f in greedy[:1]:
                yield v.model, rivalry(f, one, values, gold, seed, self.clusters)

    def _variant(
        self, model: Model, way: Way, answers: Sorted, files: tuple[str, ...], main: bool
    ) -> Variant:
        sampled = answers.get("sc", {})
        modes = [_Lines(mode, answers[mode], self.clusters) for mode in ORDER if mode in answers]
        return Variant(
            name=model.name if main else f"{model.name} {way}",
            model=model.name,
            adapter=model.adapter,
            adapter_sha256=model.adapter_sha256,
            scale=model.scale,
            temperature=way.temperature,
            seed=way.seed,
            main=main,
            figures=tuple(figure for lines in modes for figure in lines.figures(self.gold)),
            curve=_curve(sampled, self.gold, self.clusters),
            answers=files,
        )


def line_of(mode: Mode, paths: int) -> str:
    """The line that stands for a mode: of sampled paths, their vote."""
    return GREEDY_NAMES.get(mode, f"majority of {paths}")


def by_mode(answers: Iterable[Answer], gold: Mapping[str, str]) -> Sorted:
    """Sort answers by mode and question, in the order of the questions and the path numbers."""
    found: Sorted = {}
    for a in sorted(answers, key=lambda a: a.path):
        if a.question_id in gold:
            found.setdefault(a.mode, {q: [] for q in gold})[a.question_id].append(a)
    return {mode: found[mode] for mode in ORDER if mode in found}


def accuracy(scores: Sequence[float], clusters: Clusters = None) -> Interval:
    """Mean score with Wilson's interval; where questions cluster or votes tie, a robust one."""
    if clusters is None and all(s in (0.0, 1.0) for s in scores):
        return wilson(round(sum(scores)), len(scores))
    return mean_interval(scores, clusters)


def _curve(
    answers: Answers, gold: Mapping[str, str], clusters: Clusters = None
) -> tuple[CurvePoint, ...]:
    """What k of the sampled paths are worth, for k = 1, 2, 4, ... and all of them."""
    n = min((len(g) for g in answers.values()), default=0)
    tokens, seconds = _cost(answers)
    values = {q: [a.predicted_answer for a in g][:n] for q, g in answers.items()}
    right = [sum(a.correct for a in g[:n]) for g in answers.values()]
    most = max((len(g) for g in answers.values()), default=1)
    return tuple(
        CurvePoint(
            k=k,
            majority=mean_interval(
                [majority_at_k(v, gold[q], k) for q, v in values.items()], clusters
            ),
            any=mean_interval([pass_at_k(n, c, k) for c in right], clusters),
            tokens=tokens * k / most,
            seconds=seconds * k / most,
        )
        for k in curve_ks(n)
    )


class _Lines(NamedTuple):
    """The lines of one mode."""

    mode: Mode
    answers: Answers
    clusters: Clusters

    def figures(self, gold: Mapping[str, str]) -> list[Figure]:
        """A greedy answer; or what k sampled paths say: one, their vote, and the best of them."""
        groups = self.answers
        if self.mode != "sc":
            scores = [float(g[0].correct) if g else 0.0 for g in groups.values()]
            return [self._figure(GREEDY_NAMES[self.mode], scores)]
        k = max((len(g) for g in groups.values()), default=1)
        right = [sum(a.correct for a in g) for g in groups.values()]
        votes = [
            majority_score([a.predicted_answer for a in g], gold[q]) for q, g in groups.items()
        ]
        return [
            self._figure(ONE, [c / k for c in right], paths=k),
            self._figure(line_of("sc", k), votes),
            self._figure(f"any of {k}", [float(c > 0) for c in right]),
        ]

    def _figure(self, name: str, scores: list[float], paths: int = 1) -> Figure:
        """Make a figure; ``paths`` splits the cost of a question among that many answers."""
        flat = [a for g in self.answers.values() for a in g]
        tokens, seconds = _cost(self.answers)
        return Figure(
            name=name,
            mode=self.mode,
            accuracy=accuracy(scores, self.clusters),
            parsed=sum(a.predicted_answer is not None for a in flat) / max(1, len(flat)),
            tokens=tokens / paths,
            seconds=seconds / paths,
            scores=tuple(scores),
        )


def _cost(answers: Answers) -> tuple[float, float]:
    """Tokens and seconds per question."""
    flat = [a for g in answers.values() for a in g]
    n = max(1, len(answers))
    return sum(a.num_generated_tokens for a in flat) / n, sum(a.seconds for a in flat) / n
