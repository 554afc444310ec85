"""A run folder's own copy of its questions, so that later stages need no other file.

Knows questions and one file; nothing of paths but which questions have some.

    keep_questions(Path("runs/a/questions.jsonl"), [Question(id="q7", ...)], sampled={"q7"})
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.records import Question


def keep_questions(file: Path, questions: Sequence[Question], sampled: Container[str]) -> None:
    """Add questions to the copy.

    A question may change its text as long as there are no paths for it.

    Args:
        file: Made if missing.
        questions: In the order of the run.
        sampled: Ids of those that have paths.

    Raises:
        LmsiError: A sampled question has another text than the copy.
    """
    known = {q.id: q for q in read_records(file, Question)} if file.exists() else {}
    for q in questions:
        if q.id in sampled and known.get(q.id, q).question != q.question:
            raise LmsiError(
                f"question {q.id!r} has another text than in {file}",
                hint="give it a new id, start over with `--overwrite`, or use another folder",
            )
        known[q.id] = q
    write_records(file, known.values())
