"""`lmsi eval --import`: samples of lm-evaluation-harness in, an evaluation in a run folder out."""

from __future__ import annotations

from lmsi_cli.cli.asking import GENERIC_TASK, task_of
from lmsi_cli.cli.session import show
from lmsi_cli.config import DEFAULT_TASK, EvalConfig
from lmsi_cli.prompts import Task
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import set_name, split_source


def import_samples(folder: RunDir, source: str, settings: EvalConfig, json: bool) -> None:
    """Read the samples, mark them, and show what came of it."""
    from lmsi_cli.report.evaluation import eval_parts
    from lmsi_cli.stages.importing import import_evaluation
    from lmsi_cli.tasks.harness import read_samples

    samples = read_samples(source)[: settings.limit or None]
    task, file = _task(folder, source, settings.task), split_source(source)[1]
    with locked(folder):
        result, target = import_evaluation(
            set_name(source), file, samples, task, settings.modes[0], folder
        )
    told = f"written to {target}; `lmsi compare` takes it"
    show(result, json, *eval_parts(result), told)


def _task(folder: RunDir, source: str, name: str) -> Task:
    """The task by name; by default the set's, else the run's, else numbers."""
    layout = split_source(source)[0]
    if name != DEFAULT_TASK:
        return load_task(name)
    if layout is not None:
        return load_task(layout)
    return task_of(folder) if "sample" in folder.load_settings() else load_task(GENERIC_TASK)
