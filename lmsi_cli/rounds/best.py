"""Which round is kept, decided without a test set: choosing by it would spoil its figures.

With a probe the round with the most right answers, of equal ones the earlier. Without labels the
first round stays unless a later one agrees clearly more with the first vote on questions that none
was trained on: a later round costs diversity, so it must earn its place. Knows records only.

    best(rounds, {1: frozenset(), 2: frozenset()}, "probe")
    -> Best(number=2, by="probe", why="most right answers on 40 questions of the probe: ...")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from lmsi_cli.rounds.gates import CLEAR, WHAT, Ground, change, comparable, points, scores
from lmsi_cli.rounds.records import Best, By, Figures, Round

UNSOUND = "no round is sound; the first one is kept for want of a better one"


def best(rounds: Sequence[Round], trained: Mapping[int, frozenset[str]], by: By) -> Best | None:
    """Choose among the rounds that have an adapter; None if none has.

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
    questions = comparable(list(map(_of, compared)), ground) if len(compared) > 1 else []
    if not questions:
        why = "too few questions to compare the rounds on, so the first one is kept"
        return Best(number=sound[0].number, by="nothing", why=why)
    return (_by_labels if by == "probe" else _by_agreement)(compared, questions)


def _by_labels(rounds: Sequence[Round], questions: Sequence[str]) -> Best:
    means = {r.number: fmean(scores(_of(r), questions)) for r in rounds}
    chosen = max(rounds, key=lambda r: (means[r.number], -r.number))
    told = ", ".join(f"{100 * mean:.1f}% in round {n}" for n, mean in means.items())
    why = f"most {WHAT['probe']} on {len(questions)} questions of the probe: {told}"
    return _against_first(rounds[0], chosen, questions, "probe", why)


def _by_agreement(rounds: Sequence[Round], questions: Sequence[str]) -> Best:
    """The first round, or a later one that is better than it beyond chance (Bonferroni)."""
    first, *later = rounds
    level = CLEAR / len(later)
    clear = [r for r in later if _gains(first, r, questions, level)]
    chosen = max(clear, key=lambda r: fmean(scores(_of(r), questions)), default=first)
    what = f"{WHAT['agreement']} on {len(questions)} questions that no round was trained on"
    if chosen is first:
        why = f"no later round is clearly better in {what}, so the first one is kept"
        return Best(number=first.number, by="agreement", why=why)
    why = f"clearly more {what}; no labels, so that is no proof of a gain"
    return _against_first(first, chosen, questions, "agreement", why)


def _gains(first: Round, later: Round, questions: Sequence[str], level: float) -> bool:
    found = change(_of(first), _of(later), questions)
    return found.difference > 0 and found.p_value < level


def _against_first(first: Round, chosen: Round, questions: Sequence[str], by: By, why: str) -> Best:
    if chosen.number == first.number:
        return Best(number=chosen.number, by=by, why=why)
    found = change(_of(first), _of(chosen), questions)
    told = f"{why}; {points(found)} against round {first.number}"
    if found.p_value >= CLEAR:
        told += ": that may be chance"
    return Best(number=chosen.number, by=by, why=told, change=found)


def _of(r: Round) -> Figures:
    assert r.figures is not None  # ``best`` compares no others
    return r.figures
