"""How varied a set of questions is, beside the seeds it came from, and when it has collapsed.

Knows texts and winners of votes; nothing of models or files. Of ten questions a larger share of the
words is new than of five hundred, and each has fewer neighbours. So sets are compared in groups of
as many questions as there are seeds, and the mean over the groups is told (``grouped``).

    spread(texts, size=10)
    -> Spread(count=100, words=Quantiles(low=9, median=27, high=52), distinct=(0.1, 0.31, 0.5),
              nearest=Quantiles(low=0.12, median=0.33, high=0.61), grouped_distinct=(...), ...)
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from lmsi_cli.contamination import same_words
from lmsi_cli.generation.nearness import Nearness
from lmsi_cli.generation.sieve import REPEATS
from lmsi_cli.records import Record

TAIL = 0.05  # below and above the quantiles that are told
# Alarms. Measured runs are far from all of them (docs/methods.md#questions-of-the-models-own).
NARROW = 0.5  # of the seeds' share of distinct pairs of words
COPIES = 0.5  # median likeness to the nearest seed
REPEATED = 0.5  # of the drafts
SAME_ANSWER = 0.25  # of the answers, and twice what guessing would give
FEW = 20  # questions or drafts; of fewer no share is an alarm
LENGTHS = 2.0  # times the seeds' median, or a part of it

Triple = tuple[float, float, float]


class Quantiles(Record, frozen=True, kw_only=True):
    """The middle of some numbers, and what one in twenty lies below and above."""

    low: float
    median: float
    high: float


class Spread(Record, frozen=True, kw_only=True):
    """How varied some texts are: ``distinct`` and likenesses as shares, ``words`` as counts.

    ``distinct`` is the share of distinct ones among all runs of one, two and three words (Li et al.
    2016, arXiv 1510.03055); ``nearest`` the likeness of each to the most similar other one. The
    ``grouped`` figures are means over groups of as many texts as there are seeds; None if there are
    fewer.
    """

    count: int
    words: Quantiles
    distinct: Triple
    nearest: Quantiles | None
    grouped_distinct: Triple | None
    grouped_nearest: float | None


class Answers(Record, frozen=True, kw_only=True):
    """Winners of the votes: how many differ, the commonest and its share, the entropy in nats."""

    count: int
    distinct: int
    commonest: str
    commonest_share: float
    entropy: float


def spread(texts: Sequence[str], size: int) -> Spread | None:
    """Measure some texts; ``None`` if there are none.

    Args:
        texts: In any order; groups are cut from it in this one.
        size: Texts of a group, at least 1.
    """
    if not texts:
        return None
    groups = list(_groups(texts, size))
    near = _nearest(texts)
    return Spread(
        count=len(texts),
        words=_quantiles([len(t.split()) for t in texts]),
        distinct=distinct(texts),
        nearest=_quantiles(near) if near else None,
        grouped_distinct=_mean_distinct(groups),
        grouped_nearest=_mean_of(groups, lambda g: statistics.median(_nearest(g) or [0.0])),
    )


def distinct(texts: Sequence[str]) -> Triple:
    """Share of distinct ones among all runs of one, two and three words; 0 without a run."""
    one, two, three = (_distinct(texts, length) for length in (1, 2, 3))
    return one, two, three


def to_seeds(texts: Sequence[str], seeds: Sequence[str]) -> Quantiles | None:
    """Likeness of each text to the most similar seed."""
    index = Nearness(seeds)
    return _quantiles([index.nearest(t) for t in texts]) if texts else None


def answers(winners: Sequence[str]) -> Answers | None:
    """Measure the winners of some votes; ``None`` without any."""
    if not winners:
        return None
    counts = Counter(winners)
    commonest = min(counts, key=lambda a: (-counts[a], a))
    total = len(winners)
    return Answers(
        count=total,
        distinct=len(counts),
        commonest=commonest,
        commonest_share=counts[commonest] / total,
        entropy=math.log(total) - math.fsum(n * math.log(n) for n in counts.values()) / total,
    )


def alarms(  # noqa: PLR0913 - what the report shows is what is judged
    drafts: int,
    dropped: Mapping[str, int],
    seeds: Spread,
    kept: Spread | None,
    copied: Quantiles | None,
    told: Answers | None,
    chance: float,
) -> Iterator[str]:
    """Say in words where a set has collapsed.

    Args:
        drafts: All that were drawn.
        dropped: How many of them for which reason.
        seeds: The seeds' spread.
        kept: That of the questions that were kept.
        copied: Their likeness to the seeds.
        told: The answers that their votes gave.
        chance: Share of right answers by guessing, 0 where that is hopeless.
    """
    repeats = sum(dropped.get(reason, 0) for reason in REPEATS)
    if drafts >= FEW and repeats > REPEATED * drafts:
        yield f"{repeats} of {drafts} drafts repeat a seed or another draft; --temperature is low?"
    if kept is not None and copied is not None and kept.count >= FEW:
        yield from _narrow(seeds, kept, copied)
    usual = max(SAME_ANSWER, 2 * chance)
    if told is not None and told.count >= FEW and told.commonest_share > usual:
        share = f"{told.commonest_share:.0%}"
        yield f"{share} of the questions have one answer, {told.commonest!r}"


def _narrow(seeds: Spread, kept: Spread, copied: Quantiles) -> Iterator[str]:
    old, new = seeds.distinct[1], (kept.grouped_distinct or kept.distinct)[1]
    if new < NARROW * old:
        yield (
            f"{new:.0%} of the pairs of words of {seeds.count} questions are distinct, "
            f"{old:.0%} of the seeds': the questions say the same again and again"
        )
    if copied.median > COPIES:
        yield f"half of the questions are more than {copied.median:.2f} like a seed: copies"
    ratio = kept.words.median / seeds.words.median
    if not 1 / LENGTHS <= ratio <= LENGTHS:
        yield f"the questions are {ratio:.1f} times as long as the seeds"


def _groups(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for at in range(0, len(texts) - size + 1, size):
        yield texts[at : at + size]


def _mean_distinct(groups: Sequence[Sequence[str]]) -> Triple | None:
    if not groups:
        return None
    one, two, three = (statistics.fmean(part) for part in zip(*map(distinct, groups), strict=True))
    return one, two, three


def _mean_of(
    groups: Sequence[Sequence[str]], measure: Callable[[Sequence[str]], float]
) -> float | None:
    return statistics.fmean(map(measure, groups)) if groups else None


def _nearest(texts: Sequence[str]) -> list[float]:
    """Likeness of each text to the most similar other one; empty for a single text."""
    index = Nearness(texts)
    return [index.nearest(t, apart=i) for i, t in enumerate(texts)] if len(texts) > 1 else []


def _distinct(texts: Sequence[str], length: int) -> float:
    found: list[tuple[str, ...]] = []
    for words in (same_words(t).split() for t in texts):
        found += [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    return len(set(found)) / len(found) if found else 0.0


def _quantiles(values: Sequence[float]) -> Quantiles:
    ranked, last = sorted(values), len(values) - 1
    low, high = ranked[round(TAIL * last)], ranked[round((1 - TAIL) * last)]
    return Quantiles(low=low, median=statistics.median(ranked), high=high)
