"""The labelled signals: what a probe set, questions of the run with right answers, can show.

Knows questions as ``Marked`` and draws no conclusion. Gold answers come no further than this: no
training example is made from them.

    labelled(marked)
    -> ProbeFigures(questions=60, kept_questions=49, gap=Interval(value=0.52, ...), ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.records import Interval, Path, Record, Vote
from lmsi_cli.stats import auroc, mean_interval, wilson
from lmsi_cli.verdict.signals import difference
from lmsi_cli.voting.ballots import is_complete


class Marked(NamedTuple):
    """One probe question, marked; fractions of one.

    ``right`` is the share of its paths that are right, ``kept_right`` that of its kept paths
    (``None`` if none is kept), ``vote_right`` the score of its vote, a tie being shared out.
    """

    right: float
    kept_right: float | None
    vote_right: float
    any_right: bool
    voted: bool
    share: float
    stopped: bool


class ProbeFigures(Record, frozen=True, kw_only=True):
    """The labelled signals.

    ``gap`` is accuracy of the kept paths minus accuracy of all paths, both of the same kept
    questions: what training can teach there. ``vote_gap`` is that of the vote against a path, over
    all questions, one without a ballot being wrong. ``vote`` is the ceiling (maj@m), ``any_path``
    the oracle (pass@m). ``auroc`` needs shares, so no question that was stopped early.
    """

    questions: int
    kept_questions: int
    one_path: Interval
    kept: Interval
    gap: Interval
    vote: Interval
    vote_gap: Interval
    any_path: Interval
    auroc: Interval | None


def mark(vote: Vote, paths: Sequence[Path], gold: str) -> Marked:
    """Mark one question of the probe; a path that was cut off is not right."""
    right = {p.path: is_complete(p) and p.predicted_answer == gold for p in paths}
    kept = [right[i] for i in vote.kept]
    return Marked(
        right=sum(right.values()) / len(right),
        kept_right=sum(kept) / len(kept) if kept else None,
        vote_right=_score(vote, gold),
        any_right=any(right.values()),
        voted=bool(vote.ballots),
        share=vote.share,
        stopped=vote.stopped,
    )


def _score(vote: Vote, gold: str) -> float:
    """1 or 0, or the right answer's part of a tie for first place."""
    counts = vote.weights or vote.ballots
    first = [answer for answer, n in counts.items() if n == max(counts.values())]
    return 1 / len(first) if gold in first else 0.0


def labelled(marked: Sequence[Marked]) -> ProbeFigures:
    """Compute the labelled signals of at least one question."""
    kept = [(m.right, m.kept_right) for m in marked if m.kept_right is not None]
    voted = [m for m in marked if m.voted]
    shared = [] if any(m.stopped for m in marked) else voted
    return ProbeFigures(
        questions=len(marked),
        kept_questions=len(kept),
        one_path=mean_interval([m.right for m in marked]),
        kept=mean_interval([k for _, k in kept]),
        gap=difference([a for a, _ in kept], [k for _, k in kept]),
        vote=mean_interval([m.vote_right for m in marked]),
        vote_gap=difference([m.right for m in marked], [m.vote_right for m in marked]),
        any_path=wilson(sum(m.any_right for m in marked), len(marked)),
        auroc=auroc([m.share for m in shared], [m.vote_right == 1 for m in shared]),
    )
