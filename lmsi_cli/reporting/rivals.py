"""Training against its rivals: just voting with the base, and a larger model's own training.

Knows scores, votes and costs per question; the statistics are in ``stats``. A small model that
learns from a large one's paths has beaten its teacher only if it passes the teacher that was
trained on those paths, too; and the teacher was worth asking only if the student that learned from
its own votes stays behind.

    rivalry(single, path, values, gold).sentence
    -> "The adapter's single answer is as good as 8 votes of the base or at most 5 points worse ..."
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import CLEAR, p_words, points, size, with_interval
from lmsi_cli.records import Interval, Paired, Record
from lmsi_cli.reporting.digest import Section, Sheet
from lmsi_cli.reporting.pairwise import Side
from lmsi_cli.reporting.results import Figure, Rivalry, Rung
from lmsi_cli.stats import Groups, curve_ks, holm, majority_at_k, mean_interval, paired

MARGIN = 0.05  # of all questions: what an answer may be worse by and still count as as good
OWN_STUDENT = "student on its own votes"


def rivalry(
    single: Figure,
    path: Figure,
    values: Sequence[Sequence[str | None]],
    gold: Sequence[str],
    seed: int = 0,
    groups: Groups = None,
) -> Rivalry:
    """Find how many votes of the base one answer of the adapter is worth.

    As good is a test of non-inferiority: the 95% interval of the change must lie above ``-MARGIN``,
    for this k and every smaller one. Without a margin that a few questions cannot pass, two figures
    that happen to be equal would be called so, however few the questions are.

    Args:
        single: The adapter's greedy answers.
        path: One sampled path of the base, for its cost.
        values: Canonical answers of the base's sampled paths, at least one for each question in the
            order of the figures' scores; k goes up to the fewest that any has.
        gold: The right answers in the same order.
        seed: Of the bootstrap.
        groups: The cluster of each question.
    """
    ks = curve_ks(min(map(len, values)))
    votes = [[majority_at_k(v, g, k) for v, g in zip(values, gold, strict=True)] for k in ks]
    changes = [paired(s, single.scores, seed, groups) for s in votes]
    adjusted = holm([c.p_value for c in changes])
    rungs = tuple(
        Rung(
            k=k,
            accuracy=mean_interval(s, groups),
            tokens=k * path.tokens,
            seconds=k * path.seconds,
            change=c,
            p_value=p,
        )
        for k, s, c, p in zip(ks, votes, changes, adjusted, strict=True)
    )
    found = Rivalry(
        accuracy=mean_interval(single.scores, groups),
        tokens=single.tokens,
        seconds=single.seconds,
        rungs=rungs,
        votes=_climb(rungs, lambda r: r.change.low > -MARGIN),
        beaten=_climb(rungs, lambda r: r.p_value < CLEAR and r.change.difference > 0),
        within=_climb(rungs, lambda r: r.p_value >= CLEAR or r.change.difference >= 0),
        sentence="",
    )
    return msgspec.structs.replace(found, sentence=_sentence(found))


def _climb(rungs: Sequence[Rung], holds: Callable[[Rung], bool]) -> int:
    """The last k up to which something holds for every k; 0 if not even for the first."""
    return max((r.k for r in takewhile(holds, rungs)), default=0)


def _sentence(r: Rivalry) -> str:
    first, margin = r.rungs[0].change, f"{100 * MARGIN:.0f} points worse"
    figures = f"{points(first)}, p {p_words(r.rungs[0].p_value)}"
    if r.votes == 0 and r.within == 0:
        return (
            f"The adapter's single answer is not as good as one sampled path of the base: "
            f"{figures}; it replaces no votes."
        )
    if r.votes == 0:
        return (
            f"{first.n} questions are too few to tell whether the adapter's single answer is as "
            f"good as one sampled path of the base or more than {margin}: {figures}."
        )
    best = max(r.rungs, key=lambda x: x.accuracy.value)
    at = next(x for x in r.rungs if x.k == r.votes)
    span = f" (it clearly beats {r.beaten}; up to {r.within} are not clearly better)"
    sentence = (
        f"The adapter's single answer is as good as {_votes(r.votes)} of the "
        f"base or at most {margin}: {points(at.change)}{span * (r.beaten != r.within)}, at "
        f"{_part(r.tokens, at.tokens)} of the tokens and {_part(r.seconds, at.seconds)} of the "
        "time."
    )
    if best.k > r.within:
        sentence += f" {_votes(best.k)} of the base are clearly better: {points(best.change)}."
    return sentence


def _votes(k: int) -> str:
    return "1 vote" if k == 1 else f"{k} votes"


def _part(own: float, other: float) -> str:
    """A cost as a part of another: 1/7 where it is smaller, 1.3 times where it is not."""
    if other <= 0:
        return "an unknown part"
    ratio = own / other
    return f"1/{1 / ratio:.0f}" if 0 < ratio < 2 / 3 else f"{ratio:.1f} times"


class Row(Record, frozen=True, kw_only=True):
    """One line: accuracy, size in bytes without an adapter's, parameters, cost per question."""

    name: str
    accuracy: Interval
    size: int
    tokens: float
    seconds: float
    parameters: int = 0


