"""A run folder, read once for its report: the digest, and the questions to browse.

Reads what is there and says what is not; writes nothing and needs no model. How figures become
sections is in ``report/``. What comes out:

    Reading(digest=Digest(title="runs/first", verdict="train", ...),
            sets=[QuestionSet("questions of the run", "run", [...]), QuestionSet("test: ...", ...)])
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import TABLES, Config
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question, Vote
from lmsi_cli.report.digest import Digest, Section, Series
from lmsi_cli.report.evaluation import (
    confidence_section,
    details_section,
    headline,
    result_section,
)
from lmsi_cli.report.questions import QuestionSet, QuestionView, exam_set, run_question
from lmsi_cli.report.results import Exam, exams_of
from lmsi_cli.report.rounds import kept_round_line, rounds_section
from lmsi_cli.report.sections import (
    kept_line,
    settings_section,
    training_section,
    verdict_section,
    vote_section,
)
from lmsi_cli.rounds.records import Rounds
from lmsi_cli.run_folder import (
    ANSWERS,
    RESULT,
    TEACHER,
    TEACHER_SAMPLE,
    TEACHER_VOTE,
    RunDir,
    paths_by_question,
    teacher_of,
)
from lmsi_cli.training import validation
from lmsi_cli.training.loop import LogLine
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.voting.summary import VoteSummary


class Reading(NamedTuple):
    """What a report is made of; ``sentence`` says what can be browsed."""

    digest: Digest
    sets: list[QuestionSet]
    sentence: str


def read_run(run: RunDir, task: Task, questions: int, version: str) -> Reading:
    """Gather a report from whatever the run has so far.

    Args:
        run: A folder that `lmsi sample` has begun.
        task: The one it was sampled with; tells where answers stand in the paths.
        questions: How many can be browsed, evenly over the run; 0: all.
        version: Of lmsi.

    Raises:
        LmsiError: A file of the folder cannot be read.
    """
    settings = run.load_settings()
    verdict = _file(run.verdict, Verdict)
    votes = _file(run.vote_summary, VoteSummary)
    exams = exams_of(run)
    rounds = _file(run.rounds, Rounds)
    sections = [] if rounds is None else [_rounds(rounds, exams)]
    sections += [s for n, exam in enumerate(exams, 1) for s in _exam_sections(exam, n)]
    if verdict is not None:
        sections.append(verdict_section(verdict))
    if votes is not None:
        sections.append(vote_section(votes))
    sections += _training(run)
    sections.append(settings_section(settings, list(commands(run, settings)), version))
    data = {"settings": settings, "verdict": verdict, "vote": votes}
    data |= {"evaluations": [exam.evaluation for exam in exams]}
    data |= {} if rounds is None else {"rounds": rounds}
    digest = Digest(
        title=f"lmsi report: {run.root.name or run.root.resolve().name}",
        verdict=None if verdict is None else verdict.verdict,
        headline=(*_origin(run), *kept_round_line(rounds), *_headline(votes, exams)),
        missing=tuple(_missing(run)),
        sections=tuple(sections),
        data=msgspec.to_builtins(data),
    )
    browsed, sentence = _questions(run, task, questions)
    sets = [QuestionSet("questions of the run", "run", browsed)]
    sets += [exam_set(exam, task, questions) for exam in exams]
    return Reading(digest, sets, sentence)


def _rounds(rounds: Rounds, exams: Sequence[Exam]) -> Section:
    """All rounds; the sets are those that the base and a round at least were measured on."""
    measured = [exam.evaluation for exam in exams]
    return rounds_section(rounds, [e for e in measured if len(e.mains) > 1])


def _exam_sections(exam: Exam, number: int) -> Iterator[Section]:
    e = exam.evaluation
    yield result_section(e, number)
    for part in (details_section, confidence_section):
        if (section := part(e, number)) is not None:
            yield section


def _file(path: File, kind: type[Any]) -> Any:  # noqa: ANN401 - the kind's own
    if not path.exists():
        return None
    try:
        return msgspec.convert(read_object(path), kind)
    except msgspec.ValidationError as e:
        raise LmsiError(
            f"{path}: is of another version of lmsi: {e}", hint="run `lmsi vote` again"
        ) from None


def _origin(run: RunDir) -> Iterator[str]:
    if teacher := teacher_of(run):
        name = File(teacher["model"]).name
        yield f"A student: it learned from the votes of {name} in {teacher['run']}."


def _headline(votes: VoteSummary | None, exams: Sequence[Exam]) -> Iterator[str]:
    for exam in exams:
        yield from headline(exam.evaluation)
    if votes is not None:
        yield kept_line(votes)


def _missing(run: RunDir) -> Iterator[str]:
    name = shlex.quote(str(run.root))
    student = teacher_of(run) is not None
    if not run.paths.exists() and not student:
        yield f"no paths yet: lmsi sample QUESTIONS -o {name}"
    elif not run.vote_summary.exists() and not student:
        yield f"no vote yet: lmsi vote {name}"
    elif not run.adapter_origin.exists():
        begun = "training is not finished" if run.train_log.exists() else "no adapter yet"
        yield f"{begun}: lmsi train {name}"
    if (run.paths.exists() or student) and not any(run.eval_dir.glob(f"*{RESULT}")):
        begun = "an evaluation is not finished" if any(run.eval_dir.glob(f"*{ANSWERS}")) else ""
        yield f"{begun or 'nothing measured yet'}: lmsi eval {name} --data FILE"


def _training(run: RunDir) -> Iterator[Section]:
    result = read_object(run.adapter_origin)["result"] if run.adapter_origin.exists() else None
    losses = [
        (float(line.step), line.loss)
        for line in (read_records(run.train_log, LogLine) if run.train_log.exists() else ())
    ]
    if result is not None or losses:
        yield training_section(result, losses, list(_validated(run)))


def _validated(run: RunDir) -> Iterator[Series]:
    """The loss on questions that were held out."""
    file = run.adapter / validation.LOG
    read = list(read_records(file, validation.Reading)) if file.exists() else []
    if read:
        steps = tuple(float(r.step) for r in read)
        yield Series(name="held-out questions", x=steps, y=tuple(r.loss for r in read))


def commands(run: RunDir, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The commands that repeat a run; settings that are as by default are left out."""
    if teacher := settings.get(TEACHER):
        yield from _taught(run, teacher, settings)
        return
    name = shlex.quote(str(run.root))
    for stage, kind in TABLES.items():
        if stage in settings and stage != "run":
            what = {"sample": f"QUESTIONS -o {name}"}.get(stage, name)
            yield " ".join([f"lmsi {stage} {what}", *_flags(settings[stage], kind)])


