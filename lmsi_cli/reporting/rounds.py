"""All rounds of a run side by side: what each one did, what it came to, and which one is kept.

Knows the records of rounds and evaluations; reads no file. The changes of a data set:

    round_changes(evaluation) -> [Pair(line="CoT greedy", before="base", after="adapter", ...), ...]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from lmsi_cli.formats import percent
from lmsi_cli.reporting.comparison import holm_corrected, pairs_between
from lmsi_cli.reporting.digest import Section, Sheet
from lmsi_cli.reporting.evaluation import changes_sheet
from lmsi_cli.reporting.results import Evaluation, Pair
from lmsi_cli.rounds import By, Rounds

HOW: dict[By, str] = {
    "probe": "by the probe",
    "agreement": "without labels",
    "nothing": "for want of a comparison",
}
CAUTION = (
    "Agreement rises under training whether answers get better or not, so a higher share is no "
    "evidence of a gain. Which round is kept was decided without the test sets."
)


def round_changes(e: Evaluation) -> list[Pair]:
    """Every round against the base and the round before, corrected over all of them (Holm).

    Args:
        e: With the base and the rounds' adapters as its models, in order. Of several temperatures
            the first one counts.
    """
    models = [v.model for v in e.mains]
    lines = [f.name for v in e.mains for f in v.figures]
    found = [
        p
        for place, after in enumerate(models[1:], 1)
        for before in dict.fromkeys((models[0], models[place - 1]))
        for p in pairs_between(e, before, after)
        if p.temperature in (None, e.mains[0].temperature)
    ]
    return holm_corrected(sorted(found, key=lambda p: lines.index(p.line)))


def rounds_section(rounds: Rounds, measured: Sequence[Evaluation]) -> Section:
    """The rounds as a part of the report; accuracies stand in the result of each data set.

    Args:
        rounds: Of the run.
        measured: One per data set that base and rounds were measured on.
    """
    sheets = [_courses(rounds), _checkups(rounds)]
    for e in measured:
        title = f"{e.data}: changes against the base and the round before, paired by question"
        sheets.append(changes_sheet(title, round_changes(e)))
    return Section(
        key="rounds",
        title="Rounds",
        lines=tuple(_lines(rounds)),
        sheets=tuple(s for s in sheets if s.rows),
    )


def _lines(rounds: Rounds) -> Iterator[str]:
    best, made = rounds.best, f"{len(rounds.rounds)} of {rounds.asked} rounds were made"
    if best is not None:
        yield (
            f"{made}. Round {best.number} is kept, chosen {HOW[best.by]}: {best.why}. "
            "Vote, training and questions below are those of round 1; each later round has a "
            "report of its own."
        )
    if rounds.ended:
        yield f"Ended early, {rounds.ended}."
    yield CAUTION
    for r in rounds.rounds:
        for gate in r.gates:
            if gate.name != "verdict" and not (gate.ends and rounds.ended.endswith(gate.text)):
                yield f"Round {r.number}: {gate.text}."


def _courses(rounds: Rounds) -> Sheet:
    best, rows = rounds.best, []
    for r in rounds.rounds:
        trained = ("not trained", "")
        if r.first_loss is not None and r.final_loss is not None:
            trained = (_who(r.started_from), f"{r.first_loss:.3f} to {r.final_loss:.3f}")
        rows.append(
            (
                f"{r.number} *" if best and best.number == r.number else f"{r.number}",
                r.folder,
                f"{r.temperature:g}",
                _who(r.drawn_by),
                r.verdict,
                f"{r.kept_paths:,} of {r.kept_questions:,} questions",
                f"{r.mean_share:.2f}",
                *trained,
            )
        )
    columns = ("round", "folder", "T", "drawn by", "verdict", "kept paths", "share", "trained from",
               "loss")  # fmt: skip
    return Sheet(title="What each round did; * is kept", columns=columns, rows=tuple(rows))


def _who(number: int) -> str:
    return f"round {number}" if number else "base"


def _checkups(rounds: Rounds) -> Sheet:
    """What the gates and the choice saw, one model a row."""
    rows = []
    for f in (rounds.base, *(r.figures for r in rounds.rounds)):
        if f is not None:
            means = [percent(fmean(p)) if p else "" for p in (f.scores, f.parsed)]
            rows.append((f.model, *means, percent(f.commonest), f"{f.evenness:.2f}"))
    what = "right" if rounds.by == "probe" else "as the first vote"
    columns = ("", what, "read", "commonest", "evenness")
    title = f"Check-ups: the same {rounds.questions} questions to every round, no test set"
    return Sheet(title=title, columns=columns, rows=tuple(rows))
