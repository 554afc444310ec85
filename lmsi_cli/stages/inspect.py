"""What a run folder holds, for `lmsi show` and `lmsi watch`: its questions, or its progress.

Reads only, holds no lock and needs no model, so another process may work there meanwhile. Progress
is found by counting lines instead of parsing them, so even a long run takes an instant:

    Scene(status=Status(phase="sampling", done=1280, total=6400, ...), working=True,
          stages={"sample": "1,280 of 6,400 paths", "vote": None, ...})
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path as File

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, read_struct
from lmsi_cli.prompts import Task, answer_in
from lmsi_cli.records import Path, Question, Record, Status, Vote
from lmsi_cli.resume import trained_file
from lmsi_cli.run_folder import ANSWERS, RESULT, RunDir, in_use, paths_by_question, teacher_of
from lmsi_cli.stages.train import finished
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.voting.selection import VoteSummary


class ShownPath(Record, frozen=True, kw_only=True):
    """A path, and where its text has the answer: ``text[start:end]``; None if unknown."""

    path: Path
    start: int | None
    end: int | None


def located(path: Path, question: Question, task: Task) -> ShownPath:
    """Find a path's answer in its text; None if the text now reads as another answer."""
    found = answer_in(path.text, task, question.question)
    if found is None or found.value != path.predicted_answer:
        return ShownPath(path=path, start=None, end=None)
    return ShownPath(path=path, start=found.start, end=found.end)


class Shown(Record, frozen=True, kw_only=True):
    """A question with its paths by number; ``vote`` is None before `lmsi vote`."""

    question: Question
    paths: tuple[ShownPath, ...]
    vote: Vote | None
    questions: int


class Listed(Record, frozen=True, kw_only=True):
    """A question and its vote in short; the last three are None before `lmsi vote`.

    ``predicted_answer`` is None without a winner, too. ``kept`` counts paths.
    """

    id: str
    question: str
    share: float | None
    predicted_answer: str | None
    kept: int | None


def list_questions(run: RunDir) -> list[Listed]:
    """All questions of a run in their order; LmsiError: there are none yet."""
    votes = _votes(run)
    return [
        Listed(
            id=q.id,
            question=q.question,
            share=vote.share if vote else None,
            predicted_answer=vote.predicted_answer if vote else None,
            kept=len(vote.kept) if vote else None,
        )
        for q in _questions(run)
        for vote in [votes.get(q.id)]
    ]


def _questions(run: RunDir) -> list[Question]:
    questions = list(read_records(run.questions, Question)) if run.questions.exists() else []
    if not questions:
        raise LmsiError(f"{run.root}: no questions in it yet", hint="run `lmsi sample` first")
    return questions


def _votes(run: RunDir) -> dict[str, Vote]:
    votes = read_records(run.votes, Vote) if run.votes.exists() else ()
    return {v.question_id: v for v in votes}


def show_question(run: RunDir, task: Task, question_id: str) -> Shown:
    """Gather what a run knows of one question; LmsiError: there are none, or none has this id."""
    questions = _questions(run)
    question = next((q for q in questions if q.id == question_id), None)
    if question is None:
        hint = f"`lmsi show {run.typed}` lists the ids; the first one is {questions[0].id}"
        raise LmsiError(f"{run.root}: no question {question_id!r}", hint)
    with paths_by_question(run) if run.paths.exists() else nullcontext() as paths:
        own = paths.get(question.id) if paths else []
    return Shown(
        question=question,
        paths=tuple(located(p, question, task) for p in own),
        vote=_votes(run).get(question.id),
        questions=len(questions),
    )


class Scene(Record, frozen=True, kw_only=True):
    """The state of a run folder; ``status`` is None if no command has reported there.

    ``working``: a process holds the folder now. If none does, a status without an end is that of a
    killed process. ``stages`` says in words how far each stage is; None if it has not begun.
    """

    folder: str
    working: bool
    status: Status | None
    stages: dict[str, str | None]


def scene(run: RunDir) -> Scene:
    """Look at a run folder; LmsiError: it is not one."""
    if not (run.run_toml.exists() or run.status.exists()):
        raise LmsiError(
            f"{run.root}: not a run folder (no run.toml)",
            hint=f"`lmsi sample QUESTIONS -o {run.typed}` begins one",
        )
    look = {"sample": _sampled, "vote": _voted, "train": _trained, "eval": _measured}
    stages: dict[str, str | None] = dict.fromkeys(look, "unreadable")  # half written, or damaged
    for name, at in look.items():
        with suppress(LmsiError):
            stages[name] = at(run)
    status = None
    with suppress(LmsiError):
        status = read_struct(run.status, Status)
    return Scene(folder=str(run.root), working=in_use(run), status=status, stages=stages)


def _sampled(run: RunDir) -> str | None:
    if teacher := teacher_of(run):
        return f"a student of {File(teacher['model']).name}, by the votes of {teacher['run']}"
    if not run.paths.exists():
        return None
    asked = run.load_settings().get("sample", {}).get("paths", 0)  # perhaps fewer than there are
    drawn, questions = _lines(run.paths), _lines(run.questions) if run.questions.exists() else 0
    return f"{drawn:,} of {max(drawn, questions * asked):,} paths of {questions:,} questions"


def _voted(run: RunDir) -> str | None:
    if not run.vote_summary.exists():
        return None
    summary = read_struct(run.vote_summary, VoteSummary)
    kept = f"{summary.kept_paths:,} paths of {summary.kept_questions:,} questions kept"
    if not run.verdict.exists():
        return kept
    return f"{kept}; verdict: {read_struct(run.verdict, Verdict).verdict}"


def _trained(run: RunDir) -> str | None:
    if run.adapter_origin.exists():
        summary = finished(run).summary
        losses = f"{summary.first_loss:.3g} to {summary.final_loss:.3g}"
        late = "" if trained_file(run) else "; on an earlier vote than the present one"
        return f"{summary.steps:,} steps, loss {losses}{late}"
    if run.train_log.exists():
        return f"{_lines(run.train_log):,} steps so far"
    return None


def _measured(run: RunDir) -> str | None:
    results = list(run.eval_dir.glob(f"*{RESULT}"))
    answers = sum(map(_lines, run.eval_dir.glob(f"*{ANSWERS}")))
    return f"{len(results)} results, {answers:,} answers" if answers else None


def _lines(path: File) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