def _taught(
    run: RunDir, teacher: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """The same for a student: the teacher's commands first."""
    others = {"sample": TEACHER_SAMPLE, "vote": TEACHER_VOTE}
    own = {stage: settings[name] for stage, name in others.items() if name in settings}
    yield from commands(RunDir(teacher["run"]), own)
    student = {"student": settings["sample"]["model"], "out": str(run.root)}
    flags = [f"--{name} {shlex.quote(value)}" for name, value in student.items()]
    flags += _flags(settings.get("train", {}), TABLES["train"])
    yield " ".join(["lmsi train", shlex.quote(teacher["run"]), *flags])


def _flags(table: Mapping[str, Any], kind: type[Config]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        value, usual = table.get(field.name), field.default
        if value is None or value == (list(usual) if isinstance(usual, tuple) else usual):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{flag} {shlex.quote(text)}"


def _questions(run: RunDir, task: Task, most: int) -> tuple[list[QuestionView], str]:
    if not (run.questions.exists() and run.paths.exists()):
        return [], ""
    asked = list(read_records(run.questions, Question))
    votes = {v.question_id: v for v in read_records(run.votes, Vote)} if run.votes.exists() else {}
    with paths_by_question(run) as paths:
        shown = _evenly(asked, most)
        views = [run_question(q, paths.get(q.id), votes.get(q.id), task) for q in shown]
    left = len(asked) - len(shown)
    more = f"; {left:,} more are left out, --questions takes them in" if left else ""
    return views, f"{len(shown):,} questions of the run with their paths{more}."


def _evenly(questions: list[Question], most: int) -> list[Question]:
    if not most or len(questions) <= most:
        return questions
    return [questions[i * len(questions) // most] for i in range(most)]