class Distillation(Record, frozen=True, kw_only=True):
    """The table, the paired differences behind the verdict, and the verdict in words.

    ``over`` is the trained student minus each of the others, by the name of its row.
    """

    mode: str
    n: int
    rows: tuple[Row, ...]
    over: dict[str, Paired]
    sentence: str


def distillation(who: Mapping[str, Side], line: str, seed: int = 0) -> Distillation:
    """Build the table from evaluations of the same questions.

    Args:
        who: ``teacher``, ``student`` and ``trained student``; and ``trained teacher``, without
            which no conclusion is drawn, and ``student on its own votes`` where there are such.
        line: Which answers are compared: "CoT greedy".
        seed: Of the bootstrap.

    Raises:
        LmsiError: The questions differ, or one has no such line.
    """
    first = who["teacher"].evaluation
    order, groups = list(first.gold), first.groups
    rows, scores = [], {}
    for name, c in who.items():
        own, figure = c.scores(line), c.figure(line)
        if odd := sorted(own.keys() ^ first.gold.keys()):
            raise LmsiError(
                f"teacher and {name} answered different questions: {len(odd)} are only in one of "
                f"them, such as {odd[0]}",
                "evaluate all of them on the same file",
            )
        scores[name] = [own[q] for q in order]
        row = Row(
            name=name,
            accuracy=mean_interval(scores[name], groups),
            size=int(c.evaluation.source.get("bytes") or 0),
            tokens=figure.tokens,
            seconds=figure.seconds,
            parameters=int(c.evaluation.source.get("parameters") or 0),
        )
        rows.append(row)
    last = scores.pop("trained student")
    over = {name: paired(s, last, seed, groups) for name, s in scores.items()}
    sentence = _lesson(over["teacher"], over.get("trained teacher"))
    if (alone := over.get(OWN_STUDENT)) is not None:  # whether a teacher was worth having
        sentence += f" It {_against(alone)} the student that learned from its own votes."
    return Distillation(mode=line, n=len(order), rows=tuple(rows), over=over, sentence=sentence)


def distillation_section(d: Distillation) -> Section:
    """The models on the same questions, with size and cost, and what may be concluded."""
    rows = [
        (
            row.name,
            with_interval(row.accuracy),
            f"{row.parameters / 1e6:,.1f}" if row.parameters else "?",
            size(row.size),
            f"{row.tokens:.0f}",
            f"{row.seconds:.2f}",
        )
        for row in d.rows
    ]
    columns = ("", "% right", "million", "size", "tokens", "seconds")
    title = f"distillation, {d.mode}: the same {d.n} questions"
    sheet = Sheet(title=title, columns=columns, rows=tuple(rows))
    return Section(key="distillation", title="Distillation", lines=(d.sentence,), sheets=(sheet,))


def _lesson(over: Paired, trained: Paired | None) -> str:
    sentence = f"The trained student {_against(over)} the teacher that it learned from"
    if trained is None:
        return (
            f"{sentence}. The teacher was not trained on its own paths: with that it might have "
            "gained as much or more, so this is no comparison of the two."
        )
    sentence += f", and {_against(trained)} the teacher after its own training"
    if _beats(trained):
        return f"{sentence}: it has beaten its teacher, trained or not."
    if _beats(over):
        return f"{sentence}: it passed an untrained teacher, which is no victory over the teacher."
    return f"{sentence}: what it has learned is the teacher's, in a smaller size."


def _beats(c: Paired) -> bool:
    return c.p_value < CLEAR and c.difference > 0


def _against(c: Paired) -> str:
    words = "clearly beats" if _beats(c) else "clearly stays behind"
    return f"{words if c.p_value < CLEAR else 'cannot be told apart from'} ({points(c)})"
