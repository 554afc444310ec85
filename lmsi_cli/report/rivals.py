"""Training against its rivals: just voting with the base, and a larger model's own training.

Knows scores, votes and costs per question; the statistics are in ``stats``. A small model that
learns from a large one's paths has beaten its teacher only if it passes the teacher that was
trained on those paths, too; and the teacher was worth asking only if the student that learned from
its own votes stays behind.

    rivalry(single, path, values, gold).sentence
    -> "The adapter's single answer is as good as 8 votes of the base or at most 5 points worse ..."
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Interval, Paired, Record
from lmsi_cli.report.digest import Section, Sheet
from lmsi_cli.report.formats import CLEAR, p_words, points, size, with_interval
from lmsi_cli.report.results import Figure, Rivalry, Rung
from lmsi_cli.stats import Groups, curve_ks, holm, majority_at_k, mean_interval, paired

MARGIN = 0.05  # of all questions: what an answer may be worse by and still count as as good


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
    rungs = _rungs(single, path, values, gold, seed, groups)
    found = Rivalry(
        accuracy=mean_interval(single.scores, groups),
        tokens=single.tokens,
        seconds=single.seconds,
        rungs=rungs,
        votes=_climb(rungs, [r.change.low > -MARGIN for r in rungs]),
        beaten=_climb(rungs, [r.p_value < CLEAR and r.change.difference > 0 for r in rungs]),
        within=_climb(rungs, [r.p_value >= CLEAR or r.change.difference >= 0 for r in rungs]),
        sentence="",
    )
    return msgspec.structs.replace(found, sentence=_sentence(found))


def _rungs(
    single: Figure,
    path: Figure,
    values: Sequence[Sequence[str | None]],
    gold: Sequence[str],
    seed: int,
    groups: Groups,
) -> tuple[Rung, ...]:
    ks = curve_ks(min(map(len, values)))
    scores = [[majority_at_k(v, g, k) for v, g in zip(values, gold, strict=True)] for k in ks]
    changes = [paired(s, single.scores, seed, groups) for s in scores]
    return tuple(
        Rung(
            k=k,
            accuracy=mean_interval(s, groups),
            tokens=k * path.tokens,
            seconds=k * path.seconds,
            change=c,
            p_value=p,
        )
        for k, s, c, p in zip(ks, scores, changes, holm([c.p_value for c in changes]), strict=True)
    )


def _climb(rungs: Sequence[Rung], holds: Sequence[bool]) -> int:
    """The last k up to which something holds for every k."""
    last = 0
    for rung, held in zip(rungs, holds, strict=True):
        if not held:
            break
        last = rung.k
    return last


def _sentence(r: Rivalry) -> str:
    if r.votes == 0:
        return _no_votes(r)
    best = max(r.rungs, key=lambda x: x.accuracy.value)
    at = next(x for x in r.rungs if x.k == r.votes)
    span = f" (it clearly beats {r.beaten}; up to {r.within} are not clearly better)"
    sentence = (
        f"The adapter's single answer is as good as {_votes(r.votes)} of the base or at most "
        f"{100 * MARGIN:.0f} points worse: {points(at.change)}"
        f"{'' if r.beaten == r.within else span}, at {_part(r.tokens, at.tokens)} of the tokens "
        f"and {_part(r.seconds, at.seconds)} of the time."
    )
    if best.k > r.within:
        sentence += f" {_votes(best.k)} of the base are clearly better: {points(best.change)}."
    return sentence


def _no_votes(r: Rivalry) -> str:
    """Clearly worse than one path, or too few questions to tell."""
    first = r.rungs[0]
    figures = f"{points(first.change)}, p {p_words(first.p_value)}"
    if r.within == 0:
        return (
            f"The adapter's single answer is not as good as one sampled path of the base: "
            f"{figures}; it replaces no votes."
        )
    return (
        f"{first.change.n} questions are too few to tell whether the adapter's single answer is "
        f"as good as one sampled path of the base or more than {100 * MARGIN:.0f} points worse: "
        f"{figures}."
    )


def _votes(k: int) -> str:
    return "1 vote" if k == 1 else f"{k} votes"


def _part(own: float, other: float) -> str:
    """A cost as a part of another: 1/7 where it is smaller, 1.3 times where it is not."""
    if other <= 0:
        return "an unknown part"
    ratio = own / other
    return f"1/{1 / ratio:.0f}" if 0 < ratio < 2 / 3 else f"{ratio:.1f} times"


def same_questions(sets: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse to compare what was not asked the same."""
    (first, questions), *others = sets.items()
    for name, other in others:
        if other.keys() != questions.keys():
            odd = sorted(other.keys() ^ questions.keys())
            raise LmsiError(
                f"{first} and {name} answered different questions: {len(odd)} are only in one of "
                f"them, such as {odd[0]}",
                "evaluate all of them on the same file",
            )


