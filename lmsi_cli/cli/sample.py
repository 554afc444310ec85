"""`lmsi sample`: questions and a model in, sampled paths in a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, Overwrite, questions_in, show, shown, watched
from lmsi_cli.config import LLAMA, SampleConfig

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.records import Progress
    from lmsi_cli.stages.pipeline import Job

Questions = Annotated[
    str,
    typer.Argument(
        help="JSONL, CSV, text (one question a line), Parquet or SET:FILE; - reads stdin.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The run folder.", show_default=False)]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the first prompt, its tokens, memory and time; no more."),
]


@configured(SampleConfig)
def sample(  # noqa: PLR0913 - one parameter per flag
    questions: Questions,
    out: Out,
    settings: SampleConfig,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Draw many chain-of-thought paths per question.

    Called again, it goes on where it stopped: nothing lost, nothing twice.

    Example: lmsi sample questions.jsonl -m model.gguf -o runs/first --paths 16
    """
    from lmsi_cli.cli.tables import sample_sheet
    from lmsi_cli.engine.context_check import skipped_error, unfinished_error
    from lmsi_cli.run_folder import RunDir, locked
    from lmsi_cli.stages.pipeline import draw_paths, job_of

    job = job_of(settings, questions_in(questions), questions)
    if dry_run:
        with shown(quiet) as progress:
            _preview(job, progress, json)
        return
    run = RunDir(out)
    with locked(run), watched(quiet, run) as progress:
        summary = draw_paths(job, run, progress, overwrite)
    show(summary, json, sample_sheet(summary))
    if summary.skipped:
        alone = settings.engine == LLAMA and not settings.cluster
        error = skipped_error if alone else unfinished_error
        raise error(len(summary.skipped), summary.questions)


def _preview(job: Job, progress: Progress, json: bool) -> None:
    """Show what would be asked and what it would cost; writes nothing."""
    from rich.text import Text

    from lmsi_cli.cli.tables import cost_sheet, preview_parts, trial_sheet
    from lmsi_cli.stages.dry_run import preview, request_there

    if job.model is None:
        told = request_there(job, progress)
        text = msgspec.json.format(msgspec.json.encode(told["request"])).decode()
        show(told, json, Text(text), f"{told['paths']} paths in all")
        return
    found = preview(job, progress)
    tables = [trial_sheet(found.trial)] if found.trial else []
    show(found, json, *tables, *preview_parts(found), cost_sheet(found.cost))
