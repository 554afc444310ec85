"""`lmsi train`: a run's training examples in, an adapter out, for PEFT and for llama.cpp."""

from __future__ import annotations

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Force,
    Json,
    Overwrite,
    Quiet,
    RunFolder,
    model_of,
    show,
    task_of,
    watched,
)
from lmsi_cli.config import TrainConfig


@configured(TrainConfig)
def train(
    run: RunFolder,
    settings: TrainConfig,
    overwrite: Overwrite = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a LoRA adapter on the kept paths and prove that it works.

    Interrupted, the same command goes on from the last checkpoint. Where the verdict of `lmsi
    vote` is "do not train", only --force trains.

    Example: lmsi train runs/first --rank 16 --epochs 2
    """
    from lmsi_cli.report.tables import train_table
    from lmsi_cli.rundir import RunDir, locked
    from lmsi_cli.stages.train import train_run
    from lmsi_cli.stages.verdict import permit

    folder = RunDir(run)
    if not force:
        permit(folder, f"lmsi train {run} --force")
    model = model_of(folder)
    with locked(folder), watched(quiet, folder) as progress:
        result = train_run(folder, model.path, task_of(folder), settings, progress, overwrite)
    show(result, json, train_table(result))
