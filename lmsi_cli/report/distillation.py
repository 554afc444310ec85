"""A fair table for distillation: teacher and student, each before and after its own training.

A small model that learns from a large one's paths may pass it. It has beaten its teacher only if
it passes the teacher that was trained on those paths, too; and the teacher was worth asking only if
the student that learned from its own votes stays behind. Knows scores and costs per question.

    distillation(contestants).sentence
    -> "The student passes the teacher it learned from (+4.0 points ...), but not the teacher ..."
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lmsi_cli.records import Interval, Paired, Record
from lmsi_cli.report.digest import Section, Sheet
from lmsi_cli.report.formats import CLEAR, points, size, with_interval
from lmsi_cli.report.rivals import same_questions
from lmsi_cli.stats import Groups, mean_interval, paired


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

    ``over_teacher`` is the trained student minus the teacher, ``over_trained_teacher`` minus the
    teacher after its own training, ``over_own_student`` minus the student after its own.
    """

    mode: str
    n: int
    rows: tuple[Row, ...]
    teacher_gain: Paired | None
    student_gain: Paired
    over_teacher: Paired
    over_trained_teacher: Paired | None
    sentence: str
    over_own_student: Paired | None = None


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
    over = {name: paired(s, scores["trained student"], seed, groups) for name, s in scores.items()}
    trained, own = over.get("trained teacher"), over.get(LABELS["own_student"])
    gain = paired(scores["teacher"], scores["trained teacher"], seed, groups) if trained else None
    return Distillation(
        mode=mode,
        n=len(order),
        rows=tuple(_row(name, c, scores[name], groups) for name, c in named.items()),
        teacher_gain=gain,
        student_gain=over["student"],
        over_teacher=over["teacher"],
        over_trained_teacher=trained,
        sentence=_sentence(over["teacher"], trained) + _beside(own),
        over_own_student=own,
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


def _sentence(over: Paired, trained: Paired | None) -> str:
    told = f"The trained student {_against(over)} the teacher that it learned from"
    if trained is None:
        return (
            f"{told}. The teacher was not trained on its own paths: with that it might have gained "
            "as much or more, so this is no comparison of the two."
        )
    told += f", and {_against(trained)} the teacher after its own training"
    if _clear(trained) > 0:
        return f"{told}: it has beaten its teacher, trained or not."
    if _clear(over) > 0:
        return f"{told}: it passed an untrained teacher, which is no victory over the teacher."
    return f"{told}: what it has learned is the teacher's, in a smaller size."


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
