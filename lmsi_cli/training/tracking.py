"""A training's figures for TensorBoard, trackio or wandb, through accelerate's trackers.

Nothing is tracked unless asked for, and nothing leaves this machine: wandb is told to be offline,
and trackio keeps its own database here. Knows the figures' records, not how they came about. What
is shown, by step:

    train/loss  train/lr  train/grad_norm ...     of each step, as in log.jsonl
    eval/loss   eval/divergence ...               of each validation, as in validation.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.training.processes import place

PROJECT, NONE = "lmsi", "none"
Tell = Callable[[str, Record], None]


def check(config: TrainConfig) -> None:
    """Refuse a tracker that is not installed, before any work."""
    if config.track == NONE:
        return
    try:
        metadata.version(config.track)  # a folder of that name could be imported, too
    except metadata.PackageNotFoundError:
        hint = f"pip install {config.track}"
        raise LmsiError(f"--track {config.track}: {config.track} is not installed", hint) from None


@contextmanager
def tracked(config: TrainConfig, run: Path, name: str) -> Iterator[Tell]:
    """Open the tracker that is asked for, if any, and close it.

    ``run`` is the run folder, where files of the tracker go that have no place of their own;
    ``name`` is the training's: one that goes on has the same. What it yields is told the figures of
    each step (``train``) and of each validation (``eval``).
    """
    if config.track == NONE or place().rank:
        yield lambda part, figures: None
        return
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    named = {"run_name": PROJECT, "name": f"{run.name}-{name}"}
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": name, "logging_dir": run / "tensorboard"},
        "trackio": {**named, "embed": False},
        "wandb": {**named, "mode": "offline", "dir": run},
    }
    PartialState()  # accelerate's trackers ask it which process they are in
    with redirect_stdout(sys.stderr):  # results alone go to stdout
        tracker = LOGGER_TYPE_TO_CLASS[config.track](**options[config.track])
        tracker.start()
        tracker.store_init_configuration(msgspec.to_builtins(config))

    def tell(part: str, figures: Record) -> None:
        values = msgspec.to_builtins(figures)
        step = values.pop("step")
        tracker.log({f"{part}/{key}": value for key, value in values.items()}, step=step)

    try:
        yield tell
    finally:
        with redirect_stdout(sys.stderr):
            tracker.finish()
