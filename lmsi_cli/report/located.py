"""Where in a path's text its answer stands, found again after the run.

Knows the task's way of reading answers; no files. What comes out:

    ShownPath(path=Path(text=" 84 / 2 = 42. The answer is 42.", ...), start=28, end=30)
"""

from __future__ import annotations

from lmsi_cli.answers import extract, extract_second
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Path, Question, Record
from lmsi_cli.thinking import answer_part


class ShownPath(Record, frozen=True, kw_only=True):
    """A path, and where in its text the answer stands: ``text[start:end]``; None without one."""

    path: Path
    start: int | None
    end: int | None


def locate(
    text: str, answer: str | None, question: Question, task: Task
) -> tuple[int | None, int | None]:
    """The place of ``answer`` in ``text``; a text that is read otherwise now has none."""
    told = asked(task, question.question)
    second = extract_second(text, task.kind, told, task.second_trigger, task.trigger)
    if second is not None and second.value == answer:
        return second.start, second.end
    said = answer_part(text)
    found = extract(said, task.kind, task.trigger, told)
    if found is None or found.value != answer:
        return None, None
    thought = len(text) - len(said)
    return thought + found.start, thought + found.end


def located(path: Path, question: Question, task: Task) -> ShownPath:
    """A path with the place of its answer."""
    start, end = locate(path.text, path.predicted_answer, question, task)
    return ShownPath(path=path, start=start, end=end)
