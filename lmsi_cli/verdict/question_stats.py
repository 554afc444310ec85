"""What one question's paths show, in a few small numbers; the paths can then be forgotten.

Knows votes and the equations of texts; nothing of other questions, gold answers or thresholds.
Whatever the run's own settings, two votes are looked at: the plain one, in which every complete
path with an answer has its ballot, and the checked one, without paths that state a false equation.
The shares are those of the plain vote: the check would make all winners true by rule, and so hide
whether winning goes with being true.

    look(question, vote, paths)   # answers 42, 42, 40; those of 42 state true equations, 40 not
    -> Seen(question_id="q7", plain_answer="42", checked_answer="42", share=0.67, margin=0.33,
            winners_true=1.0, losers_true=0.0, one_route=0.5, ...)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lmsi_cli.records import Path, Vote
from lmsi_cli.voting import is_complete
from lmsi_cli.voting import vote as plain_vote
from lmsi_cli.voting.ballots import steps_of

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class Seen(NamedTuple):
    """One question; fractions of one where nothing else is said, ``None`` where undefined.

    ``ballots`` are the plain vote's. ``true`` is the share of paths whose equations all hold, among
    those that state any; ``winners_true`` and ``losers_true`` are its parts by the plain vote.
    ``one_route`` is the share of the commonest list of equations among the paths that agree with
    the checked vote and state equations, if there are two at least. ``likelihood`` is the geometric
    mean probability of a token, averaged over the paths. ``numbers_used`` is the share of the
    question's numbers that the equations of a plain winner's path use, averaged over those paths.
    """

    question_id: str
    plain_answer: str | None
    checked_answer: str | None
    ballots: dict[str, int]
    kept: bool
    stopped: bool
    tie: bool
    share: float | None
    share_of_all: float
    margin: float | None
    parsed: float
    truncated: float
    distinct: float | None
    true: float | None
    winners_true: float | None
    losers_true: float | None
    one_route: float | None
    numbers_used: float | None
    likelihood: float | None


class _Checked(NamedTuple):
    """A complete path: its answer, its equations, and whether they hold (``None``: has none)."""

    answer: str | None
    route: tuple[str, ...]
    true: bool | None


def look(question: str, vote: Vote, paths: Sequence[Path]) -> Seen:
    """Reduce a question to what the signals need.

    Args:
        question: Its own words.
        vote: The run's vote over exactly these paths; of it only ``kept`` and ``stopped`` count.
        paths: All paths of the question, at least one.
    """
    plain = plain_vote(vote.question_id, paths)
    checked = [_check(p) for p in paths if is_complete(p)]
    winner, total = plain.predicted_answer, plain.total_votes
    sound = [c for c in checked if c.true is not False]
    winners = [c for c in checked if winner is not None and c.answer == winner]
    losers = [c for c in checked if winner is not None and c.answer != winner]
    best = _winner([c.answer for c in sound])
    return Seen(
        question_id=vote.question_id,
        plain_answer=winner,
        checked_answer=best,
        ballots=plain.ballots,
        kept=bool(vote.kept),
        stopped=vote.stopped,
        tie=plain.tie,
        share=plain.share if total else None,
        share_of_all=plain.share_of_all,
        margin=plain.margin if total else None,
        parsed=total / len(paths),
        truncated=plain.truncated / len(paths),
        distinct=len(plain.ballots) / total if total else None,
        true=_mean(c.true for c in checked),
        winners_true=_mean(c.true for c in winners),
        losers_true=_mean(c.true for c in losers),
        one_route=_one_route([c.route for c in sound if c.answer == best and c.route]),
        numbers_used=_numbers_used(question, [c.route for c in winners if c.route]),
        likelihood=_mean(math.exp(p.mean_logprob) for p in paths if p.mean_logprob is not None),
    )


def _check(path: Path) -> _Checked:
    steps = steps_of(path)
    true = all(s.holds for s in steps) if steps else None
    return _Checked(path.predicted_answer, tuple(map(str, steps)), true)


def _winner(answers: Sequence[str | None]) -> str | None:
    """The commonest answer; ``None`` on a tie or without answers."""
    ranked = Counter(answers).most_common(2)
    return ranked[0][0] if ranked and (len(ranked) < 2 or ranked[0][1] > ranked[1][1]) else None


def _one_route(routes: Sequence[tuple[str, ...]]) -> float | None:
    """How much of an agreement is one solution repeated; a single path agrees with nobody."""
    return max(Counter(routes).values()) / len(routes) if len(routes) > 1 else None


def _numbers_used(question: str, routes: Sequence[tuple[str, ...]]) -> float | None:
    """Mean share of the numbers in a question that occur in a list of equations.

    What is left out of every rationale is invisible to any vote: all paths that forget the fifth
    item of a shopping list agree, and their sums are true.
    """
    asked = set(_NUMBER.findall(_THOUSANDS.sub("", question)))
    if not asked:
        return None
    return _mean(len(asked & set(_NUMBER.findall(" ".join(r)))) / len(asked) for r in routes)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [float(v) for v in values if v is not None]
    return sum(found) / len(found) if found else None
