"""`lmsi vote`: a run's paths in; its votes, training examples and the verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, RunFolder, show, task_of
from lmsi_cli.config import VoteConfig

Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        help="Right answers to some questions of the run, for the verdict alone.",
        show_default=False,
    ),
]
Second = Annotated[
    Path | None,
    typer.Option(
        "--second",
        help="A run on the same questions with another --prompt, to compare winners with.",
        show_default=False,
    ),
]


@configured(VoteConfig)
def vote(
    run: RunFolder,
    settings: VoteConfig,
    probe: Probe = None,
    second: Second = None,
    json: Json = False,
) -> None:
    """Let the paths vote, keep those that agree, and say whether to train on them.

    Example: lmsi vote runs/first --probe answers.jsonl
    """
    import msgspec

    from lmsi_cli.report.tables import histogram, vote_table
    from lmsi_cli.report.verdict import verdict_parts
    from lmsi_cli.rundir import RunDir, locked
    from lmsi_cli.stages.verdict import conclude, observer_of
    from lmsi_cli.stages.vote import vote_run
    from lmsi_cli.tasks.readers import read_labelled

    folder = RunDir(run)
    task = task_of(folder)
    labelled = read_labelled(probe) if probe else []
    with locked(folder):
        observer = observer_of(folder, task, labelled, RunDir(second) if second else None)
        summary = vote_run(folder, task, settings, observer.observe)
        verdict = conclude(folder, observer)
    told = {**msgspec.to_builtins(summary), "verdict": msgspec.to_builtins(verdict)}
    show(told if json else summary, json, vote_table(summary), histogram(summary),
         *verdict_parts(verdict))  # fmt: skip
