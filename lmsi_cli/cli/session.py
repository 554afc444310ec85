"""What the commands share: the model, the task, the run folder and the way results are shown.

Knows how a command line's values become open things; nothing of any one command.

    with opened(settings) as (engine, model): ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.console import Bar, Lines, out, watcher
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.rundir import RunDir, check_model, locked, sha256_file
from lmsi_cli.tasks.loader import load_task

RunFolder = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard what the folder holds.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
GENERIC_TASK = "number"


@contextmanager
def watched(quiet: bool) -> Iterator[Bar | Lines]:
    """A progress view that is taken down whatever happens."""
    view = watcher(quiet)
    try:
        yield view
    finally:
        view.stop()


def pick_task(name: str, model: Model) -> Task:
    """The task by name; ``auto`` follows the model's card, or is generic."""
    if name == "auto":
        name = model.card.task if model.card else GENERIC_TASK
    return load_task(name)


def identity(model: Model, task: Task) -> dict[str, Any]:
    """What a run is tied to besides its settings: hashes, and versions for the record."""
    from importlib.metadata import version

    task_bytes = msgspec.json.encode(task)
    import hashlib

    return {
        "model": str(model.path.absolute()),
        "model_sha256": sha256_file(model.path),
        "task_name": task.name,
        "task_sha256": hashlib.sha256(task_bytes).hexdigest(),
        "llama_cpp_python": version("llama-cpp-python"),
        "lmsi": version("lmsi"),
    }


def model_of(run: RunDir) -> Model:
    """The model that drew a run's paths, still the same file.

    Args:
        run: A run folder that ``lmsi sample`` has begun.

    Raises:
        LmsiError: The folder holds no run, or the file is gone or has changed.
    """
    saved = _sampled(run)
    model = Path(saved["model"])
    if not model.is_file():
        raise LmsiError(
            f"{model}: the model of {run.root} is no longer there",
            hint=f"tell where it is now: `lmsi sample {run.questions} -m MODEL -o {run.root}`",
        )
    check_model(run, model, sha256_file(model))
    return find_model(str(model))


def _sampled(run: RunDir) -> dict[str, Any]:
    """What `lmsi sample` wrote down about its run."""
    saved = run.load_settings().get("sample")
    if saved is None:
        raise LmsiError(
            f"{run.root}: not a run folder (no [sample] in run.toml)",
            hint=f"run `lmsi sample QUESTIONS -o {run.root}` first",
        )
    return saved


def task_of(run: RunDir) -> Task:
    """The task that a run was sampled with; needs no model."""
    saved = _sampled(run)
    return load_task(saved["task_name"] if saved["task"] == "auto" else saved["task"])


def show(result: msgspec.Struct | list[Any] | dict[str, Any], as_json: bool, *tables: Any) -> None:  # noqa: ANN401 - Rich renderables
    """Print a result on stdout, as JSON or as tables."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(result, order="sorted").decode() + "\n")
        return
    for table in tables:
        out().print(table)


__all__ = [
    "Json",
    "Overwrite",
    "Quiet",
    "RunFolder",
    "identity",
    "locked",
    "model_of",
    "pick_task",
    "show",
    "task_of",
    "watched",
]
