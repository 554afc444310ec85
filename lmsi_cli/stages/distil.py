"""Distillation: a teacher's votes in, a run folder to train the student on out.

A control is a student, too: the run's own model, trained on paths chosen at random.

The teacher's run is only read. Every example is rewritten in the student's form: plain text for a
model without a chat template, a conversation for one with it. The student's folder is an ordinary
run folder without paths; those stay with the teacher:

    runs/first/{questions.jsonl, paths.jsonl, votes.jsonl, vote.json, verdict.json}
    -> runs/first/students/small/{run.toml, questions.jsonl, votes.jsonl, vote.json, verdict.json,
                                  train.jsonl, pairs.jsonl}
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path as File
from shlex import quote
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.atomic import replacing
from lmsi_cli.catalog import find_model
from lmsi_cli.config import SampleConfig, ServerConfig, TrainConfig, VoteConfig, name_of
from lmsi_cli.engine.encode import Encoder, choose
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, shuffled_writer
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Vote
from lmsi_cli.resume import check_same
from lmsi_cli.run_folder import (
    TEACHER,
    RunDir,
    discard,
    discard_adapter,
    paths_by_question,
    questions_by_id,
    sha256_file,
    teacher_of,
)
from lmsi_cli.settings import check
from lmsi_cli.stages.asking import Asking, formed, sampled, task_of, wording_of
from lmsi_cli.stages.pipeline import identity, model_of
from lmsi_cli.stages.train import check_training
from lmsi_cli.stages.vote import taught
from lmsi_cli.voting.selection import shuffled

FOLDER = "students"  # in the teacher's run folder
ADAPTER = ("adapter", "adapter_sha256")  # the one that drew the teacher's paths
# settings of a server that drew the teacher's paths; the student is a file
SERVER = (*ServerConfig.__struct_fields__, "engine", "server", "model_stated", "model_facts")
# settings that decide the student's prompts
FORM = ("task_name", "task_sha256", "chat", "few_shot", "system", "template_var")


class Student(NamedTuple):
    """A student's folder, its model file, how it is asked, and what a run of it is tied to.

    ``shuffled``: it is a control, which learns from as many paths chosen at random.
    """

    run: RunDir
    model: File
    task: Task
    identity: dict[str, Any]
    shuffled: bool = False


def enrolled(
    teacher: RunDir, model: str, out: File | None, settings: TrainConfig, progress: Progress
) -> Student | None:
    """Check a student and its folder before an hour is spent on it; None without a ``model``.

    ``model`` is its file or a name. ``out`` is its run folder; by default one of the model's name
    in the teacher's run folder.

    LmsiError: -o without a student, a run that cannot teach, a folder that is taken, or a file that
    cannot be trained or asked in the same way.
    """
    if not model:
        if out:
            raise LmsiError("-o is a student's", hint="give --student MODEL with it")
        return None
    found = find_model(model, progress)
    name = re.sub(r"[^\w.-]", "_", found.card.name if found.card else found.path.stem)
    run = RunDir(out or teacher.root / FOLDER / name)
    asking = _asked(teacher, found.path)
    told = identity(found, asking)
    if origin := teacher_of(teacher):
        again = f"lmsi train {quote(origin['run'])} --student {quote(str(found.path))}"
        raise LmsiError(
            f"{teacher.root}: this is a student's folder; the paths are its teacher's",
            hint=f"give the teacher's run: `{again}`",
        )
    _check_folders(teacher, run)
    if sampled(teacher).get("model_sha256") == told["model_sha256"]:
        message = f"{found.path}: this is the very model that drew the paths of {teacher.root}"
        raise LmsiError(message, hint=f"to train it on its own votes: `lmsi train {teacher.typed}`")
    try:
        check_training(found.path, settings, progress)
    except LmsiError as e:  # two models are in play, so name this one
        named = str(e) if str(found.path) in str(e) else f"{found.path}: {e}"
        raise LmsiError(named, hint=e.hint) from None
    return Student(run, found.path, asking.task, told)


def control(teacher: RunDir) -> Student:
    """The run's own model in the folder ``null``; LmsiError: it is taken, or there is no vote."""
    if teacher_of(teacher):
        hint = "a control is of a run that has sampled paths of its own"
        raise LmsiError(f"{teacher.root}: what was voted on is its teacher's", hint)
    _check_folders(teacher, teacher.null)
    saved = {k: v for k, v in sampled(teacher).items() if k not in ADAPTER}
    return Student(teacher.null, model_of(teacher).path, task_of(teacher), saved, shuffled=True)


def _asked(teacher: RunDir, model: File) -> Asking:
    """How the student is asked: the teacher's task, in a conversation if its file has a template.

    A conversation has the teacher's settings, except for variables that the student's template does
    not know.
    """
    saved, talk = sampled(teacher), SampleConfig()
    with vocabulary(model) as words:
        encoder = Encoder(words)
        known = encoder.template.knows if encoder.source else ()
        variables = tuple(v for v in saved.get("template_var", ()) if name_of(v) in known)
        choice = choose("auto", encoder, variables)
    if choice.chat:
        same = {k: saved[k] for k in ("few_shot", "system") if k in saved}
        talk = msgspec.structs.replace(talk, **same, template_var=variables)
    return formed(task_of(teacher), wording_of(teacher), choice, talk)


