"""Which paths of a voted question may be trained on: filters, preference pairs, and run totals.

Knows votes and settings; nothing of files, tasks or models. A run of any size is reduced to a few
counters (``VoteSummary``). Filters run in the order of ``FILTERS``, each on what the ones before it
left, so every path is kept or counted exactly once:

    select(vote, paths, VoteConfig(min_share=0.5))
    -> Vote(kept=(0, 2), ...), {"no-vote": 1, ..., "minority": 1, "cap": 0}

Pairs set the most consistent paths against the least consistent, after ScPO (Prasad et al. 2024,
arXiv 2411.04109, section 2). V(y) is the number of ballots for the answer of path y, and k the
number of all paths of the question. A question takes part if the winner's share of the ballots is
at least ``pair_share``; in the paper, where every path has a ballot, that is V / k.

    chosen    the kept paths with the winning answer, by path number; paths that the vote's settings
              exclude from training (false equations, filters) are never chosen
    rejected  the complete paths with another answer, those of the answer with the fewest ballots
              first; ties go to the answer that fewer paths give, then to the lower path number. A
              path that a false equation keeps from voting may be rejected; an answer that only such
              paths give has V = 0
    weight    (V(chosen) - V(rejected)) / k, above 0

    choose(vote, paths, VoteConfig())   # answers 42 (5 of 8 paths), 40 (2), 7 (1)
    -> [(<path 0>, <path 6>, 0.5)]
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Path, Record, Vote
from lmsi_cli.voting.ballots import agrees, is_complete, is_refuted

Filter = Callable[[list[Path], Vote, VoteConfig], list[Path]]

# First what cannot vote, then whole questions, then single paths. The cap keeps the lowest numbers:
# every path had the same chance of any number, so this is fair, and ranking by length or
# probability would teach the model that preference.
FILTERS: dict[str, Filter] = {
    "no-vote": lambda paths, _vote, _config: [p for p in paths if is_complete(p)],
    "false-equation": lambda paths, _vote, config: [
        p for p in paths if not (config.check_equations and is_refuted(p))
    ],
    "tie": lambda paths, vote, _config: [] if vote.tie else paths,
    "min-votes": lambda paths, vote, config: (
        paths if vote.majority_votes >= config.min_votes else []
    ),
    "min-share": lambda paths, vote, config: paths if vote.share >= config.min_share else [],
    "minority": lambda paths, vote, _config: [p for p in paths if agrees(p, vote.predicted_answer)],
    "cap": lambda paths, _vote, config: paths[: config.max_paths_per_question or None],
}


def select(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> tuple[Vote, dict[str, int]]:
    """Narrow the paths of one question, in any order, to those worth training on.

    ``vote`` is the vote over exactly these paths. Returns it with what is kept, and how many paths
    each filter removed. The limits of ``--preset paper`` keep every path of the majority.
    """
    left = sorted(paths, key=lambda p: p.path)
    removed: dict[str, int] = {}
    for name, keep in FILTERS.items():
        before, left = left, keep(left, vote, config)
        removed[name] = len(before) - len(left)
    return msgspec.structs.replace(vote, kept=tuple(p.path for p in left)), removed


def shuffled(vote: Vote, paths: Sequence[Path], seed: int) -> Vote:
    """The vote of a control: as many paths are kept, drawn at random whatever they answer.

    If training on them helps, the gain comes from the model's own form, not from the majority.
    ``select`` has narrowed ``vote``, which has a winner; its new winner is the answer of the first
    path drawn. ``seed`` decides, with the question's id, which complete paths are kept.
    """
    complete = sorted((p for p in paths if is_complete(p)), key=lambda p: p.path)
    kept = random.Random(f"{seed} {vote.question_id}").sample(complete, len(vote.kept))
    answer = kept[0].predicted_answer if kept else vote.predicted_answer
    numbers = tuple(sorted(p.path for p in kept))
    return msgspec.structs.replace(vote, kept=numbers, predicted_answer=answer)


def choose(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> list[tuple[Path, Path, float]]:
    """Pair one question's paths: the better one, the worse one, and how much the pair counts.

    ``vote`` is the vote over exactly these paths, with what the filters kept. Each path is in one
    pair at most; there is none without a winner, below the share, or where no path gives another
    answer.
    """
    if vote.predicted_answer is None or vote.share < config.pair_share:
        return []
    complete = sorted(filter(is_complete, paths), key=lambda p: p.path)
    said = Counter(p.predicted_answer for p in complete)
    ballots = {answer: vote.ballots.get(str(answer), 0) for answer in said}
    agreed = [p for p in complete if agrees(p, vote.predicted_answer)]
    others = [p for p in complete if not agrees(p, vote.predicted_answer)]
    others = [p for p in others if p.path not in vote.kept]  # a control keeps several answers
    others.sort(key=lambda p: (ballots[p.predicted_answer], said[p.predicted_answer]))
    pairs = zip((p for p in agreed if p.path in vote.kept), others, strict=False)
    return [
        (good, bad, (vote.majority_votes - ballots[bad.predicted_answer]) / vote.num_paths)
        for good, bad in pairs
    ][: config.pairs]


BINS = 10  # of the agreement histogram; the last one includes a share of exactly 1


class VoteSummary(Record, frozen=True, kw_only=True):
    """The totals of a run's votes.

    ``paths = parsed + truncated + refuted + those without an answer``: ``parsed`` counts ballots.
    ``mean_share`` (0 to 1) and ``histogram`` (questions by share of the winner among ballots, ten
    bins from 0 to 1) cover the questions with at least one ballot, ties included; shares of the
    ``stopped`` questions are not comparable with the others.
    ``sum(removed.values()) + kept_paths == paths``. ``warnings`` are sentences. ``pairs`` counts
    pairs of paths; ``pairs.jsonl`` has each once per chain-of-thought format. ``thinking`` counts
    the ``truncated`` paths that were cut off inside their thinking.
    """

    questions: int
    paths: int
    parsed: int
    truncated: int
    refuted: int
    ties: int
    stopped: int
    kept_paths: int
    kept_questions: int
    mean_share: float
    histogram: list[int]
    removed: dict[str, int]
    warnings: tuple[str, ...] = ()
    pairs: int = 0
    thinking: int = 0


COUNTS = ("questions", "paths", "parsed", "truncated", "thinking", "refuted", "ties", "stopped",
          "kept_paths", "kept_questions", "pairs")  # fmt: skip


class Tally:
    """The running sums of a vote; its size does not depend on the number of questions."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.shares = 0.0
        self.histogram = [0] * BINS

    def add(
        self, vote: Vote, removed: Mapping[str, int], thinking: int = 0, pairs: int = 0
    ) -> None:
        """Count one question: its vote, what ``select`` removed, and counts of the summary."""
        self.removed.update(removed)
        self.sums.update(
            questions=1,
            paths=vote.num_paths,
            parsed=vote.total_votes,
            no_answer=vote.no_answer,
            truncated=vote.truncated,
            thinking=thinking,
            refuted=vote.refuted,
            ties=int(vote.tie),
            stopped=int(vote.stopped),
            kept_paths=len(vote.kept),
            kept_questions=int(bool(vote.kept)),
            pairs=pairs,
        )
        if vote.total_votes:  # in whole numbers: 0.7 * 10 is not exactly 7 everywhere
            self.sums["voted"] += 1
            self.shares += vote.share
            self.histogram[min(vote.majority_votes * BINS // vote.total_votes, BINS - 1)] += 1

    def summary(self) -> VoteSummary:
        """The totals of all questions so far."""
        voted = self.sums["voted"]
        counts: dict[str, Any] = {name: self.sums[name] for name in COUNTS}
        return VoteSummary(
            **counts,
            mean_share=self.shares / voted if voted else 0.0,
            histogram=list(self.histogram),
            removed={name: self.removed[name] for name in FILTERS},
        )


MANY_CUT = 0.05  # share of paths that the token limit may cut off before we report it


def cut_off_line(cut: int, thinking: int, paths: int) -> str:
    """Say how many paths the token limit has cut off, and what lets them end."""
    line = f"{cut / paths:.0%} of {paths} paths are cut off and will not vote"
    if 2 * thinking < cut:
        return f"{line}: raise --max-tokens"
    return (
        f"{line}, {thinking} of {cut} inside their thinking: raise --max-tokens, or switch "
        "thinking off (docs/models.md#chat-models)"
    )
