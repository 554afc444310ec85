r"""The record of one evaluation: a data set, everything that answered it, and what changed.

One file per data set and settings, ``eval/test-77d01e5c.result.json``. It holds all figures, the
questions, and each figure's score per question, so that it can be compared and drawn without a
model. The texts are in the answers files that it names, which lie beside it. Knows the records of
statistics, but neither computes nor draws. Shortened, with one question and the base alone:

    {"data": "test", "n": 1, "primary": "CoT greedy", "kind": "number", "task": "tinymath",
     "questions": [{"id": "t9", "question": "What is 84 / 2?", "gold": "42", "group": null}],
     "variants": [{"name": "base", "model": "base", "adapter": null, "scale": 1.0,
                   "temperature": 0.7, "seed": 0, "main": true,
                   "figures": [{"name": "CoT greedy", "mode": "cot", "parsed": 1.0,
                                "accuracy": {"value": 1.0, "low": 0.2, "high": 1.0, "n": 1},
                                "tokens": 61.0, "seconds": 0.05, "scores": [1.0]}],
                   "curve": [{"k": 1, "majority": {...}, "any": {...}}],
                   "answers": ["base-test-1f0c9a2b.answers.jsonl"]}],
     "pairs": [], "nulls": [], "skipped": [], "corrected": "", "confidence": {}, "rivals": {},
     "source": {"file": "m.gguf", "sha256": "47d5...", "tokenizer_sha256": "b1..."},
     "settings": {"modes": ["cot"], "max_tokens": 256}, "versions": {"lmsi": "0.1.0"}}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.jsonl import read_records, read_struct
from lmsi_cli.records import Interval, Mode, Paired, Record, StopReason
from lmsi_cli.run_folder import RESULT, RunDir
from lmsi_cli.stats.intervals import Bin

BASE = "base"
ONE = "one sampled path"  # the line of sampled paths without a vote
KEY = re.compile(r"-[0-9a-f]{8}\Z")  # ends the name of a result


class Answer(Record, frozen=True, kw_only=True):
    """One path of one question, marked; ``seconds`` is the wall time since the previous one.

    Answers that another program wrote lack ``stop_reason``.
    """

    question_id: str
    mode: Mode
    path: int
    text: str
    predicted_answer: str | None
    correct: bool
    num_generated_tokens: int
    seconds: float
    stop_reason: StopReason | None = None


class Labelled(Record, frozen=True, kw_only=True):
    """One question with its right answer in canonical form; ``group`` is its cluster, if any."""

    id: str
    question: str
    gold: str
    group: str | None = None


class Figure(Record, frozen=True, kw_only=True):
    """One line of the table for one variant.

    ``scores`` (0 to 1) are in the order of the questions; ``whole`` says of each whether at least
    half of its answers could be read and were not cut off. ``parsed`` is the share of paths with an
    answer, ``cut_off`` the share of paths that reached the limit; ``tokens`` and ``seconds`` are
    the cost per question.
    """

    name: str
    mode: Mode
    accuracy: Interval
    parsed: float
    tokens: float
    seconds: float
    scores: tuple[float, ...]
    cut_off: float = 0.0
    whole: tuple[bool, ...] = ()


class CurvePoint(Record, frozen=True, kw_only=True):
    """What k sampled paths are worth: their vote (maj@k), the best of them (pass@k).

    Both are unbiased estimates from all paths that were drawn.
    """

    k: int
    majority: Interval
    any: Interval


class Variant(Record, frozen=True, kw_only=True):
    """One model at one temperature and seed.

    ``model`` is the base or an adapter at a scale (``base``, ``adapter``, ``adapter x0.5``); the
    first variant of each model is its ``main`` one. Only that has figures of the greedy modes,
    which neither temperature nor seed can change. ``curve`` is that of the sampled paths, if any.
    ``answers`` names files beside the result. A ``null`` variant is a control: the base with other
    seeds, or an adapter trained on paths chosen at random.
    """

    name: str
    model: str
    adapter: str | None
    adapter_sha256: str | None
    scale: float
    temperature: float
    seed: int
    main: bool
    figures: tuple[Figure, ...]
    curve: tuple[CurvePoint, ...] = ()
    answers: tuple[str, ...] = ()
    null: bool = False

    def figure(self, line: str) -> Figure | None:
        """The figure of a line, if this variant has it."""
        return next((f for f in self.figures if f.name == line), None)

    @property
    def single(self) -> Figure | None:
        """The figure of a single greedy answer with a chain of thought, if this variant has one."""
        return next((f for f in self.figures if f.mode in ("cot", "cot-few")), None)


class Pair(Record, frozen=True, kw_only=True):
    """One line before and after, on the same questions.

    Scores of several seeds are averaged per question first. ``temperature`` is None for a greedy
    line. ``p_holm`` is the p-value after Holm's correction: the ``primary`` pairs of all data sets
    and models are one family, all others together are another. ``whole`` is the change on the
    questions whose answer before was whole (``Figure.whole``); None where that is not known.
    """

    line: str
    before: str
    after: str
    temperature: float | None
    primary: bool
    change: Paired
    p_holm: float
    whole: Paired | None = None


class Trust(Record, frozen=True, kw_only=True):
    """What one model's agreement with itself is worth.

    ``silent`` counts questions that have no path with an answer, so no confidence; they are in none
    of the other figures. ``confidence`` is the mean share of the most frequent answer, ``accuracy``
    that of the votes. ``auroc`` is None if all are right or all wrong.
    """

    questions: int
    silent: int
    confidence: float
    accuracy: Interval
    reliability: tuple[Bin, ...]
    ece: float
    auroc: Interval | None


class Rung(Record, frozen=True, kw_only=True):
    """The base's vote over k paths, and the adapter's single answer minus it.

    ``p_value`` is corrected for the number of rungs (Holm).
    """

    k: int
    accuracy: Interval
    change: Paired
    p_value: float


class Rivalry(Record, frozen=True, kw_only=True):
    """The adapter's single answer against votes of the base over 1, 2, 4, ... paths.

    ``votes`` is the largest k that it is shown to match, within a margin; 0: not even one path.
    """

    rungs: tuple[Rung, ...]
    votes: int


class Imported(Record, frozen=True, kw_only=True):
    """Where answers of another program come from, and its own marks.

    ``marks`` holds a number per question by filter and metric (``strict-match exact_match``);
    ``disagreements`` counts where it differs from ours by more than a half.
    """

    file: str
    program: str
    marks: dict[str, tuple[float, ...]]
    disagreements: dict[str, int]


class Evaluation(Record, frozen=True, kw_only=True):
    """One data set, evaluated.

    ``primary`` is the line that decides, that of the first mode asked for; ``corrected`` says in
    words what Holm's correction covers. ``nulls`` are the changes of the controls, uncorrected: a
    gain has to be larger than theirs. ``skipped`` are ids of questions too long for the model's
    context in at least one mode; there they count as unanswered and so as wrong. ``source``
    describes the model's file (name, hashes of it and of its tokenizer, size), ``settings`` are the
    resolved ones of ``lmsi eval``. ``confidence`` says per model what its agreement is worth,
    ``rivals`` per adapter how its single greedy answer compares with votes of the base; both need
    sampled paths.
    """

    data: str
    n: int
    primary: str
    kind: str
    task: str
    questions: tuple[Labelled, ...]
    variants: tuple[Variant, ...] = ()
    pairs: tuple[Pair, ...] = ()
    nulls: tuple[Pair, ...] = ()
    skipped: tuple[str, ...] = ()
    corrected: str = ""
    confidence: dict[str, Trust] = msgspec.field(default_factory=dict)
    rivals: dict[str, Rivalry] = msgspec.field(default_factory=dict)
    source: dict[str, str | int | None] = msgspec.field(default_factory=dict)
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    imported: Imported | None = None

    @property
    def mains(self) -> tuple[Variant, ...]:
        """The main variant of each model, the base first; without controls."""
        return tuple(v for v in self.variants if v.main and not v.null)

    @property
    def gold(self) -> dict[str, str]:
        """Right answers by question id, in order."""
        return {q.id: q.gold for q in self.questions}

    @property
    def groups(self) -> list[str] | None:
        """Each question's cluster, or the question itself; None if no question has a cluster."""
        if not any(q.group for q in self.questions):
            return None
        return [f"group {q.group}" if q.group else f"question {q.id}" for q in self.questions]

    def of_model(self, model: str) -> Iterator[Variant]:
        """All temperatures and seeds of a model."""
        return (v for v in self.variants if v.model == model)

    def pair(self, line: str, after: str) -> Pair | None:
        """The change of a line from the base to a model; at the first temperature if several."""
        return next((p for p in self.pairs if (p.line, p.after) == (line, after)), None)


def read_evaluation(path: Path) -> Evaluation:
    """Read a result file; LmsiError: it is missing, or not a result of `lmsi eval`."""
    return read_struct(path, Evaluation, "give a file that ends in .result.json, or a run folder")


def answers_of(variant: Variant, folder: Path) -> list[Answer]:
    """The answers of a variant from the files beside its result; empty if they are gone."""
    files = [folder / name for name in variant.answers if name]
    return [a for f in files if f.exists() for a in read_records(f, Answer)]


def newest_results(run: RunDir) -> dict[str, Path]:
    """The newest result file of each data set, by name; the set with the oldest file first."""
    files = sorted(run.eval_dir.glob(f"*{RESULT}"), key=lambda f: (f.stat().st_mtime, f.name))
    return {KEY.sub("", f.name.removesuffix(RESULT)): f for f in files}


def newest_evaluations(run: RunDir) -> list[Evaluation]:
    """The newest evaluation of each data set; those with a comparison first."""
    return sorted(map(read_evaluation, newest_results(run).values()), key=lambda e: not e.pairs)
