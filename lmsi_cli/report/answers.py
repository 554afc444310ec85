"""How answers were found, for the terminal: rules of one text, paths and ballots of one question.

Knows Rich and the records; decides nothing. The words that an answer was read from stand between
marks, so that they show in a file, too:

    path 0   42 by marker, 38 tokens, kept
      6 * 7 = 42. The answer is >>42<<.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lmsi_cli.answers import Step
from lmsi_cli.prompts import Task
from lmsi_cli.records import Vote
from lmsi_cli.report.located import ShownPath
from lmsi_cli.report.printable import cell, printable

if TYPE_CHECKING:  # drawn from what the stage returns; nothing is imported at run time
    from lmsi_cli.stages.exemplars import ExemplarsSummary
    from lmsi_cli.stages.sample import SampleSummary
    from lmsi_cli.stages.show import Shown

OPEN, CLOSE = ">>", "<<"
NO_VALUE = {  # what it means that a rule fired
    "contradiction": "two different ones are stated side by side",
    "refusal": "the reply refuses to give one",
    "no-answer": "the reply says that there is none",
}
NO_VALUE_ELSE = "{} found its place, and no value stands in it"
SEEN = 60  # characters of a place that are shown
BAR = 24  # characters of the longest bar


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def explained(text: str, steps: Sequence[Step]) -> dict[str, Any]:
    """The steps as plain data: the answer, and each rule's place, words and value."""
    fired = next((s for s in steps if s.fired), None)
    answer = fired.found.value if fired and fired.found else None
    return {
        "answer": answer,
        "text": text,
        "rules": [
            {
                "rule": s.rule,
                "place": list(s.place) if s.place else None,
                "found": s.found._asdict() if s.found else None,
                "fired": s.fired,
            }
            for s in steps
        ],
    }


def explanation(text: str, steps: Sequence[Step]) -> list[Table | Text]:
    """A line per rule, and the answer with the words it was read from."""
    table = _table("rule", "looked at", "found", "value", "")
    for s in steps:
        seen = _seen(text[s.place.start : s.place.end]) if s.place else "no such place"
        raw, value = (s.found.raw, s.found.value) if s.found else ("nothing" if s.place else "", "")
        table.add_row(s.rule, cell(seen), cell(raw), cell(value), "fired" if s.fired else "")
    return [table, _verdict(text, next((s for s in steps if s.fired), None))]


def _verdict(text: str, fired: Step | None) -> Text:
    if fired is None:
        return Text("no answer: no rule found its place")
    if fired.found is None:
        return Text(f"no answer: {NO_VALUE.get(fired.rule, NO_VALUE_ELSE.format(fired.rule))}")
    return cell(f"answer {fired.found.value}: ").append(
        marked(text, fired.found.start, fired.found.end)
    )


def marked(text: str, start: int | None, end: int | None) -> Text:
    """A text with the answer's words between marks."""
    if start is None or end is None:
        return cell(text)
    answer = printable(text[start:end])
    told = cell(text[:start]).append(f"{OPEN}{answer}{CLOSE}", style="bold")
    return told.append(printable(text[end:]))


def _seen(place: str) -> str:
    return textwrap.shorten(place, SEEN, placeholder=" ...") or "nothing"


def shown(s: Shown) -> list[Table | Text]:
    """A question, its paths, its ballots and its vote."""
    parts: list[Table | Text] = [cell(f"{s.question.id}  ({s.questions} questions in the run)")]
    parts.append(cell(s.question.question + "\n"))
    parts += [_path(p, s.vote) for p in s.paths]
    if s.vote is None:
        return [*parts, Text("no vote yet: `lmsi vote` counts the ballots")]
    return [*parts, _ballots(s.vote), _vote(s.vote)]


def _path(p: ShownPath, vote: Vote | None) -> Text:
    answer = p.path.predicted_answer
    found = "no answer" if answer is None else f"{answer} by {p.path.extract_rule}"
    kept = ", kept" if vote and p.path.path in vote.kept else ""
    cut = ", cut off" if p.path.stop_reason == "length" else ""
    head = f"path {p.path.path}   {found}, {p.path.num_generated_tokens} tokens{cut}{kept}\n"
    return cell(head).append(marked(p.path.text.rstrip() + "\n", p.start, p.end))


def _ballots(vote: Vote) -> Table:
    table = _table("ballot", "paths", "")
    for answer, count in vote.ballots.items():
        table.add_row(cell(answer), str(count), "█" * round(BAR * count / vote.majority_votes))
    return table


def _vote(vote: Vote) -> Text:
    left = f"{vote.no_answer} without an answer, {vote.truncated} cut off, {vote.refuted} refuted"
    counted = f"{vote.total_votes} ballots of {vote.num_paths} paths ({left})"
    if vote.predicted_answer is None:
        return Text(f"no winner: {'a tie; ' if vote.tie else ''}{counted}")
    figures = f"share {vote.share:.0%}, margin {vote.margin:.0%}, {len(vote.kept)} paths kept"
    return cell(f"winner {vote.predicted_answer}: {figures}; {counted}")


def exemplars_table(made: ExemplarsSummary, drawn: SampleSummary) -> Table:
    """What became of the seeds, and which file holds the exemplars."""
    table = _table("exemplars", "")
    sound = ", ".join(f"{n} {name}" for name, n in made.classes.items())
    left = f"{made.undecided} undecided, {made.below} below the share, {made.unfit} unfit"
    for name, told in (
        ("seeds", f"{made.seeds} ({left}, {made.spare} not needed)"),
        ("paths", f"{drawn.paths:,} ({drawn.new_paths:,} new)"),
        ("templates", f"{made.templates} of {made.shots} exemplars"),
        ("rationales", f"{sound}; mean share of their winners {made.share:.0%}"),
        ("written", made.file),
        ("to use it", f"--task {made.file} --prompt cot-few"),
    ):
        table.add_row(name, cell(told))
    return table


def task_table(tasks: Sequence[Task]) -> Table:
    """A line per task; chance is what guessing would get."""
    table = _table("task", "kind", "examples", "chance", "")
    for t in tasks:
        chance = "" if t.chance is None else f"{t.chance:.0%}"
        table.add_row(t.name, t.kind, str(len(t.exemplars)), chance, cell(t.description))
    return table
