"""`lmsi train --student`: another model in the place of the one that drew a run's paths.

Knows how a student is named, asked and given its folder; what it is given to learn is in
``stages/distil.py``. A student's file is read here, before an hour is spent on it:

    enrolled(RunDir("runs/first"), Wish("tinymath-small", None, "auto"), settings)
    -> Student(run=RunDir("runs/first/students/tinymath-small"), pupil=Pupil(...))
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from lmsi_cli.catalog import find_model
from lmsi_cli.cli.asking import formed, task_of, wording_of
from lmsi_cli.cli.session import identity
from lmsi_cli.config import SampleConfig, TrainConfig, name_of
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import ChatChoice
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.distil import Pupil

AUTO = SampleConfig().chat
StudentModel = Annotated[
    str,
    typer.Option(
        "--student",
        help="Train this model on the run's votes instead: a GGUF file, or a name.",
        show_default=False,
    ),
]
StudentFolder = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        help="The student's run folder.  [default: students/NAME in the run]",
        show_default=False,
    ),
]
StudentChat = Annotated[
    ChatChoice,
    typer.Option("--student-chat", help="Ask the student in conversations: auto, on or off."),
]


class Wish(NamedTuple):
    """What the command line says of a student; an empty model is none."""

    model: str
    out: Path | None
    chat: ChatChoice


class Student(NamedTuple):
    """A student and its folder, both looked at and nothing written yet."""

    run: RunDir
    pupil: Pupil


def enrolled(teacher: RunDir, wish: Wish, settings: TrainConfig) -> Student | None:
    """Look at a student and at its place; None if there is none.

    Raises:
        LmsiError: -o without a student, a run that cannot teach, a place that is taken, or a file
            that cannot be trained or asked as wished.
    """
    from lmsi_cli.stages.distil import check_place, check_teacher, place_of

    if not wish.model:
        if wish.out or wish.chat != AUTO:
            flag = "-o" if wish.out else "--student-chat"
            raise LmsiError(f"{flag} is a student's", hint="give --student MODEL with it")
        return None
    pupil = _pupil(teacher, wish)
    check_teacher(teacher, pupil.model, pupil.identity["model_sha256"])
    run = RunDir(wish.out) if wish.out else place_of(teacher, pupil.name)
    check_place(teacher, run)
    _check_trainable(pupil.model, settings)
    return Student(run, pupil)


def _check_trainable(model: Path, settings: TrainConfig) -> None:
    """Refuse a file before anything is written for it, and name it: two models are at hand."""
    from lmsi_cli.training.adapter import preflight

    try:
        preflight(model, settings.target, settings.layers, settings.rank)
    except LmsiError as e:
        named = str(e) if str(model) in str(e) else f"{model}: {e}"
        raise LmsiError(named, hint=e.hint) from None


def _pupil(teacher: RunDir, wish: Wish) -> Pupil:
    """The student as it will be asked: the teacher's task in the student's own form."""
    from lmsi_cli.engine.encode import Encoder, choose
    from lmsi_cli.engine.llama import vocabulary
    from lmsi_cli.stages.distil import Pupil

    model = find_model(wish.model)
    task, wording = task_of(teacher), wording_of(teacher)
    with vocabulary(model.path) as words:
        encoder = Encoder(words)
        choice = choose(wish.chat, encoder)
        talk = _talk(teacher, encoder.template.knows) if choice.chat else SampleConfig()
        choose(wish.chat, encoder, talk.template_var)
    asking = formed(task, wording, choice, talk)
    name = model.card.name if model.card else model.path.stem
    return Pupil(name, model.path, asking.task, identity(model, asking))


def _talk(teacher: RunDir, knows: Collection[str]) -> SampleConfig:
    """How a conversation is held: as with the teacher, as far as a template knows its variables."""
    saved = teacher.load_settings()["sample"]
    same: dict[str, Any] = {k: saved[k] for k in ("few_shot", "system") if k in saved}
    variables = [v for v in saved.get("template_var", ()) if name_of(v) in knows]
    return msgspec.convert({**same, "template_var": variables}, SampleConfig)
