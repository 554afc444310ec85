"""All rounds of a run side by side: what each one did, what it came to, and which one is kept.

Knows the records of rounds and evaluations; reads no file. What comes out:

    RoundsTable(data="test", n=300, lines=("CoT greedy", ...), rows=(RoundRow(model="base", ...),),
                changes=(Pair(line="CoT greedy", before="base", after="adapter", ...), ...))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from lmsi_cli.records import Interval, Record
from lmsi_cli.report.breakdowns import changes_sheet
from lmsi_cli.report.comparison import holm_corrected, pairs_between
from lmsi_cli.report.digest import Chart, Section, Sheet, curve
from lmsi_cli.report.formats import with_interval
from lmsi_cli.report.results import Answer, Evaluation, Pair, Variant
from lmsi_cli.rounds.records import By, Figures, Round, Rounds

HOW: dict[By, str] = {
    "probe": "by the probe",
    "agreement": "without labels",
    "nothing": "for want of a comparison",
}
CAUTION = (
    "Agreement rises under training whether answers get better or not, so a higher share is no "
    "evidence of a gain. Which round is kept was decided without the test sets."
)


class RoundRow(Record, frozen=True, kw_only=True):
    """One model on one data set.

    ``accuracy`` by line; ``share`` of a question's commonest answer and the number of ``distinct``
    answers among the sampled paths (0 without any); ``tokens`` of an answer by line.
    """

    model: str
    accuracy: dict[str, Interval]
    share: float
    distinct: float
    tokens: dict[str, float]


class RoundsTable(Record, frozen=True, kw_only=True):
    """Base and rounds on one data set, and every paired change: to the base and to the last one.

    ``p_holm`` of the changes is corrected over all of the table.
    """

    data: str
    n: int
    lines: tuple[str, ...]
    rows: tuple[RoundRow, ...]
    changes: tuple[Pair, ...]


def rounds_table(e: Evaluation, answers: Mapping[str, Sequence[Answer]]) -> RoundsTable:
    """Put the rounds of an evaluation beside one another.

    Args:
        e: With the base and the rounds' adapters as its models, in order.
        answers: Of each model's main variant.
    """
    lines = tuple(dict.fromkeys(f.name for v in e.mains for f in v.figures))
    changes = sorted(_changes(e), key=lambda p: lines.index(p.line))
    return RoundsTable(
        data=e.data,
        n=e.n,
        lines=lines,
        rows=tuple(_row(v, answers.get(v.model, ())) for v in e.mains),
        changes=tuple(holm_corrected(changes)),
    )


def _row(v: Variant, answers: Sequence[Answer]) -> RoundRow:
    said: dict[str, set[str]] = {}
    for a in answers:
        if a.mode == "sc":
            found = said.setdefault(a.question_id, set())
            found |= {a.predicted_answer} if a.predicted_answer is not None else set()
    return RoundRow(
        model=v.model,
        accuracy={f.name: f.accuracy for f in v.figures},
        share=v.mean_share,
        distinct=fmean(map(len, said.values())) if said else 0.0,
        tokens={f.name: f.tokens for f in v.figures},
    )


def _changes(e: Evaluation) -> Iterator[Pair]:
    """Every model against the base and the one before, at the first temperature."""
    models = [v.model for v in e.mains]
    for place, after in enumerate(models[1:], 1):
        for before in dict.fromkeys((models[0], models[place - 1])):
            pairs = pairs_between(e, before, after)
            yield from (p for p in pairs if p.temperature in (None, e.mains[0].temperature))


def rounds_section(rounds: Rounds, tables: Sequence[RoundsTable]) -> Section:
    """The rounds as a part of the report.

    Args:
        rounds: Of the run.
        tables: One per data set that base and rounds were measured on.
    """
    sheets = [_courses(rounds), *_checkups(rounds)]
    for t in tables:
        title = f"{t.data}: changes against the base and the round before, paired by question"
        sheets += [_accuracy(t), changes_sheet(title, t.changes)]
    return Section(
        key="rounds",
        title="Rounds",
        lines=tuple(_lines(rounds)),
        sheets=tuple(s for s in sheets if s.rows),
        charts=tuple(_chart(t) for t in tables if len(t.rows) > 1),
    )


def kept_round_line(rounds: Rounds | None) -> Iterator[str]:
    """Which round is kept and by what, and where the rest of the report stands."""
    if rounds is not None and (best := rounds.best) is not None:
        how = HOW[best.by]
        yield (
            f"Round {best.number} of {len(rounds.rounds)} is kept, chosen {how}: {best.why}. "
            "Vote, training and questions below are those of round 1; each later round has a "
            "report of its own."
        )


def _lines(rounds: Rounds) -> Iterator[str]:
    best, made = rounds.best, f"{len(rounds.rounds)} of {rounds.asked} rounds were made"
    if best is not None:
        yield f"{made}. Kept is round {best.number}, chosen {HOW[best.by]}: {best.why}."
    if rounds.ended:
        yield f"Ended early, {rounds.ended}."
    yield CAUTION
    for r in rounds.rounds:
        for gate in r.gates:
            if gate.name != "verdict" and not (gate.ends and rounds.ended.endswith(gate.text)):
                yield f"Round {r.number}: {gate.text}."


def _courses(rounds: Rounds) -> Sheet:
    rows = [
        (
            f"{r.number}{' *' if rounds.best and rounds.best.number == r.number else ''}",
            r.folder,
            f"{r.temperature:g}",
            _who(r.drawn_by),
            r.verdict,
            f"{r.kept_paths:,} of {r.kept_questions:,} questions",
            f"{r.mean_share:.2f}",
            *_training(r),
        )
        for r in rounds.rounds
    ]
    columns = ("round", "folder", "T", "drawn by", "verdict", "kept paths", "share", "trained from",
               "loss")  # fmt: skip
    return Sheet(title="What each round did; * is kept", columns=columns, rows=tuple(rows))


def _training(r: Round) -> tuple[str, str]:
    if r.first_loss is None or r.final_loss is None:
        return ("not trained", "")
    return (_who(r.started_from), f"{r.first_loss:.3f} to {r.final_loss:.3f}")


def _who(number: int) -> str:
    return f"round {number}" if number else "base"


def _checkups(rounds: Rounds) -> Iterator[Sheet]:
    """What the gates and the choice saw, one model a row."""
    found = [rounds.base, *(r.figures for r in rounds.rounds)]
    rows = [_checkup(f) for f in found if f is not None]
    what = {"probe": "right", "agreement": "as the first vote", "nothing": "as the first vote"}
    columns = ("", what[rounds.by], "read", "distinct answers", "distinct solutions", "entropy",
               "commonest", "evenness")  # fmt: skip
    title = f"Check-ups: the same {rounds.questions} questions to every round, no test set"
    if rows:
        yield Sheet(title=title, columns=columns, rows=tuple(rows))


def _checkup(f: Figures) -> tuple[str, ...]:
    parts = (f.scores, f.parsed, f.distinct, f.routes, f.entropy)
    means = [f"{100 * fmean(p):.1f}%" if p else "" for p in parts]
    return (f.model, *means, f"{100 * f.commonest:.1f}%", f"{f.evenness:.2f}")


def _accuracy(t: RoundsTable) -> Sheet:
    rows = [
        (
            row.model,
            *(with_interval(row.accuracy.get(x)) for x in t.lines),
            f"{row.share:.2f}",
            f"{row.distinct:.2f}",
            _tokens(row, t),
        )
        for row in t.rows
    ]
    columns = ("", *t.lines, "share", "distinct answers", "tokens an answer")
    title = f"{t.data}: {t.n:,} questions, % right [95% interval]"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def _tokens(row: RoundRow, t: RoundsTable) -> str:
    """Of the first line that has any; what any-of-k and votes cost follows from it."""
    return next((f"{row.tokens[x]:,.0f}" for x in t.lines if row.tokens.get(x)), "")


def _chart(t: RoundsTable) -> Chart:
    rows = list(enumerate(t.rows))
    return Chart(
        title=f"Accuracy by round: {t.data}",
        series=tuple(
            curve(x, ((float(n), row.accuracy[x]) for n, row in rows if x in row.accuracy))
            for x in t.lines
        ),
        x_label="round (0: the base)",
        y_label="right",
        percent="y",
    )
