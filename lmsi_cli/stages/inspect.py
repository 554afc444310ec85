"""What a run folder holds, for `lmsi show` and `lmsi watch`: one question, or how far it all is.

Reads only, takes no lock and needs no model, so another process may work there. How far a run is
is seen by counting lines instead of parsing them, so a long run is looked at in an instant. What
comes out:

    Shown(question=Question(id="q7", ...), paths=(ShownPath(path=Path(...), start=61, end=63),),
          vote=Vote(predicted_answer="42", ...), questions=400)
    Scene(status=Status(phase="sampling", done=1280, total=6400, ...), working=True,
          stages=(Stage("sample", "1,280 of 6,400 paths"), Stage("vote", None), ...))
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path as File
from statistics import fmean
from typing import NamedTuple

import msgspec

from lmsi_cli.answers import extract, extract_second
from lmsi_cli.config import VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import Tail, read_records, read_struct
from lmsi_cli.jsonl_index import JsonlIndex
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Path, Question, Record, Status, Vote
from lmsi_cli.run_folder import ANSWERS, RESULT, RunDir, in_use, paths_by_question, teacher_of
from lmsi_cli.stages.train import finished
from lmsi_cli.thinking import answer_part
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.voting.ballots import ballot
from lmsi_cli.voting.summary import VoteSummary

CHUNK = 1 << 20
STEPS = 400  # of a training, whose loss is drawn


class ShownPath(Record, frozen=True, kw_only=True):
    """A path, and where in its text the answer stands: ``text[start:end]``; None without one."""

    path: Path
    start: int | None
    end: int | None


def located(path: Path, question: Question, task: Task) -> ShownPath:
    """A path with its answer's place; a text that is read otherwise now has none."""
    text, question_asked = path.text, asked(task, question.question)
    found = extract_second(text, task.kind, question_asked, task.second_trigger, task.trigger)
    begin = 0
    if found is None or found.value != path.predicted_answer:
        said = answer_part(text)
        found, begin = extract(said, task.kind, task.trigger, question_asked), len(text) - len(said)
    if found is None or found.value != path.predicted_answer:
        return ShownPath(path=path, start=None, end=None)
    return ShownPath(path=path, start=begin + found.start, end=begin + found.end)


class Shown(Record, frozen=True, kw_only=True):
    """A question with its paths by number; ``vote`` is None before `lmsi vote`."""

    question: Question
    paths: tuple[ShownPath, ...]
    vote: Vote | None
    questions: int


class Browsed(NamedTuple):
    """The questions of a run with their votes by id, and their paths, which are read on demand."""

    questions: list[Question]
    votes: dict[str, Vote]
    paths: JsonlIndex[Path] | None
    task: Task

    def show(self, question: Question) -> Shown:
        """What the run knows of one of them."""
        own = self.paths.get(question.id) if self.paths else []
        return Shown(
            question=question,
            paths=tuple(located(p, question, self.task) for p in own),
            vote=self.votes.get(question.id),
            questions=len(self.questions),
        )


@contextmanager
def browsed(run: RunDir, task: Task) -> Iterator[Browsed]:
    """Open a run to look at its questions.

    Args:
        run: A folder that `lmsi sample` has begun.
        task: The one it was sampled with: it tells how answers are read.

    Raises:
        LmsiError: There are no questions yet, or a file cannot be read.
    """
    questions = list(read_records(run.questions, Question)) if run.questions.exists() else []
    if not questions:
        raise LmsiError(f"{run.root}: no questions in it yet", hint="run `lmsi sample` first")
    votes = read_records(run.votes, Vote) if run.votes.exists() else ()
    by_id = {v.question_id: v for v in votes}
    with paths_by_question(run) if run.paths.exists() else nullcontext() as paths:
        yield Browsed(questions, by_id, paths, task)


def show_question(run: RunDir, task: Task, question_id: str = "") -> Shown:
    """Gather what a run knows of one question; as ``browsed``.

    Raises:
        LmsiError: There are no questions yet, or none has this id; suggests one.
    """
    with browsed(run, task) as found:
        return found.show(_pick(found.questions, question_id, run))


def _pick(questions: list[Question], question_id: str, run: RunDir) -> Question:
    ids = [q.id for q in questions]
    if not question_id:
        return questions[0]
    if question_id in ids:
        return questions[ids.index(question_id)]
    near = difflib.get_close_matches(question_id, ids, 3) or ids[:3]
    hint = f"ids here: {', '.join(near)}, ... ({len(ids)} in {run.questions})"
    raise LmsiError(f"{run.root}: no question {question_id!r}", hint=hint)


