"""From the answers of all models to one data set to its record.

Knows models by name and ways of drawing; needs no engine, so answers of another program, or of an
older file, are marked by the same code.

    marking = Marking("test", questions, primary="CoT greedy")
    marking.add(Model("base"), [(Way(0.0, 0, True), "base-test-greedy-1f.answers.jsonl", answers)])
    marking.result("number", "tinymath") -> Evaluation(data="test", variants=(...), ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.records import Mode
from lmsi_cli.report.comparison import score
from lmsi_cli.report.figures import ByMode, Sorted, by_mode, curve, mean_share, variant_figures
from lmsi_cli.report.results import Answer, Evaluation, Labelled, Variant, clusters_of
from lmsi_cli.report.strata import strata

STEPS_FROM: tuple[Mode, ...] = (
    "cot",
    "cot-few",
    "sc",
    "direct",
)  # the first of these that there is shows the steps


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
        self.texts: dict[str, str] = {}  # of the first model

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
        if not self.texts and found:
            self.texts = _texts(found[0][2])

    def result(self, kind: str, task: str) -> Evaluation:
        """The record, without what needs other data sets (``comparison.compared``)."""
        scores = {v.model: score([v], self.primary) for v in self.variants if v.main}
        told = {model: row for model, row in scores.items() if row is not None}
        return Evaluation(
            data=self.data,
            n=len(self.questions),
            primary=self.primary,
            kind=kind,
            task=task,
            questions=self.questions,
            variants=tuple(self.variants),
            strata=strata(self.questions, self.texts, told, self.clusters),
        )

    def _variant(
        self, model: Model, way: Way, answers: ByMode, files: tuple[str, ...], main: bool
    ) -> Variant:
        sampled = answers.get("sc", {})
        return Variant(
            name=model.name if main else f"{model.name} {way}",
            model=model.name,
            adapter=model.adapter,
            adapter_sha256=model.adapter_sha256,
            scale=model.scale,
            temperature=way.temperature,
            seed=way.seed,
            main=main,
            figures=variant_figures(answers, self.gold, self.clusters),
            curve=curve(sampled, self.gold, self.clusters),
            mean_share=mean_share(sampled),
            answers=files,
        )


def _texts(answers: ByMode) -> dict[str, str]:
    mode = next((m for m in STEPS_FROM if m in answers), None)
    return {q: g[0].text for q, g in answers[mode].items() if g} if mode else {}
