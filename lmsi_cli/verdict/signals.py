"""What a run shows before training: without any right answer, and with the answers of a probe.

Knows votes and the equations of texts; has no thresholds and draws no conclusions: ``rules.py``
does. Each question is reduced to a few numbers, and then its paths can be forgotten. Whatever the
run's own settings, signals use the plain vote, in which every complete path has a ballot: checking
equations would make all winners true by rule, and so hide whether winning goes with being true.

    look(question, vote, paths)   # answers 42, 42, 40; those of 42 state true equations, 40 not
    -> Seen(question_id="q7", plain_answer="42", share=0.67, winners_true=1.0, losers_true=0.0, ...)
    label_free(seen, chance=None)
    -> {"share of all": Interval(value=0.43, low=0.40, high=0.46, n=280), "steps lift": ..., ...}

Questions are the unit of every interval, since paths of one question are alike. A signal is left
out where it is undefined (no equations), and those of shares if ``--stop`` ended a question early.

A probe, questions of the run with right answers, is marked question by question. Gold answers go no
further than this: no training example is made from them.

    labelled([mark(vote, paths, "42"), ...])
    -> ProbeFigures(questions=60, kept_questions=49, gap=Interval(value=0.52, ...), ...)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.records import Interval, Path, Record, Vote
from lmsi_cli.stats.intervals import majority_score, mean_interval, wilson
from lmsi_cli.stats.paired_tests import paired
from lmsi_cli.voting.ballots import agrees, holds, is_complete, steps_of
from lmsi_cli.voting.ballots import vote as plain_vote

GUESSES = 400  # simulated questions per number of ballots, for the agreement by chance alone

# What each signal is, in words, in the order of the table.
WORDS = {
    "share of all": "mean share of the winner among all paths",
    "above chance": "share of the winner beyond what answers drawn at random would give",
    "truncated": "paths cut off at the token limit",
    "commonest": "questions that the commonest winner wins",
    "winners' steps": "paths of the winner whose equations all hold, among those that state any",
    "steps lift": "winners' steps minus losers' steps, by question",
    "numbers used": "numbers of the question that the winner's equations use",
}

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class Seen(NamedTuple):
    """One question in figures: fractions of one unless stated, ``None`` where undefined.

    ``ballots`` are the plain vote's. ``winners_true`` is the share of the winner's paths whose
    equations all hold, among those that state any; ``losers_true`` is that of the other answers.
    ``numbers_used`` is the share of the question's numbers that the equations of a plain winner's
    path use, averaged over those paths.
    """

    question_id: str
    plain_answer: str | None
    ballots: dict[str, int]
    stopped: bool
    share: float | None
    share_of_all: float
    truncated: float
    winners_true: float | None
    losers_true: float | None
    numbers_used: float | None


def look(question: str, vote: Vote, paths: Sequence[Path]) -> Seen:
    """Reduce a question, given its text and all of its paths, to what the signals need.

    Of the run's ``vote`` over these paths, only the id and ``stopped`` are used.
    """
    plain = plain_vote(vote.question_id, paths)
    complete = [p for p in paths if is_complete(p)]
    winner = plain.predicted_answer
    winners = [p for p in complete if agrees(p, winner)]
    losers = [p for p in complete if winner is not None and not agrees(p, winner)]
    routes = [" ".join(map(str, steps)) for p in winners if (steps := steps_of(p.text))]
    return Seen(
        question_id=vote.question_id,
        plain_answer=winner,
        ballots=plain.ballots,
        stopped=vote.stopped,
        share=plain.share if plain.ballots else None,
        share_of_all=plain.share_of_all,
        truncated=plain.truncated / len(paths),
        winners_true=_mean(map(holds, winners)),
        losers_true=_mean(map(holds, losers)),
        numbers_used=_numbers_used(question, routes),
    )


def _numbers_used(question: str, routes: Sequence[str]) -> float | None:
    """Mean share of the numbers in a question that occur in a list of equations.

    What all rationales leave out, no vote can see: all paths that forget the fifth item of a
    shopping list agree, and their sums are true.
    """
    asked = _numbers(_THOUSANDS.sub("", question))
    if not asked:
        return None
    return _mean(len(asked & _numbers(route)) / len(asked) for route in routes)


def _numbers(text: str) -> set[float]:
    """By value: "$5.00" in a question is the 5 of an equation."""
    return set(map(float, _NUMBER.findall(text)))


def _mean(values: Iterable[float | None]) -> float | None:
    found = [float(v) for v in values if v is not None]
    return sum(found) / len(found) if found else None


def label_free(seen: Sequence[Seen], chance: float | None) -> dict[str, Interval]:
    """Compute every label-free signal that these questions allow, in the order of ``WORDS``.

    No "share of all" or "above chance" if a question was stopped early: its own share is high
    because sampling went on until it was, and the others' shares are low because the decided
    questions are gone.
    ``chance`` is the share of right answers by guessing; ``None`` where guessing is hopeless.
    """
    won = Counter(s.plain_answer for s in seen if s.plain_answer is not None)
    steps = [(s.losers_true, s.winners_true) for s in seen]
    both = [(low, high) for low, high in steps if low is not None and high is not None]
    found = {
        "truncated": _interval([s.truncated for s in seen]),
        "commonest": wilson(max(won.values()), won.total()) if won else None,
        "winners' steps": _interval([s.winners_true for s in seen]),
        "steps lift": difference([x for x, _ in both], [y for _, y in both]) if both else None,
        "numbers used": _interval([s.numbers_used for s in seen]),
    }
    if not any(s.stopped for s in seen):
        found["share of all"] = _interval([s.share_of_all for s in seen])
        found["above chance"] = _above_chance(seen, chance)
    return {name: value for name in WORDS if (value := found.get(name)) is not None}


def _interval(values: Sequence[float | None]) -> Interval | None:
    known = [v for v in values if v is not None]
    return mean_interval(known) if known else None


def difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """A mean difference of paired values, with the interval of ``stats.paired``."""
    change = paired(before, after)
    return Interval(value=change.difference, low=change.low, high=change.high, n=change.n)


def _above_chance(seen: Sequence[Seen], chance: float | None) -> Interval | None:
    """Winners' shares minus those of as many ballots drawn from the answers of all questions.

    Drawing from the run's own answers accounts for the number of choices and the model's bias for
    one of them: a model that always says "yes" agrees perfectly, and shows nothing. Where the task
    has a chance level, agreement must also beat equally likely choices.
    """
    asked = [s for s in seen if s.share is not None]
    if not asked:
        return None
    totals: Counter[str] = Counter()
    for s in asked:
        totals.update(s.ballots)
    pool = np.repeat(np.arange(len(totals)), list(totals.values()))  # each answer as a number
    even = np.arange(max(1, round(1 / chance))) if chance else None
    expected: dict[int, float] = {}
    for n in {sum(s.ballots.values()) for s in asked}:
        equal = 0.0 if even is None else _share_by_chance(even, n)
        expected[n] = max(_share_by_chance(pool, n), equal)
    before = [expected[sum(s.ballots.values())] for s in asked]
    return difference(before, [s.share or 0.0 for s in asked])


def _share_by_chance(pool: NDArray[np.int64], ballots: int) -> float:
    """Mean share of the winner among ballots drawn from a pool, by simulation."""
    rng = np.random.default_rng((0, ballots))
    drawn = rng.choice(pool, size=(GUESSES, ballots))
    most = [int(np.unique(row, return_counts=True)[1].max()) for row in drawn]
    return float(np.mean(most)) / ballots


class Marked(NamedTuple):
    """One probe question, marked; fractions of one.

    ``right`` is the share of its paths that are right, ``kept_right`` that of its kept paths
    (``None`` if none is kept), ``vote_right`` the score of its vote, where a tie is shared.
    """

    right: float
    kept_right: float | None
    vote_right: float


class ProbeFigures(Record, frozen=True, kw_only=True):
    """The labelled signals.

    ``gap`` is the accuracy of the kept paths minus that of all paths, both of the same kept
    questions: what training can teach there. ``vote_gap`` is the accuracy of the vote minus that of
    a path, over all questions; one without a ballot is wrong. ``vote`` is the ceiling (maj@m),
    ``any_path`` the oracle (pass@m).
    """

    questions: int
    kept_questions: int
    one_path: Interval
    kept: Interval
    gap: Interval
    vote: Interval
    vote_gap: Interval
    any_path: Interval


def mark(vote: Vote, paths: Sequence[Path], gold: str) -> Marked:
    """Mark one question of the probe; a path that was cut off is not right."""
    right = {p.path: is_complete(p) and p.predicted_answer == gold for p in paths}
    kept = [right[i] for i in vote.kept]
    return Marked(
        right=sum(right.values()) / len(right),
        kept_right=sum(kept) / len(kept) if kept else None,
        vote_right=majority_score(list(Counter(vote.ballots).elements()), gold),
    )


def labelled(marked: Sequence[Marked]) -> ProbeFigures:
    """Compute the labelled signals of at least one question."""
    kept = [(m.right, m.kept_right) for m in marked if m.kept_right is not None]
    return ProbeFigures(
        questions=len(marked),
        kept_questions=len(kept),
        one_path=mean_interval([m.right for m in marked]),
        kept=mean_interval([k for _, k in kept]),
        gap=difference([a for a, _ in kept], [k for _, k in kept]),
        vote=mean_interval([m.vote_right for m in marked]),
        vote_gap=difference([m.right for m in marked], [m.vote_right for m in marked]),
        any_path=wilson(sum(m.right > 0 for m in marked), len(marked)),
    )
