"""Between two rounds: whether to go on, each reason in words with its figure.

Three gates: the verdict on the round's vote, the alarms of its training, and its check-up against
the round before. Right answers, where there are enough, speak for themselves; without them only
signs of collapse and of straying from the first vote can speak, and none can say that a round is
better: agreement rises under training whether the answers get better or not. Knows records only.

    checked(before, after, base, Ground(("q1", ...), "probe", trained=frozenset()))
    -> (Gate(name="check-up", ends=True, text="right answers fell by 12 points ..."),)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lmsi_cli.records import Paired
from lmsi_cli.rounds.records import By, Figures, Gate
from lmsi_cli.stats import paired
from lmsi_cli.verdict.rules import (
    COLLAPSED,
    COLLAPSED_CHOICE,
    FEWEST,
    FEWEST_PAIRS,
    STOP,
    Verdict,
)

CLEAR = 0.05
# Of the answers that could be read before; a model that forgets the form does so for most.
UNREAD = 0.10
# Of the base's evenness: below it, the model gives the same answer to every question.
SAME = 0.5
WHAT: dict[By, str] = {
    "probe": "right answers",
    "agreement": "agreement with the first vote",
    "nothing": "answers",
}


class Ground(NamedTuple):
    """What a comparison stands on: what answers are held against, and what was trained on.

    ``trained`` are the ids of questions that one of the compared adapters was trained on.
    """

    by: By
    trained: frozenset[str]
    chance: float | None = None


def voted(verdict: Verdict) -> Gate:
    """The gate of the vote: its verdict with the weightiest reason."""
    text = f"the verdict is {verdict.verdict}"
    if verdict.verdict == STOP:
        text = f"the verdict is not to train: {verdict.reasons[0].text}"
    return Gate(name="verdict", ends=verdict.verdict == STOP, text=text)


def alarmed(why: str) -> tuple[Gate, ...]:
    """The gate of training: an alarm that ended it; none for an empty reason."""
    return (Gate(name="alarm", ends=True, text=f"training raised an alarm: {why}"),) if why else ()


def comparable(found: Sequence[Figures], ground: Ground) -> list[str]:
    """Questions to compare scores on, in order; empty if there are too few.

    Those that no compared adapter was trained on. A probe that has too few of them is taken whole:
    its labels were never trained on, though its questions were. Agreement on trained questions
    shows nothing but that training worked.
    """
    asked = [q for q in found[0].questions if all(q in f.questions for f in found)]
    apart = [q for q in asked if q not in ground.trained]
    if ground.by == "probe":
        chosen = apart if len(apart) >= FEWEST_PAIRS else asked
        return chosen if len(chosen) >= FEWEST_PAIRS else []
    return apart if ground.by == "agreement" and len(apart) >= FEWEST else []


def scores(found: Figures, questions: Sequence[str]) -> list[float]:
    """A model's scores of some questions, in their order."""
    told = dict(zip(found.questions, found.scores, strict=True))
    return [told[q] for q in questions]


def change(before: Figures, after: Figures, questions: Sequence[str]) -> Paired:
    """Scores of the same questions before and after; the test is exact."""
    return paired(scores(before, questions), scores(after, questions))


def checked(before: Figures, after: Figures, base: Figures, ground: Ground) -> tuple[Gate, ...]:
    """The gate of the check-up.

    Args:
        before: Of the round before; of the base for the first round.
        after: Of this round.
        base: Of the base.
        ground: What they are compared on.
    """
    return tuple(_checked(before, after, base, ground))


def _checked(before: Figures, after: Figures, base: Figures, ground: Ground) -> Iterator[Gate]:
    questions = comparable((before, after), ground)
    whom = "the base" if before.model == base.model else "the round before"
    if questions:
        yield _scored(change(before, after, questions), ground, whom)
    else:
        yield _remark(f"too few questions for a comparison with {whom}")
    labelled = bool(questions) and ground.by == "probe"
    for text in _collapse(before, after, base, ground.chance, whom):
        yield Gate(name="check-up", ends=not labelled, text=text)
    yield from (_remark(text) for text in _narrowed(before, after, whom))


def _remark(text: str) -> Gate:
    return Gate(name="check-up", ends=False, text=text)


def _scored(c: Paired, ground: Ground, whom: str) -> Gate:
    fell = c.difference < 0 and c.p_value < CLEAR
    told = f"{WHAT[ground.by]} against {whom}: {points(c)}"
    if ground.by != "probe":
        told += "; a rise would be no evidence of a gain"
    return Gate(name="check-up", ends=fell, text=told)


def _collapse(
    before: Figures, after: Figures, base: Figures, chance: float | None, whom: str
) -> Iterator[str]:
    """Signs that a model no longer works, whatever is right."""
    read = paired(before.parsed, after.parsed)
    if read.p_value < CLEAR and read.difference <= -UNREAD:
        yield f"answers that can be read against {whom}: {points(read)}"
    most = COLLAPSED_CHOICE if chance else COLLAPSED
    if after.commonest > most and after.commonest > base.commonest:
        yield (
            f"one answer is given to {100 * after.commonest:.0f}% of the questions "
            f"(base {100 * base.commonest:.0f}%)"
        )
    if after.evenness < SAME * base.evenness:
        yield (
            f"answers to different questions are the same (evenness {after.evenness:.2f}, "
            f"base {base.evenness:.2f})"
        )


def _narrowed(before: Figures, after: Figures, whom: str) -> Iterator[str]:
    """Less diversity: later rounds then find less, but it foretells no failure by itself."""
    for name, then, now in (
        ("distinct answers of a question", before.distinct, after.distinct),
        ("distinct solutions of a question", before.routes, after.routes),
        ("entropy of a question's answers", before.entropy, after.entropy),
    ):
        c = paired(then, now)
        if c.difference < 0 and c.p_value < CLEAR:
            yield f"{name} against {whom}: {points(c)}; less is left to vote on"


def points(c: Paired) -> str:
    """A change in points with its interval and p."""
    p = f"p = {c.p_value:.3f}" if c.p_value >= 0.001 else "p < 0.001"
    interval = f"[{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    return f"{100 * c.difference:+.1f} {interval} points, {p}, n = {c.n}"
