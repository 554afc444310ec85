"""Questions against their task: options where it needs some, right answers of its kind.

Knows questions and tasks; nothing of files or models. What becomes of a labelled set:

    gold_answers([Question(id="q7", question="What is 84 / 2?", answer="$42.00")], task)
    -> {"q7": "42"}
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmsi_cli.answers import canonical
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Question

DATED = "a spreadsheet takes 1/2 for a date: format the column as text there, and type it again"
# As spreadsheets write 1/2 and 3/2004.
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)\.?"
_DATED = re.compile(
    rf"\d{{1,2}}[-./ ]{{1,2}}{_MONTH}|{_MONTH}[-./ ]{{1,2}}\d{{1,4}}", re.IGNORECASE
)


def check_options(questions: Sequence[Question], task: Task) -> None:
    """Refuse questions without options where the answer is one of them.

    Raises:
        LmsiError: The task's kind is choice and a question lists none; says how many do not.
    """
    if task.kind != "choice":
        return
    bare = [q.id for q in questions if not asked(task, q.question).choices]
    if bare:
        raise LmsiError(
            f"question {bare[0]!r} lists no options, and {task.name} is a task of choices"
            f" ({len(bare)} of {len(questions)} questions)",
            hint="write (A) ..., (B) ... below the question, one a line; or choose another --task",
        )


def gold_answers(questions: Sequence[Question], task: Task) -> dict[str, str]:
    """Canonical right answers by question id.

    Raises:
        LmsiError: An answer is not of the task's kind; says how many are not.
    """
    check_options(questions, task)
    gold = {}
    # To these two kinds a month is a unit or a product.
    dated = {q.id for q in questions if task.kind in ("number", "latex") and _is_dated(q)}
    for q in questions:
        value = canonical(q.answer or "", task.kind, asked(task, q.question))
        if value is not None and q.id not in dated:
            gold[q.id] = value
    if wrong := [q for q in questions if q.id not in gold]:
        raise LmsiError(
            f"question {wrong[0].id!r}: its answer {wrong[0].answer!r} is not a {task.kind}"
            f" ({len(wrong)} of {len(questions)} questions)",
            hint=DATED if _is_dated(wrong[0]) else "correct the answer, or choose another --task",
        )
    return gold


def _is_dated(question: Question) -> bool:
    """Say whether an answer is a day or a month, as a spreadsheet makes it of a fraction."""
    return bool(_DATED.fullmatch((question.answer or "").strip()))
