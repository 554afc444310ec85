"""`lmsi vote`: a run's paths in, its votes and training examples out."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Force, Json, RunFolder, show, task_of
from lmsi_cli.config import VoteConfig
from lmsi_cli.prompts import Task

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Questions kept for measuring; refuse to train on any of them. May be repeated.",
        show_default=False,
    ),
]


Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        help="Some questions of the run with their right answers; for --weight cisc:auto.",
        show_default=False,
    ),
]


@configured(VoteConfig)
def vote(
    run: RunFolder,
    settings: VoteConfig,
    exclude: Exclude = None,
    probe: Probe = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Let the paths vote and keep those that agree.

    Example: lmsi vote runs/first --min-share 0.5 --exclude test.jsonl
    """
    from lmsi_cli.report.tables import class_table, histogram, removed_table, vote_table
    from lmsi_cli.rundir import RunDir, locked
    from lmsi_cli.stages.vote import nothing_kept, vote_run
    from lmsi_cli.tasks.readers import read_questions

    folder = RunDir(run)
    task = task_of(folder)
    exams = {} if force else {file: read_questions(file) for file in exclude or ()}
    with locked(folder):
        summary = vote_run(folder, task, settings, exams, _labels(probe, task))
    tables = (vote_table, class_table, removed_table, histogram)
    show(summary, json, *(table(summary) for table in tables))
    for warning in summary.warnings:
        err().print(f"warning: {warning}", markup=False)
    if nothing := nothing_kept(folder, summary):
        raise nothing


def _labels(probe: str | None, task: Task) -> dict[str, str]:
    """The right answers of a probe by question, canonical."""
    from lmsi_cli.stages.evaluate import gold_answers
    from lmsi_cli.tasks.readers import read_labelled

    return gold_answers(read_labelled(probe), task) if probe else {}