class Stage(Record, frozen=True, kw_only=True):
    """A stage of the run, and what there is of it in words; None if nothing."""

    name: str
    there: str | None


class Scene(Record, frozen=True, kw_only=True):
    """What can be seen of a run folder; ``status`` is None if no command has reported there.

    ``working``: a process holds the folder now. Without one, a status that has no end is that of
    a process that was killed.
    """

    folder: str
    working: bool
    status: Status | None
    stages: tuple[Stage, ...]


def scene(run: RunDir) -> Scene:
    """Look at a run folder.

    Raises:
        LmsiError: It is not one.
    """
    if not (run.run_toml.exists() or run.status.exists()):
        raise LmsiError(
            f"{run.root}: not a run folder (no run.toml)",
            hint=f"`lmsi sample QUESTIONS -o {run.root}` begins one",
        )
    look = {"sample": _sampled, "vote": _voted, "train": _trained, "eval": _measured}
    stages = []
    for name, at in look.items():
        try:
            there: str | None = at(run)
        except LmsiError:  # a file in the making, or of another version
            there = "unreadable"
        stages.append(Stage(name=name, there=there))
    try:
        status = read_struct(run.status, Status)
    except LmsiError:
        status = None
    return Scene(folder=str(run.root), working=in_use(run), status=status, stages=tuple(stages))


class News(NamedTuple):
    """What came since the last look, and what it comes to.

    ``agreement`` is the mean share of the first answer, 0 to 1, over ``questions`` with at least
    two ballots; None without any. ``losses`` are of the last steps of the training.
    """

    paths: list[Path]
    agreement: float | None
    questions: int
    losses: list[float]


class Follower:
    """Follows a run that another process works on; of a long one it begins near the end."""

    def __init__(self, run: RunDir) -> None:
        self._run, self._ballots = run, dict[str, Counter[str]]()
        self._paths = Tail(run.paths, Path)
        self._steps = Tail(run.train_log, _Step)
        self._losses: list[float] = []

    def look(self) -> News:
        """Read what is new; ballots are those of the default vote."""
        paths = self._paths.read()
        for path in paths:
            counts = self._ballots.setdefault(path.question_id, Counter())
            if (cast := ballot(path, VoteConfig().check_equations)) is not None:
                counts[cast] += 1
        shares = [max(c.values()) / c.total() for c in self._ballots.values() if c.total() > 1]
        self._losses = [*self._losses, *(step.loss for step in self._steps.read())][-STEPS:]
        return News(paths, fmean(shares) if shares else None, len(shares), self._losses)


class _Step(msgspec.Struct, frozen=True):
    """Of a line of the training's log, what is drawn."""

    loss: float


def _sampled(run: RunDir) -> str | None:
    if teacher := teacher_of(run):
        return f"a student of {File(teacher['model']).name}, by the votes of {teacher['run']}"
    if not run.paths.exists():
        return None
    asked = run.load_settings().get("sample", {}).get("paths", 0)
    questions = _lines(run.questions) if run.questions.exists() else 0
    return f"{_lines(run.paths):,} of {questions * asked:,} paths of {questions:,} questions"


def _voted(run: RunDir) -> str | None:
    if not run.vote_summary.exists():
        return None
    summary = read_struct(run.vote_summary, VoteSummary)
    kept = f"{summary.kept_paths:,} paths of {summary.kept_questions:,} questions kept"
    verdict = read_struct(run.verdict, Verdict).verdict if run.verdict.exists() else None
    return f"{kept}; verdict: {verdict}" if verdict else kept


def _trained(run: RunDir) -> str | None:
    if run.adapter_origin.exists():
        summary = finished(run).summary
        losses = f"{summary.first_loss:.3g} to {summary.final_loss:.3g}"
        return f"{summary.steps:,} steps, loss {losses}"
    if run.train_log.exists():
        return f"{_lines(run.train_log):,} steps so far"
    return None


def _measured(run: RunDir) -> str | None:
    results = sorted(run.eval_dir.glob(f"*{RESULT}"))
    answers = sum(_lines(f) for f in run.eval_dir.glob(f"*{ANSWERS}"))
    if not answers:
        return None
    return f"{len(results)} results, {answers:,} answers"


def _lines(path: File) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(CHUNK), b""))
