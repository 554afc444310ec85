"""What a check-up shows of one model: a few answers to the same questions, in numbers.

A check-up asks the base and every round's adapter the same questions with the same random numbers.
Knows answers as equal or unequal strings; draws no conclusion.

    figures("round-2", {"q1": [Said("42", ("6*7=42",), True), Said("41", (), False)]}, {"q1": "42"})
    -> Figures(model="round-2", questions=("q1",), scores=(0.5,), parsed=(1.0,), ...)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lmsi_cli.rounds.records import Figures
from lmsi_cli.stats import evenness


class Said(NamedTuple):
    """One answer, None if none was found; ``route`` is what tells its solution from others."""

    answer: str | None
    route: tuple[str, ...]
    greedy: bool


def figures(model: str, said: Mapping[str, Sequence[Said]], wanted: Mapping[str, str]) -> Figures:
    """Put a check-up in numbers.

    Args:
        model: Who answered.
        said: Answers by question, at least one each.
        wanted: What they are held against: right answers, or winners of the first vote.
    """
    ids = [q for q in wanted if said.get(q)]
    sampled = [[s for s in said[q] if not s.greedy] for q in ids]
    greedy = Counter(s.answer for q in ids for s in said[q] if s.greedy and s.answer is not None)
    return Figures(
        model=model,
        questions=tuple(ids),
        scores=tuple(_share([s.answer == wanted[q] for s in said[q]]) for q in ids),
        parsed=tuple(_share([s.answer is not None for s in said[q]]) for q in ids),
        distinct=tuple(len({s.answer for s in own} - {None}) / max(1, len(own)) for own in sampled),
        routes=tuple(len({s.route for s in own}) / max(1, len(own)) for own in sampled),
        entropy=tuple(_entropy([s.answer for s in own]) for own in sampled),
        commonest=max(greedy.values()) / greedy.total() if greedy else 0.0,
        evenness=evenness(sorted(greedy.values())),
    )


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks)


def _entropy(answers: Sequence[str | None]) -> float:
    """Of the answers that were found, over that of as many different ones."""
    counts = Counter(a for a in answers if a is not None)
    if len(answers) < 2 or not counts:
        return 0.0
    shares = [n / counts.total() for n in counts.values()]
    return min(1.0, max(0.0, -sum(p * math.log(p) for p in shares)) / math.log(len(answers)))
