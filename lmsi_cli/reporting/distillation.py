"""A teacher and its student, each before and after training, in one fair table.

A small model that learns from a large one's paths has beaten its teacher only if it also passes the
teacher that was trained on those paths. And the teacher was worth asking only if the student that
learned from its own votes stays behind. Knows evaluations; the statistics are in ``stats``.

    distillation({"teacher": Side(...), "student": ..., "trained student": ...}, "CoT greedy")
    -> Distillation(line="CoT greedy", n=300, over={"teacher": Paired(...), ...}, sentence="...")
"""

from __future__ import annotations

from collections.abc import Mapping

from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import points, size, tone, with_interval
from lmsi_cli.records import Interval, Mode, Paired, Record
from lmsi_cli.reporting.digest import Section, Sheet
from lmsi_cli.reporting.pairwise import UNKNOWN, Side, differences
from lmsi_cli.stats.paired_tests import paired

OWN_STUDENT = "student on its own votes"
ASKED: dict[Mode, set[str]] = {  # what the answers of a mode depend on
    "direct": {"task"},
    "cot": {"task", "prompt", "max_tokens"},
    "cot-few": {"task", "max_tokens"},
    "sc": {"task", "prompt", "max_tokens", "temperature", "top_k", "top_p", "min_p"},
}


class Row(Record, frozen=True, kw_only=True):
    """One row: accuracy, size in bytes without the adapter, parameters, cost per question.

    Size and parameters are 0 if unknown.
    """

    name: str
    accuracy: Interval
    size: int
    parameters: int
    tokens: float
    seconds: float


class Distillation(Record, frozen=True, kw_only=True):
    """The table, the paired differences behind the verdict, and the verdict in words.

    ``over`` is the trained student minus each of the others, by the name of its row.
    """

    line: str
    n: int
    rows: tuple[Row, ...]
    over: dict[str, Paired]
    sentence: str


def distillation(who: Mapping[str, Side], line: str) -> Distillation:
    """Build the table from evaluations of the same questions.

    ``who`` holds ``teacher``, ``student`` and ``trained student``; optionally ``trained teacher``,
    without which no conclusion is drawn, and ``student on its own votes``. LmsiError: the questions
    or the ways of asking differ, or one has no such ``line``.
    """
    first = who["teacher"]
    for side in who.values():
        _check_alike(first, side, line)
    order, groups = list(first.evaluation.gold), first.evaluation.groups
    scores = {name: [side.scores(line)[q] for q in order] for name, side in who.items()}
    last = scores.pop("trained student")
    over = {name: paired(s, last, groups=groups) for name, s in scores.items()}
    sentence = _lesson(over["teacher"], over.get("trained teacher"))
    if (alone := over.get(OWN_STUDENT)) is not None:  # whether a teacher was worth having
        sentence += f" It {_against(alone)} the student that learned from its own votes."
    rows = tuple(
        Row(
            name=name,
            accuracy=side.figure(line).accuracy,
            size=int(side.evaluation.source.get("bytes") or 0),
            parameters=int(side.evaluation.source.get("parameters") or 0),
            tokens=side.figure(line).tokens,
            seconds=side.figure(line).seconds,
        )
        for name, side in who.items()
    )
    return Distillation(line=line, n=len(order), rows=rows, over=over, sentence=sentence)


def distillation_section(d: Distillation) -> Section:
    """The models on the same questions, with size and cost, and the conclusion."""
    rows = [
        (
            row.name,
            with_interval(row.accuracy),
            f"{row.parameters / 1e6:,.1f}" if row.parameters else "?",
            size(row.size) if row.size else "?",
            f"{row.tokens:.0f}",
            f"{row.seconds:.2f}",
        )
        for row in d.rows
    ]
    columns = ("", "% right", "million", "size", "tokens", "seconds")
    title = f"distillation, {d.line}: the same {d.n} questions"
    return Section("distillation", "Distillation", [d.sentence], [Sheet(title, columns, rows)])


def _check_alike(a: Side, b: Side, line: str) -> None:
    """Refuse to compare sides that were asked in different ways, or different questions."""
    hint = "evaluate both on the same file with the same settings"
    for d in differences(a, b):
        if d.name in ASKED[a.figure(line).mode] and UNKNOWN not in (d.a, d.b):
            raise LmsiError(
                f"{a.name} and {b.name} were measured in two ways: they differ in {d.name}: "
                f"{d.a} and {d.b}",
                hint,
            )
    if a.evaluation.gold != b.evaluation.gold:
        raise LmsiError(f"{a.name} and {b.name} differ in questions or right answers", hint)


def _lesson(over: Paired, trained: Paired | None) -> str:
    sentence = f"The trained student {_against(over)} the teacher that it learned from"
    if trained is None:
        return (
            f"{sentence}. The teacher was not trained on its own paths: with that it might have "
            "gained as much or more, so this is no comparison of the two."
        )
    sentence += f", and {_against(trained)} the teacher after its own training"
    beaten = [tone(c, c.p_value) == "good" for c in (over, trained)]
    if all(beaten):
        return f"{sentence}: it has beaten its teacher, trained or not."
    if beaten[1]:
        return f"{sentence}: it passed the trained teacher alone, which is no victory over both."
    if beaten[0]:
        return f"{sentence}: it passed an untrained teacher, which is no victory over the teacher."
    return f"{sentence}: what it has learned is the teacher's, in a smaller size."


def _against(c: Paired) -> str:
    clear = {"good": "clearly beats", "bad": "clearly stays behind"}
    return f"{clear.get(tone(c, c.p_value), 'cannot be told apart from')} ({points(c)})"
