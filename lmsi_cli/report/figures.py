"""From one variant's marked answers to its figures, its curve, and a score per question.

Knows modes and what a line is called; the statistics are in ``stats``. Needs no model: it can be
run again on answers from a file.

    variant_figures({"cot": {"t1": [Answer(...)], ...}}, gold)
    -> [Figure(name="CoT greedy", mode="cot", accuracy=..., scores=(1.0, ...), ...)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lmsi_cli.records import Interval, Mode
from lmsi_cli.report.results import Answer, CurvePoint, Figure
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
ByMode = Mapping[Mode, Answers]
Clusters = Sequence[str] | None


def majority_name(k: int) -> str:
    """What the vote of k paths is called."""
    return f"majority of {k}"


def line_of(mode: Mode, paths: int) -> str:
    """The line that stands for a mode: of sampled paths, their vote."""
    return GREEDY_NAMES.get(mode, majority_name(paths))


def by_mode(
    answers: Iterable[Answer], gold: Mapping[str, str]
) -> dict[Mode, dict[str, list[Answer]]]:
    """Sort answers by mode and question, in the order of the questions and the path numbers."""
    found: Sorted = {}
    for a in sorted(answers, key=lambda a: a.path):
        if a.question_id in gold:
            found.setdefault(a.mode, {q: [] for q in gold})[a.question_id].append(a)
    return {mode: found[mode] for mode in ORDER if mode in found}


def variant_figures(
    answers: ByMode, gold: Mapping[str, str], clusters: Clusters = None
) -> tuple[Figure, ...]:
    """One variant's figures in the table's order.

    Args:
        answers: By mode, then by question.
        gold: Canonical right answer per question; its order is that of the scores.
        clusters: Each question's cluster, in the same order; None: each is its own.
    """
    found: list[Figure] = []
    for mode in (m for m in ORDER if m in answers):
        of = _Lines(mode, answers[mode], clusters)
        found += of.sampled(gold) if mode == "sc" else [of.greedy()]
    return tuple(found)


def curve(
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


def mean_share(answers: Answers) -> float:
    """Mean share of the most frequent answer among a question's parsed paths; 0 without any."""
    ballots = [Counter(filter(None, (a.predicted_answer for a in g))) for g in answers.values()]
    shares = [max(c.values()) / c.total() for c in ballots if c]
    return sum(shares) / len(shares) if shares else 0.0


class _Lines:
    """The lines of one mode."""

    def __init__(self, mode: Mode, answers: Answers, clusters: Clusters) -> None:
        self.mode, self.answers, self.clusters = mode, answers, clusters

    def greedy(self) -> Figure:
        scores = [float(g[0].correct) if g else 0.0 for g in self.answers.values()]
        return self._figure(GREEDY_NAMES[self.mode], scores)

    def sampled(self, gold: Mapping[str, str]) -> list[Figure]:
        """What k sampled paths say: one of them, their vote, and the best of them."""
        groups = self.answers
        k = max((len(g) for g in groups.values()), default=1)
        right = [sum(a.correct for a in g) for g in groups.values()]
        votes = [
            majority_score([a.predicted_answer for a in g], gold[q]) for q, g in groups.items()
        ]
        return [
            self._figure(ONE, [c / k for c in right], paths=k),
            self._figure(majority_name(k), votes),
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


def accuracy(scores: Sequence[float], clusters: Clusters = None) -> Interval:
    """Mean score with Wilson's interval; where questions cluster or votes tie, a robust one."""
    if clusters is None and all(s in (0.0, 1.0) for s in scores):
        return wilson(round(sum(scores)), len(scores))
    return mean_interval(scores, clusters)


def _cost(answers: Answers) -> tuple[float, float]:
    """Tokens and seconds per question."""
    flat = [a for g in answers.values() for a in g]
    n = max(1, len(answers))
    return sum(a.num_generated_tokens for a in flat) / n, sum(a.seconds for a in flat) / n
