"""`lmsi eval`: a run's adapter and labelled questions in, a before/after table out."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Quiet,
    RunFolder,
    chat_of,
    examined,
    model_of,
    show,
    task_of,
    watched,
)
from lmsi_cli.config import DEFAULT_TASK, EvalConfig
from lmsi_cli.prompts import Task
from lmsi_cli.rundir import RunDir

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Labelled questions: JSONL or CSV with answers, or SET:FILE.",
        show_default=False,
    ),
]


@configured(EvalConfig)
def evaluate(
    run: RunFolder,
    data: Data,
    settings: EvalConfig,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the model before and after, on the same questions.

    Example: lmsi eval runs/first --data test.jsonl --modes direct,cot,sc
    """
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.engine.fitting import skipped_error
    from lmsi_cli.report.tables import eval_tables
    from lmsi_cli.rundir import locked
    from lmsi_cli.stages.evaluate import Exam, variants_of
    from lmsi_cli.stages.evaluate import evaluate as examine
    from lmsi_cli.tasks.golds import gold_answers
    from lmsi_cli.tasks.readers import read_labelled, set_name

    folder = RunDir(run)
    model = model_of(folder)
    questions = read_labelled(data)[: settings.limit or None]
    task = examined(_task(folder, data, settings.task), chat_of(folder), settings)
    gold_answers(questions, task)  # before a model is loaded
    exam = Exam(set_name(data), questions, task, settings)
    with (
        locked(folder),
        LlamaEngine(model.path, settings) as engine,
        watched(quiet, folder) as progress,
    ):
        result = examine(exam, variants_of(folder, model.path), engine, folder, progress)
    show(result, json, *eval_tables(result))
    if result.skipped:
        raise skipped_error(len(result.skipped), result.n)


def _task(folder: RunDir, data: str, name: str) -> Task:
    """The task by name; by default as sampled, but the set's own where its answers are others."""
    from lmsi_cli.tasks.readers import split_source

    sampled, layout = task_of(folder, name), split_source(data)[0]
    if name != DEFAULT_TASK or layout is None:
        return sampled
    own = task_of(folder, layout)
    return sampled if own.kind == sampled.kind else own