class Contestant(NamedTuple):
    """One model in one mode: scores by question id, size, and cost per question."""

    scores: Mapping[str, float]
    size: int  # bytes of the model's weights, without an adapter's
    tokens: float
    seconds: float
    parameters: int = 0


class Contestants(NamedTuple):
    """The four, and the student trained on its own votes; the trained teacher may be missing.

    Without it ``Distillation.sentence`` draws no conclusion.
    """

    teacher: Contestant
    trained_teacher: Contestant | None
    student: Contestant
    trained_student: Contestant
    own_student: Contestant | None = None


LABELS = {"own_student": "student on its own votes"}  # else the field's name


class Row(Record, frozen=True, kw_only=True):
    """One line: accuracy, size in bytes and in parameters, and cost per question."""

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


def distillation(who: Contestants, mode: str, seed: int = 0, groups: Groups = None) -> Distillation:
    """Build the table from four evaluations of the same questions in the same mode.

    Args:
        who: The contestants.
        mode: What the answers are, for the title: "CoT greedy".
        seed: Of the bootstrap.
        groups: The cluster of each question, in the order of the teacher's scores.

    Raises:
        LmsiError: The questions differ.
    """
    named = {
        LABELS.get(name, name.replace("_", " ")): c
        for name, c in who._asdict().items()
        if c is not None
    }
    same_questions({name: c.scores for name, c in named.items()})
    order = list(who.teacher.scores)
    scores = {name: [c.scores[q] for q in order] for name, c in named.items()}
    last = scores["trained student"]
    over = {n: paired(s, last, seed, groups) for n, s in scores.items() if s is not last}
    trained, own = over.get("trained teacher"), over.get(LABELS["own_student"])
    return Distillation(
        mode=mode,
        n=len(order),
        rows=tuple(_row(name, c, scores[name], groups) for name, c in named.items()),
        over=over,
        sentence=_lesson(over["teacher"], trained) + _beside(own),
    )


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


def _row(name: str, c: Contestant, scores: list[float], groups: Groups) -> Row:
    return Row(
        name=name,
        accuracy=mean_interval(scores, groups),
        size=c.size,
        tokens=c.tokens,
        seconds=c.seconds,
        parameters=c.parameters,
    )


def _lesson(over: Paired, trained: Paired | None) -> str:
    sentence = f"The trained student {_against(over)} the teacher that it learned from"
    if trained is None:
        return (
            f"{sentence}. The teacher was not trained on its own paths: with that it might have "
            "gained as much or more, so this is no comparison of the two."
        )
    sentence += f", and {_against(trained)} the teacher after its own training"
    if _clear(trained) > 0:
        return f"{sentence}: it has beaten its teacher, trained or not."
    if _clear(over) > 0:
        return f"{sentence}: it passed an untrained teacher, which is no victory over the teacher."
    return f"{sentence}: what it has learned is the teacher's, in a smaller size."


def _beside(own: Paired | None) -> str:
    """Whether a teacher was worth having."""
    if own is None:
        return ""
    return f" It {_against(own)} the student that learned from its own votes."


def _clear(c: Paired) -> int:
    return 0 if c.p_value >= CLEAR else 1 if c.difference > 0 else -1


def _against(c: Paired) -> str:
    words = {1: "clearly beats", 0: "cannot be told apart from", -1: "clearly stays behind"}
    return f"{words[_clear(c)]} ({points(c)})"
