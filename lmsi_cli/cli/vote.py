"""`lmsi vote`: a run's paths in; its votes, training examples and the verdict out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text

from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Exclude, Json, RunFolder, show, watched
from lmsi_cli.config import VoteConfig
from lmsi_cli.reporting.digest import Part
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.tasks.readers import read_labelled, read_questions

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.verdict.rules import Verdict
    from lmsi_cli.voting.selection import VoteSummary

COLOURS = {"train": "green", "train with care": "yellow", "do not train": "red"}
Probe = Annotated[
    str | None,
    typer.Option(
        help="A file of some of the run's questions with an answer each, for the verdict only."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Vote even if an --exclude file holds the same questions.")
]


@configured(VoteConfig)
def vote(  # noqa: PLR0913 - one parameter per flag
    run: RunFolder,
    settings: VoteConfig,
    exclude: Exclude = None,
    probe: Probe = None,
    force: Force = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Let the paths vote, keep those that agree, and say whether to train on them.

    Example: lmsi vote runs/first --probe answers.jsonl --exclude test.jsonl
    """
    from lmsi_cli.stages.asking import task_of
    from lmsi_cli.stages.vote import nothing_kept, vote_run

    folder = RunDir(run)
    task = task_of(folder)
    labelled = read_labelled(probe) if probe else []
    exams = {} if force else {file: read_questions(file) for file in exclude or ()}
    with locked(folder), watched(quiet, folder) as progress:
        summary, verdict = vote_run(folder, task, settings, progress, exams, labelled)
    fields = {**msgspec.to_builtins(summary), "verdict": msgspec.to_builtins(verdict)}
    show(fields, json, *vote_parts(summary, verdict))
    for warning in summary.warnings:
        err().print(f"warning: {warning}", markup=False)
    if nothing := nothing_kept(folder, summary):
        raise nothing


def vote_parts(summary: VoteSummary, verdict: Verdict) -> list[Part]:
    """A vote's figures, then the verdict, so that the screen ends on it."""
    from lmsi_cli.reporting.sections import verdict_section, vote_section

    count = msgspec.structs.replace(vote_section(summary), lines=())  # warnings go to stderr
    judged = verdict_section(verdict)
    said = Text.assemble("verdict: ", (verdict.verdict, COLOURS[verdict.verdict]))
    return [count, *judged.sheets, said, *judged.lines]
