"""What one question's paths show, in a few small numbers; the paths can then be forgotten.

Knows votes and the equations of texts; nothing of other questions, gold answers or thresholds.
Whatever the run's own settings, the vote that is looked at is the plain one, in which every
complete path with an answer has its ballot: checking equations would make all winners true by rule,
and so hide whether winning goes with being true.

    look(question, vote, paths)   # answers 42, 42, 40; those of 42 state true equations, 40 not
    -> Seen(question_id="q7", plain_answer="42", share=0.67, winners_true=1.0, losers_true=0.0, ...)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lmsi_cli.records import Path, Vote
from lmsi_cli.voting import is_complete
from lmsi_cli.voting import vote as plain_vote
from lmsi_cli.voting.ballots import holds, steps_of

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class Seen(NamedTuple):
    """One question; fractions of one where nothing else is said, ``None`` where undefined.

    ``ballots`` are the plain vote's. ``true`` is the share of paths whose equations all hold, among
    those that state any; ``winners_true`` and ``losers_true`` are its parts by the plain vote.
    ``numbers_used`` is the share of the question's numbers that the equations of a plain winner's
    path use, averaged over those paths.
    """

    question_id: str
    plain_answer: str | None
    ballots: dict[str, int]
    kept: bool
    stopped: bool
    tie: bool
    share: float | None
    share_of_all: float
    parsed: float
    truncated: float
    true: float | None
    winners_true: float | None
    losers_true: float | None
    numbers_used: float | None


def look(question: str, vote: Vote, paths: Sequence[Path]) -> Seen:
    """Reduce a question to what the signals need.

    Args:
        question: Its own words.
        vote: The run's vote over exactly these paths; of it only ``kept`` and ``stopped`` count.
        paths: All paths of the question, at least one.
    """
    plain = plain_vote(vote.question_id, paths)
    complete = [p for p in paths if is_complete(p)]
    winner, total = plain.predicted_answer, plain.total_votes
    winners = [p for p in complete if winner is not None and p.predicted_answer == winner]
    losers = [p for p in complete if winner is not None and p.predicted_answer != winner]
    routes = [" ".join(map(str, steps)) for p in winners if (steps := steps_of(p))]
    return Seen(
        question_id=vote.question_id,
        plain_answer=winner,
        ballots=plain.ballots,
        kept=bool(vote.kept),
        stopped=vote.stopped,
        tie=plain.tie,
        share=plain.share if total else None,
        share_of_all=plain.share_of_all,
        parsed=total / len(paths),
        truncated=plain.truncated / len(paths),
        true=_mean(map(holds, complete)),
        winners_true=_mean(map(holds, winners)),
        losers_true=_mean(map(holds, losers)),
        numbers_used=_numbers_used(question, routes),
    )


def _numbers_used(question: str, routes: Sequence[str]) -> float | None:
    """Mean share of the numbers in a question that occur in a list of equations.

    What is left out of every rationale is invisible to any vote: all paths that forget the fifth
    item of a shopping list agree, and their sums are true.
    """
    asked = set(_NUMBER.findall(_THOUSANDS.sub("", question)))
    if not asked:
        return None
    return _mean(len(asked & set(_NUMBER.findall(route))) / len(asked) for route in routes)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [float(v) for v in values if v is not None]
    return sum(found) / len(found) if found else None
