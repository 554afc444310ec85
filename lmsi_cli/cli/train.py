"""`lmsi train`: a run's training examples in, an adapter out, for PEFT and for llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from lmsi_cli import aside
from lmsi_cli.cli.asking import task_of
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Force, Json, Overwrite, Quiet, RunFolder, model_of, show, watched
from lmsi_cli.cli.student import AUTO, StudentChat, StudentFolder, StudentModel, Wish, enrolled
from lmsi_cli.config import EngineConfig, TrainConfig
from lmsi_cli.engine.cpu_check import torch_is_here
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.scales import Sweep
    from lmsi_cli.stages.train import TrainResult

Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        help="Labelled questions to choose the adapter's scale by; without: agreement with the "
        "vote.",
        show_default=False,
    ),
]


@configured(TrainConfig)
def train(  # noqa: PLR0913 - one parameter per flag
    run: RunFolder,
    settings: TrainConfig,
    probe: Probe = None,
    student: StudentModel = "",
    out: StudentFolder = None,
    student_chat: StudentChat = AUTO,
    overwrite: Overwrite = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a LoRA adapter on the kept paths and prove that it works.

    Interrupted, the same command goes on from the last checkpoint. Where the verdict of `lmsi
    vote` is "do not train", only --force trains.

    With --student another model learns from the run's votes, in a run folder of its own.

    Several devices: accelerate launch -m lmsi_cli train runs/first

    Example: lmsi train runs/first --rank 16 --epochs 2
    """
    from lmsi_cli.cli.tables import scales_sheet
    from lmsi_cli.report.sections import training_sheet
    from lmsi_cli.run_folder import locked, open_run
    from lmsi_cli.stages.distil import teach
    from lmsi_cli.stages.train import assist
    from lmsi_cli.stages.verdict import permit
    from lmsi_cli.tasks.golds import gold_answers
    from lmsi_cli.tasks.readers import read_labelled
    from lmsi_cli.training.processes import joined

    folder = open_run(run)
    if not force:
        who = f" --student {student}" if student else ""
        permit(folder, f"lmsi train {run}{who} --force")
    taught = enrolled(folder, Wish(student, out, student_chat), settings)
    if taught:
        model, task = taught.pupil.model, taught.pupil.task
        teacher, folder = folder, taught.run
    else:
        model, task = model_of(folder).path, task_of(folder)
    labelled = read_labelled(probe) if probe else []
    gold_answers(labelled, task)  # before an hour of training
    with joined(settings.device) as here:
        if here.rank:
            assist(folder, model, task, settings, overwrite)
            return
        with locked(folder), watched(quiet, folder) as progress:
            if taught:
                teach(teacher, taught.pupil, folder, progress, overwrite)
            result = trained(folder, model, task, settings, progress, overwrite)
            sweep = choose_scale(folder, model, task, settings, labelled, progress)
    told = {**msgspec.to_builtins(result), "scale": msgspec.to_builtins(sweep)}
    scales = [scales_sheet(sweep)] if sweep else []
    show(told, json, training_sheet(told), *scales)


def trained(
    folder: RunDir,
    model: Path,
    task: Task,
    settings: TrainConfig,
    progress: Progress,
    overwrite: bool = False,
) -> TrainResult:
    """Train in a process of its own, since PyTorch may not share one with llama.cpp.

    Where several train together PyTorch is here already: then llama.cpp does without what it
    cannot share, and only the choice of a scale is slower for it.
    """
    from lmsi_cli.stages.train import train_run

    if torch_is_here():
        return train_run(folder, model, task, settings, progress, overwrite)
    work = partial(train_run, overwrite=overwrite)
    result: TrainResult = aside.run(
        work, folder, model, task, settings, progress=progress, name="training"
    )
    return result


def choose_scale(
    folder: RunDir,
    model: Path,
    task: Task,
    settings: TrainConfig,
    labelled: Sequence[Question],
    progress: Progress,
) -> Sweep | None:
    """Try adapter scales once, if that is wished; None if it is not."""
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages import scales

    if not settings.sweep:
        return None
    if done := scales.finished(folder):
        return done
    asked = scales.candidates(folder, task, labelled, settings.val_share, settings.loss)
    if len(asked.questions) < scales.FEWEST:
        return scales.too_few(folder, len(asked.questions))
    with LlamaEngine(model, EngineConfig()) as engine:
        return scales.sweep(folder, task, asked, engine, progress)
