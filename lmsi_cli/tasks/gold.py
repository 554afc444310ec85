"""Gold answers in the form that answers of paths have, so that the two can be compared.

Knows labelled questions and the task's kind of answer; only evaluation and the probe come here.

    gold_answers([Question(id="t1", question="...", answer="1,200")], task)
    -> {"t1": "1200"}
"""

from __future__ import annotations

from collections.abc import Sequence

from lmsi_cli.answers import canonical
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Question


def gold_answers(questions: Sequence[Question], task: Task) -> dict[str, str]:
    """Canonical right answers by question id.

    Raises:
        LmsiError: An answer is not of the task's kind.
    """
    gold: dict[str, str] = {}
    for q in questions:
        value = canonical(q.answer or "", task.kind, asked(task, q.question))
        if value is None:
            raise LmsiError(
                f"question {q.id!r}: its answer {q.answer!r} is not a {task.kind}",
                hint="correct the answer, or choose another --task",
            )
        gold[q.id] = value
    return gold
