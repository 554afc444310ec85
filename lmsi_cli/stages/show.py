"""One question of a run folder, gathered: its paths, where their answers stand, and its vote.

Reads the files of sampling and voting; writes nothing and needs no model. What comes out:

    Shown(question=Question(id="q7", ...), paths=(ShownPath(path=Path(...), start=61, end=63),),
          vote=Vote(predicted_answer="42", ...), questions=400)
"""

from __future__ import annotations

import difflib

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question, Record, Vote
from lmsi_cli.report.questions import ShownPath, located
from lmsi_cli.run_folder import RunDir


class Shown(Record, frozen=True, kw_only=True):
    """A question with its paths by number; ``vote`` is None before `lmsi vote`."""

    question: Question
    paths: tuple[ShownPath, ...]
    vote: Vote | None
    questions: int


def show_question(run: RunDir, task: Task, question_id: str = "") -> Shown:
    """Gather what a run knows of one question.

    Args:
        run: A folder that `lmsi sample` has begun.
        task: The one it was sampled with: it tells how answers are read.
        question_id: Which question; the first of the run if empty.

    Raises:
        LmsiError: There are no questions yet, or none has this id; suggests one.
    """
    questions = list(read_records(run.questions, Question)) if run.questions.exists() else []
    question = _pick(questions, question_id, run)
    votes = read_records(run.votes, Vote) if run.votes.exists() else ()
    sampled = read_records(run.paths, Path) if run.paths.exists() else ()
    own = sorted((p for p in sampled if p.question_id == question.id), key=lambda p: p.path)
    return Shown(
        question=question,
        paths=tuple(located(p, question, task) for p in own),
        vote=next((v for v in votes if v.question_id == question.id), None),
        questions=len(questions),
    )


def _pick(questions: list[Question], question_id: str, run: RunDir) -> Question:
    if not questions:
        raise LmsiError(f"{run.root}: no questions in it yet", hint="run `lmsi sample` first")
    ids = [q.id for q in questions]
    if not question_id:
        return questions[0]
    if question_id in ids:
        return questions[ids.index(question_id)]
    near = difflib.get_close_matches(question_id, ids, 3) or ids[:3]
    hint = f"ids here: {', '.join(near)}, ... ({len(ids)} in {run.questions})"
    raise LmsiError(f"{run.root}: no question {question_id!r}", hint=hint)
