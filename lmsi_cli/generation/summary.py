"""Which candidates are kept by their votes, how varied they are, and the record of a generation.

Knows texts, votes and counts; nothing of models or files. Confidence is the winner's share of all
paths (V(y)/k in Prasad et al. 2024, arXiv 2411.04109): paths without an answer, cut off or with a
false equation count against it. So one lone answer among eight paths is no confidence.

    choose(votes, min_share=0.5)
    -> Selected(kept=("gen-38dc46698984",), rejected={"low share": 3, "tie": 1})
    variety(texts, size=10)
    -> Variety(words=27, distinct=0.85, nearest=0.04)
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from lmsi_cli.config import VoteConfig
from lmsi_cli.contamination import same_words
from lmsi_cli.generation.filters import REPEATS, Nearness
from lmsi_cli.records import Record, Vote

Ended = Literal["enough", "effort", "no new questions"]
# Alarms. Measured runs are far from all of them (docs/methods.md#questions-of-the-models-own).
NARROW = 0.5  # of the seeds' share of distinct pairs of words
COPIES = 0.5  # median likeness to the nearest seed
REPEATED = 0.5  # of the drafts
SAME_ANSWER = 0.25  # of the answers, and twice what guessing would give
FEW = 20  # questions or drafts; of fewer no share is an alarm
LENGTHS = 2.0  # times the seeds' median, or a part of it


class Selected(NamedTuple):
    """Ids of the questions whose votes are confident, in order, and why the others are not."""

    kept: tuple[str, ...]
    rejected: dict[str, int]


class Variety(Record, frozen=True, kw_only=True):
    """How varied some texts are.

    ``words`` is the median length of a text. ``distinct`` is the share of distinct ones among all
    pairs of words (Li et al. 2016, arXiv 1510.03055), ``nearest`` the median likeness to the most
    similar other text. Of ten questions a larger share of the pairs is new than of five hundred,
    and each has fewer neighbours, so both are means over groups as large as the seeds are many.
    """

    words: float
    distinct: float
    nearest: float


class Answers(Record, frozen=True, kw_only=True):
    """Winners of the votes: how many differ, the commonest and its share."""

    distinct: int
    commonest: str
    commonest_share: float


class Generation(Record, frozen=True, kw_only=True):
    """What ``lmsi questions`` made, over all its calls; times and tokens are those of this one.

    ``drafts = sum(dropped) + candidates`` and ``candidates = sampled + waiting``, ``sampled = kept
    + sum(rejected)``. ``min_votes`` is the least number of paths behind a kept question: with it
    (and ``min_share``) ``lmsi vote`` trains on the kept questions and no others. ``mean_share`` is
    over all sampled candidates. ``to_seeds`` is the median likeness to the nearest seed; it and
    ``answers`` are those of the kept questions.
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
    seed_variety: Variety
    variety: Variety | None
    to_seeds: float | None
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


def variety(texts: Sequence[str], size: int) -> Variety | None:
    """Measure some texts; ``None`` if there are none.

    Args:
        texts: In any order; groups are cut from it in this one. Fewer than ``size`` are one group.
        size: Texts of a group, at least 1.
    """
    if not texts:
        return None
    last = max(1, len(texts) - size + 1)
    groups = [texts[at : at + size] for at in range(0, last, size)]
    return Variety(
        words=statistics.median(len(t.split()) for t in texts),
        distinct=statistics.fmean(map(_distinct, groups)),
        nearest=statistics.fmean(map(_nearest, groups)),
    )


def to_seeds(texts: Sequence[str], seeds: Sequence[str]) -> float | None:
    """Median likeness to the most similar seed; ``None`` without texts."""
    index = Nearness(seeds)
    return statistics.median(map(index.nearest, texts)) if texts else None


def answers(winners: Sequence[str]) -> Answers | None:
    """Measure the winners of some votes; ``None`` without any."""
    if not winners:
        return None
    counts = Counter(winners)
    commonest = min(counts, key=lambda a: (-counts[a], a))
    return Answers(
        distinct=len(counts),
        commonest=commonest,
        commonest_share=counts[commonest] / len(winners),
    )


def alarms(g: Generation, chance: float) -> Iterator[str]:
    """Say in words where a set has collapsed.

    Args:
        g: Without its warnings.
        chance: Share of right answers by guessing, 0 where that is hopeless.
    """
    repeats = sum(g.dropped.get(reason, 0) for reason in REPEATS)
    if g.drafts >= FEW and repeats > REPEATED * g.drafts:
        yield (
            f"{repeats} of {g.drafts} drafts repeat a seed or another draft; --temperature is low?"
        )
    seeds, kept, own = g.seed_variety, g.variety, g.answers
    if g.kept < FEW or kept is None or g.to_seeds is None:
        return
    if kept.distinct < NARROW * seeds.distinct:
        yield (
            f"{kept.distinct:.0%} of the pairs of words of {g.seeds} questions are distinct, "
            f"{seeds.distinct:.0%} of the seeds': the questions say the same again and again"
        )
    if g.to_seeds > COPIES:
        yield f"half of the questions are more than {g.to_seeds:.2f} like a seed: copies"
    ratio = kept.words / seeds.words
    if not 1 / LENGTHS <= ratio <= LENGTHS:
        yield f"the questions are {ratio:.1f} times as long as the seeds"
    if own is not None and own.commonest_share > max(SAME_ANSWER, 2 * chance):
        yield f"{own.commonest_share:.0%} of the questions have one answer, {own.commonest!r}"


def _nearest(texts: Sequence[str]) -> float:
    """Median likeness to the most similar other text; 0 for a single one."""
    index = Nearness(texts)
    return statistics.median(index.nearest(t, apart=i) for i, t in enumerate(texts))


def _distinct(texts: Sequence[str]) -> float:
    """Share of distinct ones among all pairs of words; 0 without a pair."""
    words = [same_words(t).split() for t in texts]
    pairs = [pair for w in words for pair in pairwise(w)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0
