"""Between two rounds: whether to go on, and which one is kept; each reason in words.

Three gates: the verdict on the round's vote, the alarms of its training, and its check-up against
the round before. Right answers, where there are enough, speak for themselves; without them only
signs of collapse and of straying from the first vote can speak, and none can say that a round is
better: agreement rises under training whether the answers get better or not. Knows records only.

    checked(before, after, base, Ground(("q1", ...), "probe", trained=frozenset()))
    -> (Gate(name="check-up", ends=True, text="right answers fell by 12 points ..."),)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from lmsi_cli.records import Paired
from lmsi_cli.rounds.records import Best, By, Figures, Gate, Round
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
UNSOUND = "no round is sound; the first one is kept for want of a better one"
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


def _scores(found: Figures, questions: Sequence[str]) -> list[float]:
    by_id = dict(zip(found.questions, found.scores, strict=True))
    return [by_id[q] for q in questions]


def _change(before: Figures, after: Figures, questions: Sequence[str]) -> Paired:
    """Scores of the same questions before and after; the test is exact."""
    return paired(_scores(before, questions), _scores(after, questions))


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
        yield _scored(_change(before, after, questions), ground, whom)
    else:
        yield _remark(f"too few questions for a comparison with {whom}")
    labelled = bool(questions) and ground.by == "probe"
    for text in _collapse(before, after, base, ground.chance, whom):
        yield Gate(name="check-up", ends=not labelled, text=text)


def _remark(text: str) -> Gate:
    return Gate(name="check-up", ends=False, text=text)


def _scored(c: Paired, ground: Ground, whom: str) -> Gate:
    fell = c.difference < 0 and c.p_value < CLEAR
    text = f"{WHAT[ground.by]} against {whom}: {points(c)}"
    if ground.by != "probe":
        text += "; a rise would be no evidence of a gain"
    return Gate(name="check-up", ends=fell, text=text)


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


def points(c: Paired) -> str:
    """A change in points with its interval and p."""
    p = f"p = {c.p_value:.3f}" if c.p_value >= 0.001 else "p < 0.001"
    interval = f"[{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    return f"{100 * c.difference:+.1f} {interval} points, {p}, n = {c.n}"


def best(rounds: Sequence[Round], trained: Mapping[int, frozenset[str]], by: By) -> Best | None:
    """Choose among the rounds that have an adapter; None if none has.

    No test set has a say: choosing by it would spoil its figures. With a probe it is the round
    with the most right answers, of equal ones the earlier. Without labels the first round stays
    unless a later one agrees clearly more with the first vote on questions that none was trained
    on: a later round costs diversity, so it must earn its place.

    Args:
        rounds: In order.
        trained: Ids of the questions that each round was trained on, by its number.
        by: What the check-ups' answers are held against.
    """
    there = [r for r in rounds if r.trained]
    sound = [r for r in there if r.sound]
    if not there:
        return None
    if len(sound) < 2:
        why = "the only round that is sound" if sound else UNSOUND
        return Best(number=(sound or there)[0].number, by="nothing", why=why)
    compared = [r for r in sound if r.figures is not None]
    seen = (trained.get(r.number, frozenset[str]()) for r in compared)
    ground = Ground(by, frozenset[str]().union(*seen))
    questions = comparable(list(map(_figures, compared)), ground) if len(compared) > 1 else []
    if not questions:
        why = "too few questions to compare the rounds on, so the first one is kept"
        return Best(number=sound[0].number, by="nothing", why=why)
    return (_by_labels if by == "probe" else _by_agreement)(compared, questions)


def _by_labels(rounds: Sequence[Round], questions: Sequence[str]) -> Best:
    means = {r.number: fmean(_scores(_figures(r), questions)) for r in rounds}
    chosen = max(rounds, key=lambda r: (means[r.number], -r.number))
    each = ", ".join(f"{100 * mean:.1f}% in round {n}" for n, mean in means.items())
    why = f"most {WHAT['probe']} on {len(questions)} questions of the probe: {each}"
    return _against_first(rounds[0], chosen, questions, "probe", why)


def _by_agreement(rounds: Sequence[Round], questions: Sequence[str]) -> Best:
    """The first round, or a later one that is better than it beyond chance (Bonferroni)."""
    first, *later = rounds
    changes = {r.number: _change(_figures(first), _figures(r), questions) for r in later}
    clear = [
        r
        for r in later
        if changes[r.number].difference > 0 and changes[r.number].p_value < CLEAR / len(later)
    ]
    chosen = max(clear, key=lambda r: changes[r.number].difference, default=first)
    what = f"{WHAT['agreement']} on {len(questions)} questions that no round was trained on"
    if chosen is first:
        why = f"no later round is clearly better in {what}, so the first one is kept"
        return Best(number=first.number, by="agreement", why=why)
    why = f"clearly more {what}; no labels, so that is no proof of a gain"
    return _against_first(first, chosen, questions, "agreement", why)


def _against_first(first: Round, chosen: Round, questions: Sequence[str], by: By, why: str) -> Best:
    if chosen.number == first.number:
        return Best(number=chosen.number, by=by, why=why)
    found = _change(_figures(first), _figures(chosen), questions)
    why = f"{why}; {points(found)} against round {first.number}"
    if found.p_value >= CLEAR:
        why += ": that may be chance"
    return Best(number=chosen.number, by=by, why=why, change=found)


def _figures(r: Round) -> Figures:
    assert r.figures is not None  # ``best`` compares no others
    return r.figures
