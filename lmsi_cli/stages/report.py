"""A run folder, read once for its report: the digest, and the questions to browse.

Reads what is there and says what is not; writes nothing and needs no model. How figures become
sections is in ``reporting/``. What comes out:

    Reading(digest=Digest(title="runs/first", verdict="train", ...),
            sets=[QuestionSet("questions of the run", "run", [...]), QuestionSet("test: ...", ...)])
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import RARE, TABLES, Config
from lmsi_cli.jsonl import read_records, read_struct
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question, Vote
from lmsi_cli.reporting.digest import Digest, Section, Series, Step
from lmsi_cli.reporting.evaluation import (
    confidence_section,
    details_section,
    result_section,
)
from lmsi_cli.reporting.first_screen import headline, next_step, picture
from lmsi_cli.reporting.pairwise import opposed_section
from lmsi_cli.reporting.questions import QuestionSet, QuestionView, exam_set, run_question
from lmsi_cli.reporting.results import answers_of, newest_evaluations
from lmsi_cli.reporting.rounds import rounds_section
from lmsi_cli.reporting.sections import (
    kept_line,
    settings_section,
    training_section,
    verdict_section,
    vote_section,
)
from lmsi_cli.rounds import Rounds
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
from lmsi_cli.settings import typed
from lmsi_cli.stages.compare import against
from lmsi_cli.stages.train import finished
from lmsi_cli.training import validation
from lmsi_cli.training.loop import LogLine
from lmsi_cli.verdict.rules import STOP, Verdict
from lmsi_cli.voting.summary import VoteSummary


class Reading(NamedTuple):
    """What a report is made of; ``sentence`` says what can be browsed."""

    digest: Digest
    sets: list[QuestionSet]
    sentence: str


def read_run(
    run: RunDir, task: Task, questions: int, version: str, other: File | None = None
) -> Reading:
    """Gather a report from whatever the run has so far.

    Args:
        run: A folder that `lmsi sample` has begun.
        task: The one it was sampled with; tells where answers stand in the paths.
        questions: How many can be browsed, evenly over the run; 0: all.
        version: Of lmsi.
        other: Another run's folder, to compare this one with.

    Raises:
        LmsiError: A file of the folder cannot be read, or there is nothing to compare.
    """
    settings = run.load_settings()
    verdict = _file(run.verdict, Verdict)
    votes = _file(run.vote_summary, VoteSummary)
    measured = newest_evaluations(run)
    rounds = _file(run.rounds, Rounds)
    compared = against(run.root, other) if other else []
    sections = [opposed_section(o, number) for number, o in enumerate(compared, 1)]
    if rounds is not None:  # on the sets that the base and a round at least were measured on
        sections.append(rounds_section(rounds, [e for e in measured if len(e.mains) > 1]))
    for number, e in enumerate(measured, 1):
        parts = (result_section, details_section, confidence_section)
        sections += [s for part in parts if (s := part(e, number)) is not None]
    if verdict is not None:
        sections.append(verdict_section(verdict))
    if votes is not None:
        sections.append(vote_section(votes))
    sections += _training(run)
    sections.append(settings_section(settings, list(commands(run, settings)), version))
    data = {"settings": settings, "verdict": verdict, "vote": votes}
    data |= {"evaluations": measured, **({} if rounds is None else {"rounds": rounds})}
    data |= {"against": compared} if other else {}
    said, notes = headline(measured, _kept(rounds)) if measured else (_said(verdict, votes), ())
    digest = Digest(
        title=f"lmsi report: {run.root.name or run.root.resolve().name}",
        headline=said,
        picture=picture(measured[0]) if measured else None,
        next=_missing(run, verdict) or next_step(measured, shlex.quote(str(run.root))),
        notes=(*_taught_by(run), *notes),
        sections=tuple(sections),
        data=msgspec.to_builtins(data),
    )
    browsed, sentence = _questions(run, task, questions)
    sets = [QuestionSet("questions of the run", "run", browsed)]
    for e in measured:
        answers = {v.model: answers_of(v, run.eval_dir) for v in e.mains}
        sets.append(exam_set(e, answers, task, questions))
    return Reading(digest, sets, sentence)


def _file(path: File, kind: type[Any]) -> Any:  # noqa: ANN401 - the kind's own
    return read_struct(path, kind, "run `lmsi vote` again") if path.exists() else None


def _said(verdict: Verdict | None, votes: VoteSummary | None) -> str:
    """What happened so far, before anything is measured."""
    if votes is None:
        return "Nothing has been voted on yet."
    return kept_line(votes) + (f"; verdict: {verdict.verdict}" if verdict else "")


def _kept(rounds: Rounds | None) -> str:
    """What the adapter of the round that is kept is called in an evaluation."""
    best = rounds.best if rounds else None
    return f"round-{best.number}" if best and best.number > 1 else ""


def _taught_by(run: RunDir) -> Iterator[str]:
    if teacher := teacher_of(run):
        model = File(teacher["model"]).name
        yield f"A student: it learned from the votes of {model} in {teacher['run']}."


def _missing(run: RunDir, verdict: Verdict | None) -> Step | None:
    """The first stage that the run lacks, as the next step; None if it has all of them."""
    name = shlex.quote(str(run.root))
    student = teacher_of(run) is not None
    if not run.paths.exists() and not student:
        return Step("no paths yet", f"lmsi sample QUESTIONS -o {name}")
    if not run.vote_summary.exists() and not student:
        return Step("no vote yet", f"lmsi vote {name}")
    if not run.adapter_origin.exists():
        if verdict is not None and verdict.verdict == STOP:
            return Step(
                "the verdict is against training; see what was voted on", f"lmsi show {name}"
            )
        begun = "training is not finished" if run.train_log.exists() else "no adapter yet"
        return Step(begun, f"lmsi train {name}")
    if not any(run.eval_dir.glob(f"*{RESULT}")):
        begun = "an evaluation is not finished" if any(run.eval_dir.glob(f"*{ANSWERS}")) else ""
        return Step(begun or "nothing measured yet", f"lmsi eval {name} --data FILE")
    return None


def _training(run: RunDir) -> Iterator[Section]:
    """What was trained so far, with the loss on questions that were held out."""
    result = msgspec.to_builtins(finished(run)) if run.adapter_origin.exists() else None
    lines = read_records(run.train_log, LogLine) if run.train_log.exists() else ()
    losses = [(float(line.step), line.loss) for line in lines]
    file, others = run.adapter / validation.LOG, []
    if read := list(read_records(file, validation.Reading)) if file.exists() else []:
        steps = tuple(float(r.step) for r in read)
        held_out = Series(name="held-out questions", x=steps, y=tuple(r.loss for r in read))
        others.append(held_out)
    if result is not None or losses:
        yield training_section(result, losses, others)


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
        if isinstance(value, bool):
            yield f"{RARE} {field.name}={str(value).lower()}"
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield typed(kind, field.name, shlex.quote(text))


def _questions(run: RunDir, task: Task, most: int) -> tuple[list[QuestionView], str]:
    if not (run.questions.exists() and run.paths.exists()):
        return [], ""
    asked = list(read_records(run.questions, Question))
    votes = {v.question_id: v for v in read_records(run.votes, Vote)} if run.votes.exists() else {}
    shown = asked
    if 0 < most < len(asked):
        shown = [asked[i * len(asked) // most] for i in range(most)]
    with paths_by_question(run) as paths:
        views = [run_question(q, paths.get(q.id), votes.get(q.id), task) for q in shown]
    left = len(asked) - len(shown)
    more = f"; {left:,} more are left out, --questions takes them in" if left else ""
    return views, f"{len(shown):,} questions of the run with their paths{more}."