def _check_folders(teacher: RunDir, run: RunDir) -> None:
    """Refuse a teacher without a vote, and a folder for its student that holds another run."""
    for file in (teacher.votes, teacher.paths, teacher.questions):
        if not file.exists():
            raise LmsiError(f"{file}: no such file", hint=f"run `lmsi vote {teacher.typed}` first")
    hint = "choose another folder for the student: -o FOLDER"
    if run.root.resolve() == teacher.root.resolve():
        raise LmsiError(f"{run.root}: this is the teacher's own folder", hint=hint)
    if run.paths.exists() or (run.run_toml.exists() and not teacher_of(run)):
        raise LmsiError(f"{run.root}: this folder holds a run of its own", hint=hint)


def teach(teacher: RunDir, student: Student, progress: Progress, overwrite: bool = False) -> None:
    """Write the student's folder: its settings, the teacher's votes, the student's examples.

    Equal calls write the same bytes, so a killed one can simply be repeated. The caller holds the
    student's folder (``locked``). ``overwrite`` discards the adapter that is there, or everything
    if the folder is another student's.

    LmsiError: the folder is another student's or another teacher's, the vote has changed since,
    nothing was kept, or a kept path is missing.
    """
    run, settings, there = student.run, _settings(teacher, student), student.run.load_settings()
    if TEACHER in there:
        if not overwrite:
            check_same(_bound(there), _bound(settings), f"the student in {run.root}")
        elif there["sample"]["model_sha256"] != settings["sample"]["model_sha256"]:
            discard(run)
        else:
            discard_adapter(run)
    for section, values in settings.items():
        run.save_settings(section, values)
    examples, questions = _write(teacher, student)
    for name in ("questions", "votes", "vote_summary", "verdict"):  # later stages read these
        source, target = getattr(teacher, name), getattr(run, name)
        if source.exists():
            with source.open("rb") as old, replacing(target) as new:
                shutil.copyfileobj(old, new)
        else:
            target.unlink(missing_ok=True)
    votes = f"the votes of {File(str(settings[TEACHER]['model'])).name}"
    votes = "shuffled votes" if student.shuffled else votes
    progress.say(f"{examples:,} examples of {questions:,} questions, by {votes}")


def _settings(teacher: RunDir, student: Student) -> dict[str, dict[str, Any]]:
    """The sections of the student's run.toml.

    Its ``[sample]`` names the student and how it is asked; everything else there says how the
    teacher's paths were drawn.
    """
    saved = teacher.load_settings()
    sample, chat = saved["sample"], student.task.chat
    own = {"few_shot": chat.few_shot, "system": chat.system} if chat else {"system": ""}
    variables = {"template_var": student.task.variables} if student.task.variables else {}
    asked = {k: v for k, v in sample.items() if k not in (*ADAPTER, *SERVER, "template_var")}
    origin = {
        "run": str(teacher.root.absolute()),
        "model": sample["model"],
        "model_sha256": sample.get("model_sha256", ""),  # a server gives only its name
        "votes": str(teacher.votes.absolute()),
        "votes_sha256": sha256_file(teacher.votes),
    }
    return {
        "sample": {**asked, **own, **variables, **student.identity},
        **({"wording": saved["wording"]} if "wording" in saved else {}),
        TEACHER: origin,
    }


def _bound(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a student's folder is tied to, under names that tell student from teacher."""
    sample, origin = settings["sample"], settings[TEACHER]
    return {
        "student": sample["model"],
        "student_sha256": sample["model_sha256"],
        "teacher": origin["model"],
        "teacher_sha256": origin["model_sha256"],
        "votes": origin["votes"],
        "votes_sha256": origin["votes_sha256"],
        **{name: sample.get(name) for name in FORM},
    }


def _write(teacher: RunDir, student: Student) -> tuple[int, int]:
    """Write the student's examples and pairs; returns how many examples of how many questions."""
    held = teacher.load_settings().get("vote", {})
    config = check(VoteConfig, held, f"{teacher.run_toml} [vote]")
    count, questions, run = 0, 0, student.run
    with (
        questions_by_id(teacher) as asked,
        paths_by_question(teacher) as paths,
        shuffled_writer(run.train, config.seed) as train,
        shuffled_writer(run.pairs, config.seed) as preferred,
    ):
        for voted in read_records(teacher.votes, Vote):
            if not voted.kept or voted.predicted_answer is None:
                continue
            question, own = asked.get(voted.question_id), paths.get(voted.question_id)
            if not question or {*voted.kept} - {p.path for p in own}:
                raise LmsiError(
                    f"question {voted.question_id!r}: paths that the vote kept are not there any "
                    "more",
                    hint="`lmsi vote` again, then this",
                )
            chosen = shuffled(voted, own, config.seed) if student.shuffled else voted
            found, pairs = taught(student.task, config, question[0], own, chosen)
            train(*found)
            preferred(*pairs)
            count, questions = count + len(found), questions + bool(found)
        if not count:
            hint = f"`lmsi vote {teacher.typed}` says why"
            raise LmsiError(f"{teacher.votes}: nothing to learn: the vote kept no path", hint)
    return count, questions
