"""Which candidates are kept by their votes, and the record of a whole generation.

Knows votes and counts; nothing of models or files. Confidence is the winner's share of all paths
(V(y)/k in Prasad et al. 2024, arXiv 2411.04109): paths without an answer, cut off or with a false
equation count against it. So one lone answer among eight paths is no confidence.

    choose(votes, min_share=0.5)
    -> Selected(kept=("gen-38dc46698984",), rejected={"low share": 3, "tie": 1})
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from lmsi_cli.config import VoteConfig
from lmsi_cli.generation.diversity import Answers, Quantiles, Spread
from lmsi_cli.records import Record, Vote

Ended = Literal["enough", "effort", "no new questions"]


class Selected(NamedTuple):
    """Ids of the questions whose votes are confident, in order, and why the others are not."""

    kept: tuple[str, ...]
    rejected: dict[str, int]


class Generation(Record, frozen=True, kw_only=True):
    """What ``lmsi questions`` made, over all its calls; times and tokens are those of this one.

    ``drafts = sum(dropped) + candidates`` and ``candidates = sampled + waiting``, ``sampled = kept
    + sum(rejected)``. ``min_votes`` is the least number of paths behind a kept question: with it
    (and ``min_share``) ``lmsi vote`` trains on the kept questions and no others. ``mean_share`` is
    over all sampled candidates. ``answers`` are those of the kept questions.
    """

    wanted: int
    kept: int
    ended: Ended
    seeds: int
    drafts: int
    new_drafts: int
    dropped: dict[str, int]
    candidates: int
    sampled: int
    waiting: int
    rejected: dict[str, int]
    prompts_too_long: int
    paths: int
    min_share: float
    min_votes: int
    mean_share: float
    tokens: int
    seconds: float
    seed_spread: Spread
    spread: Spread | None
    to_seeds: Quantiles | None
    answers: Answers | None
    warnings: tuple[str, ...] = ()


def votes_needed(paths: int, min_share: float) -> int:
    """Least number of equal answers among so many paths; never a lone one, as in `lmsi vote`."""
    return max(VoteConfig().min_votes, math.ceil(min_share * paths - 1e-9))


def choose(votes: Iterable[Vote], min_share: float) -> Selected:
    """Keep the confident votes."""
    kept: list[str] = []
    rejected: Counter[str] = Counter()
    for vote in votes:
        if reason := _doubt(vote, min_share):
            rejected[reason] += 1
        else:
            kept.append(vote.question_id)
    return Selected(tuple(kept), dict(rejected))


def _doubt(vote: Vote, min_share: float) -> str:
    """Say why a vote is not confident; empty if it is."""
    if not vote.total_votes:
        return "no path voted"
    if vote.tie:
        return "tie"
    enough = vote.majority_votes >= votes_needed(vote.num_paths, min_share)
    return "" if enough else "low share"
