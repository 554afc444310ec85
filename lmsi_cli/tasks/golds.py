"""Questions against their task: options where it needs some, right answers of its kind.

Knows questions and tasks; nothing of files or models. What becomes of a labelled set:

    gold_answers([Question(id="q7", question="What is 84 / 2?", answer="$42.00")], task)
    -> {"q7": "42"}
"""

from __future__ import annotations

from collections.abc import Sequence

from lmsi_cli.answers import canonical
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Question


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
    read = {q.id: canonical(q.answer or "", task.kind, asked(task, q.question)) for q in questions}
    gold = {question_id: value for question_id, value in read.items() if value is not None}
    wrong = [q for q in questions if q.id not in gold]
    if wrong:
        raise LmsiError(
            f"question {wrong[0].id!r}: its answer {wrong[0].answer!r} is not a {task.kind}"
            f" ({len(wrong)} of {len(questions)} questions)",
            hint="correct the answer, or choose another --task",
        )
    return gold
