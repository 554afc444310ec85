"""All votes of a run in figures, added up one question at a time.

Knows votes and what filters removed; nothing of files or tables. What is left when a run's paths
have gone by is a few counters, however many paths there were:

    VoteSummary(questions=400, paths=6400, parsed=3733, removed={"cap": 1349, ...}, ...)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from lmsi_cli.records import Record
from lmsi_cli.voting.filters import FILTERS, Selection

BINS = 10  # of the agreement histogram; the last one holds a share of exactly 1


class VoteSummary(Record, frozen=True, kw_only=True):
    """All votes of a run in figures.

    ``paths = parsed + truncated + refuted + those without an answer``: ``parsed`` counts ballots.
    ``mean_share`` (0 to 1) and ``histogram`` (questions by share of the winner among ballots, ten
    bins from 0 to 1) cover the questions with at least one ballot, ties included; those of the
    ``stopped`` questions are not comparable with the others.
    ``sum(removed.values()) + kept_paths == paths``. ``warnings`` are sentences. ``pairs`` counts
    pairs of paths; each stands in ``pairs.jsonl`` once a chain-of-thought format. Of the
    ``truncated`` paths ``thinking`` were cut off inside their thinking.
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

    def add(self, selection: Selection, pairs: int = 0) -> None:
        """Count one question, and the preference pairs that its paths make."""
        vote = selection.vote
        self.removed.update(selection.removed)
        self.sums.update(
            questions=1,
            paths=vote.num_paths,
            parsed=vote.total_votes,
            no_answer=vote.no_answer,
            truncated=vote.truncated,
            thinking=selection.thinking,
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
        """The figures of all questions so far."""
        voted = self.sums["voted"]
        counts: dict[str, Any] = {name: self.sums[name] for name in COUNTS}
        return VoteSummary(
            **counts,
            mean_share=self.shares / voted if voted else 0.0,
            histogram=list(self.histogram),
            removed={name: self.removed[name] for name in FILTERS},
        )


MANY_CUT = 0.05  # share of paths that the token limit may cut off before it is worth a line


def cut_off_line(cut: int, thinking: int, paths: int) -> str:
    """Paths that the token limit has cut off, and what lets them end."""
    line = f"{cut / paths:.0%} of {paths} paths are cut off and will not vote"
    if 2 * thinking < cut:
        return f"{line}: raise --max-tokens"
    return (
        f"{line}, {thinking} of {cut} inside their thinking: raise --max-tokens, or switch "
        "thinking off (docs/models.md#chat-models)"
    )
