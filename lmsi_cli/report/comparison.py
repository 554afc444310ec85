"""From marked answers to the lines of the before/after table.

Knows modes and pairing; the statistics are in ``stats.py``, the drawing in ``tables.py``. Needs
no model: it can be run again on answers from a file. One marked answer:

    {"correct": true, "mode": "cot", "num_generated_tokens": 61, "path": 0,
     "predicted_answer": "42", "question_id": "t9", "seconds": 0.05, "text": " 84 / 2 = 42. ..."}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lmsi_cli.records import Interval, Mode, Paired, Record
from lmsi_cli.stats import majority_score, mean_interval, paired, pass_at_k, wilson

GREEDY_NAMES: dict[Mode, str] = {"direct": "direct", "cot": "CoT greedy"}


class Answer(Record, frozen=True, kw_only=True):
    """One path of one question, marked; ``seconds`` is the wall time since the one before."""

    question_id: str
    mode: Mode
    path: int
    text: str
    predicted_answer: str | None
    correct: bool
    num_generated_tokens: int
    seconds: float


class Figure(Record, frozen=True, kw_only=True):
    """One model's figure; ``tokens`` and ``seconds`` are what it costs per question."""

    accuracy: Interval
    parsed: float
    tokens: float
    seconds: float


class Line(Record, frozen=True, kw_only=True):
    """One line of the table: before, after, and the difference on the same questions."""

    name: str
    base: Figure
    adapter: Figure | None = None
    change: Paired | None = None


class Comparison(Record, frozen=True, kw_only=True):
    """One data set, evaluated: the table, the mean vote share per model, and every answer.

    ``skipped`` are ids of questions too long for the model's context in one mode at least; there
    they were not asked, and count as unanswered and so as wrong.
    """

    data: str
    n: int
    lines: tuple[Line, ...]
    mean_share: dict[str, float]
    gold: dict[str, str]
    answers: dict[str, tuple[Answer, ...]]
    skipped: tuple[str, ...] = ()


class Scored(NamedTuple):
    """A figure with the per-question scores (0 to 1) behind it, for pairing."""

    figure: Figure
    scores: list[float]


Groups = Mapping[str, Sequence[Answer]]  # question id -> its answers in one mode


def compare(
    data: str, answers: Mapping[str, Sequence[Answer]], gold: Mapping[str, str], seed: int
) -> Comparison:
    """Build the table of a data set; the last model is compared with the first.

    Args:
        data: What the set is called.
        answers: Per model (``base``, ``adapter``) its answers, all modes together.
        gold: Canonical right answer per question; its order is the order of pairing.
        seed: Of the bootstrap.
    """
    tables = [_figures(a, gold) for a in answers.values()]
    return Comparison(
        data=data,
        n=len(gold),
        lines=tuple(_line(name, [t[name] for t in tables], seed) for name in tables[0]),
        mean_share={name: _mean_share(a) for name, a in answers.items()},
        gold=dict(gold),
        answers={name: tuple(a) for name, a in answers.items()},
    )


def _line(name: str, scored: list[Scored], seed: int) -> Line:
    if len(scored) == 1:
        return Line(name=name, base=scored[0].figure)
    change = paired(scored[0].scores, scored[-1].scores, seed)
    return Line(name=name, base=scored[0].figure, adapter=scored[-1].figure, change=change)


def _figures(answers: Iterable[Answer], gold: Mapping[str, str]) -> dict[str, Scored]:
    """One model's figures by name, in the table's order."""
    by_mode: dict[Mode, dict[str, list[Answer]]] = {}
    for a in answers:
        by_mode.setdefault(a.mode, {q: [] for q in gold})[a.question_id].append(a)
    found: dict[str, Scored] = {}
    for mode in ("direct", "cot", "sc"):
        groups = by_mode.get(mode)
        if groups is not None:
            found |= (
                _sampled(groups, gold)
                if mode == "sc"
                else {
                    GREEDY_NAMES[mode]: _scored(
                        groups, [float(g[0].correct) for g in groups.values()]
                    )
                }
            )
    return found


def _sampled(groups: Groups, gold: Mapping[str, str]) -> dict[str, Scored]:
    """What k sampled paths say: one of them, their vote, and the best of them."""
    k = max(len(g) for g in groups.values())
    right = [sum(a.correct for a in g) for g in groups.values()]
    votes = [majority_score([a.predicted_answer for a in g], gold[q]) for q, g in groups.items()]
    return {
        "one sampled path": _scored(groups, [c / k for c in right], paths=k),
        f"majority of {k}": _scored(groups, votes),
        f"any of {k}": _scored(groups, [pass_at_k(k, c, k) for c in right]),
    }


def _scored(groups: Groups, scores: list[float], paths: int = 1) -> Scored:
    """Make a figure; ``paths`` splits the cost of a group among that many answers."""
    flat = [a for g in groups.values() for a in g]
    counts = all(s in (0.0, 1.0) for s in scores)  # a vote with ties has halves
    accuracy = wilson(round(sum(scores)), len(scores)) if counts else mean_interval(scores)
    n = max(1, len(groups) * paths)
    figure = Figure(
        accuracy=accuracy,
        parsed=sum(a.predicted_answer is not None for a in flat) / max(1, len(flat)),
        tokens=sum(a.num_generated_tokens for a in flat) / n,
        seconds=sum(a.seconds for a in flat) / n,
    )
    return Scored(figure, scores)


def _mean_share(answers: Iterable[Answer]) -> float:
    """Mean share of the most frequent answer among the sampled paths; 0 without any."""
    ballots: dict[str, Counter[str]] = {}
    for a in answers:
        if a.mode == "sc" and a.predicted_answer is not None:
            ballots.setdefault(a.question_id, Counter())[a.predicted_answer] += 1
    shares = [max(c.values()) / c.total() for c in ballots.values()]
    return sum(shares) / len(shares) if shares else 0.0
