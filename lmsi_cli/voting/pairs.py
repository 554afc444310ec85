"""Pairs of paths for preference training: most consistent against least consistent. Pure functions.

After ScPO (Prasad et al. 2024, arXiv 2411.04109, section 2). V(y) is the number of ballots for the
answer of path y, and k the number of all paths of the question. Knows votes and settings; nothing
of files, formats or models. A question takes part if the winner's share of the ballots is at least
``pair_share``; in the paper, where every path has a ballot, that is V / k.

    chosen    the kept paths with the winning answer, by path number: whatever the vote's settings
              keep off training (false equations, filters) is not chosen either
    rejected  the paths that ended with another answer, those of the answer with the fewest ballots
              first; among equals the answer that fewer paths give, then the lower path number. A
              path that does not vote for its false equation may be rejected, and an answer that
              only such paths give has V = 0
    weight    (V(chosen) - V(rejected)) / k, above 0

    choose(vote, paths, VoteConfig())   # answers 42 (5 of 8 paths), 40 (2), 7 (1)
    -> [Pair(chosen=<path 0>, rejected=<path 6>, weight=0.5)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Path, Vote
from lmsi_cli.voting.ballots import agrees, is_complete


class Pair(NamedTuple):
    """Two paths of a question, the better one first, and how much the pair counts, 0 to 1."""

    chosen: Path
    rejected: Path
    weight: float


def choose(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> list[Pair]:
    """Pair one question's paths; each path is in one pair at most.

    Args:
        vote: The vote over exactly these paths, with what the filters kept.
        paths: All paths of the question, in any order.
        config: How many pairs at most, and from which share on.

    Returns:
        Nothing without a winner, below the share, or where no path gives another answer.
    """
    if vote.predicted_answer is None or vote.share < config.pair_share:
        return []
    ordered = sorted(paths, key=lambda p: p.path)
    chosen = [p for p in ordered if p.path in vote.kept]
    pairs = zip(chosen, _rejected(vote, ordered), strict=False)
    found = [Pair(good, bad, _weight(vote, bad)) for good, bad in pairs]
    # Weighted ballots can overrule the count: then the winner is not the most consistent answer.
    return [pair for pair in found if pair.weight > 0][: config.pairs]


def _rejected(vote: Vote, ordered: Sequence[Path]) -> list[Path]:
    """Paths of other answers, the least supported first."""
    complete = [p for p in ordered if is_complete(p)]
    said = Counter(p.predicted_answer for p in complete)
    others = [p for p in complete if not agrees(p, vote.predicted_answer)]
    return sorted(others, key=lambda p: (_ballots(vote, p), said[p.predicted_answer]))


def _ballots(vote: Vote, path: Path) -> int:
    return vote.ballots.get(str(path.predicted_answer), 0)


def _weight(vote: Vote, rejected: Path) -> float:
    return (vote.majority_votes - _ballots(vote, rejected)) / vote.num_paths
