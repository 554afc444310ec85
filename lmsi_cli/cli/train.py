"""`lmsi train`: a run's training examples in, an adapter for PEFT and llama.cpp out."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import msgspec
import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, Overwrite, RunFolder, show, watched
from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.training.processes import joined

StudentModel = Annotated[
    str, typer.Option(help="Train this model on the run's votes instead: a GGUF file, or a name.")
]
StudentFolder = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", help="The student's run folder.  [default: students/NAME in the run]"
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", help="Train a control on paths chosen at random, for `lmsi eval --null`."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help='Train even if the verdict is "do not train".')
]


@configured(TrainConfig)
def train(  # noqa: PLR0913 - one parameter per flag
    run: RunFolder,
    settings: TrainConfig,
    student: StudentModel = "",
    out: StudentFolder = None,
    null: Null = False,
    overwrite: Overwrite = False,
    force: Force = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Train a LoRA adapter on the kept paths and prove that it works.

    After an interruption the same command resumes from the last checkpoint. If the verdict of
    `lmsi vote` is "do not train", it trains only with --force.

    --null trains a control in the run's folder null: the same model on as many paths, chosen at
    random instead of by the vote. Whatever it gains, it gains from form alone.

    --student trains another model on the run's votes, in a run folder of its own.

    Several devices: accelerate launch -m lmsi_cli train runs/first

    Example: lmsi train runs/first --rank 16 --epochs 2
    """
    from lmsi_cli.reporting.sections import training_sheet
    from lmsi_cli.stages.asking import task_of
    from lmsi_cli.stages.distil import control, enrolled, teach
    from lmsi_cli.stages.pipeline import model_of
    from lmsi_cli.stages.train import assist, train_apart
    from lmsi_cli.stages.vote import permit
    from lmsi_cli.training.devices import check_packages

    check_packages()
    if null and (student or out):
        raise LmsiError("--null is for the run's own model", hint="leave --student and -o out")
    folder = RunDir(run)
    if not force:
        who = f" --student {quote(student)}" if student else " --null" if null else ""
        who += f" -o {RunDir(out).typed}" if out else ""
        permit(folder, f"lmsi train {folder.typed}{who} --force")
    with watched(quiet, None) as progress:
        taught = control(folder) if null else enrolled(folder, student, out, settings, progress)
    if taught:
        teacher, (folder, model, task, *_) = folder, taught
    else:
        model, task = model_of(folder).path, task_of(folder)
    with joined(settings.device) as here:
        if here.rank:
            assist(folder, model, task, settings, overwrite)
            return
        with locked(folder), watched(quiet, folder) as progress:
            if taught:
                teach(teacher, taught, progress, overwrite)
            result = train_apart(folder, model, task, settings, progress, overwrite)
    show(result, json, training_sheet(msgspec.to_builtins(result)))
