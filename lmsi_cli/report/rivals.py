"""Training against its rival: just voting with the base.

Knows scores, votes and costs per question; the statistics are in ``stats``.

    rivalry(adapter, base).sentence
    -> "The adapter's single answer is as good as 8 votes of the base (2 to 16), at 1/9 of ..."
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.report.formats import CLEAR, p_words, points
from lmsi_cli.report.results import Rivalry, Rung
from lmsi_cli.stats import Groups, curve_ks, holm, majority_at_k, mean_interval, paired


class Single(NamedTuple):
    """One answer per question: its score by question id, and what it costs per question."""

    scores: Mapping[str, float]
    tokens: float
    seconds: float


class Sampled(NamedTuple):
    """Sampled paths per question: canonical answers by question id, and the cost of one path."""

    values: Mapping[str, Sequence[str | None]]
    gold: Mapping[str, str]
    tokens: float
    seconds: float


def rivalry(adapter: Single, base: Sampled, seed: int = 0, groups: Groups = None) -> Rivalry:
    """Find how many votes of the base one answer of the adapter is worth.

    Args:
        adapter: Its greedy answers.
        base: Its sampled paths, of the same questions; k goes up to the fewest that any has.
        seed: Of the bootstrap.
        groups: The cluster of each question, in the order of ``base.gold``.

    Raises:
        LmsiError: The questions differ, or one has no paths.
    """
    same_questions({"adapter": adapter.scores, "base": base.values, "answers": base.gold})
    single = [adapter.scores[q] for q in base.gold]
    rungs = _rungs(single, base, seed, groups)
    found = Rivalry(
        accuracy=mean_interval(single, groups),
        tokens=adapter.tokens,
        seconds=adapter.seconds,
        rungs=rungs,
        votes=_climb(rungs, [r.change.difference >= 0 for r in rungs]),
        beaten=_climb(rungs, [r.p_value < CLEAR and r.change.difference > 0 for r in rungs]),
        within=_climb(rungs, [r.p_value >= CLEAR or r.change.difference >= 0 for r in rungs]),
        sentence="",
    )
    return msgspec.structs.replace(found, sentence=_sentence(found))


def _rungs(single: list[float], base: Sampled, seed: int, groups: Groups) -> tuple[Rung, ...]:
    ks = curve_ks(min((len(base.values[q]) for q in base.gold), default=0))
    if not ks:
        raise LmsiError(
            "the base has questions without sampled paths, so there is no vote to compare with",
            "evaluate it with `--modes cot,sc`",
        )
    scores = [[majority_at_k(base.values[q], base.gold[q], k) for q in base.gold] for k in ks]
    changes = [paired(s, single, seed, groups) for s in scores]
    return tuple(
        Rung(
            k=k,
            accuracy=mean_interval(s, groups),
            tokens=k * base.tokens,
            seconds=k * base.seconds,
            change=c,
            p_value=p,
        )
        for k, s, c, p in zip(ks, scores, changes, holm([c.p_value for c in changes]), strict=True)
    )


def _climb(rungs: Sequence[Rung], holds: Sequence[bool]) -> int:
    """The last k up to which something holds for every k."""
    last = 0
    for rung, held in zip(rungs, holds, strict=True):
        if not held:
            break
        last = rung.k
    return last


def _sentence(r: Rivalry) -> str:
    most, first = r.rungs[-1], r.rungs[0]
    if r.votes == 0 and r.within == 0:
        return (
            f"The adapter's single answer is not as good as one sampled path of the base: "
            f"{points(first.change)}, p {p_words(first.p_value)}."
        )
    if r.votes == 0:
        return (
            f"The adapter's single answer cannot be told apart from one sampled path of the base "
            f"({points(first.change)}), so it replaces no votes."
        )
    at = next(x for x in r.rungs if x.k == r.votes)
    bound = "at least as good as" if r.votes == most.k else "as good as"
    return (
        f"The adapter's single answer is {bound} {_votes(r.votes)} of the base{_span(r)}, at "
        f"{_part(r.tokens, at.tokens)} of the tokens and {_part(r.seconds, at.seconds)} of the "
        f"time.{_beyond(r)}"
    )


def _span(r: Rivalry) -> str:
    """How far the figures leave the number of votes open."""
    if r.beaten == r.within:
        return ""
    least = f"it clearly beats {_votes(r.beaten)}" if r.beaten else "it clearly beats not even one"
    more = "" if r.within == r.votes else f", and up to {r.within} are not clearly better"
    return f" ({least}{more})"


def _beyond(r: Rivalry) -> str:
    """What voting reaches that the adapter does not."""
    best = max(r.rungs, key=lambda x: x.accuracy.value)
    if best.k > r.within:
        return f" {_votes(best.k)} of the base are clearly better: {points(best.change)}."
    if best.k == 1 and len(r.rungs) > 1:
        return " Voting does not help this base."
    return ""


def _votes(k: int) -> str:
    return "1 vote" if k == 1 else f"{k} votes"


def _part(own: float, other: float) -> str:
    """A cost as a part of another: 1/7 where it is smaller, 1.3 times where it is not."""
    if other <= 0:
        return "an unknown part"
    ratio = own / other
    return f"1/{1 / ratio:.0f}" if 0 < ratio < 2 / 3 else f"{ratio:.1f} times"


def same_questions(sets: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse to compare what was not asked the same."""
    (first, questions), *others = sets.items()
    for name, other in others:
        if other.keys() != questions.keys():
            odd = sorted(other.keys() ^ questions.keys())
            raise LmsiError(
                f"{first} and {name} answered different questions: {len(odd)} are only in one of "
                f"them, such as {odd[0]}",
                "evaluate all of them on the same file",
            )
