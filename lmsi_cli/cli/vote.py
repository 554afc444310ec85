"""`lmsi vote`: a run's paths in, its votes and training examples out."""

from __future__ import annotations

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, RunFolder, show, task_of
from lmsi_cli.config import VoteConfig


@configured(VoteConfig)
def vote(run: RunFolder, settings: VoteConfig, json: Json = False) -> None:
    """Let the paths vote and keep those that agree.

    Example: lmsi vote runs/first --min-share 0.5
    """
    from lmsi_cli.report.tables import class_table, histogram, removed_table, vote_table
    from lmsi_cli.rundir import RunDir, locked
    from lmsi_cli.stages.vote import vote_run

    folder = RunDir(run)
    task = task_of(folder)
    with locked(folder):
        summary = vote_run(folder, task, settings)
    tables = (vote_table, class_table, removed_table, histogram)
    show(summary, json, *(table(summary) for table in tables))
