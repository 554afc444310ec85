"""`lmsi exemplars`: seed questions and a model in, a task file with exemplars of its own out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.asking import ask, keep, pick_task
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Quiet,
    identity,
    questions_in,
    show,
    watched,
)
from lmsi_cli.config import ExemplarsConfig, SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.run_folder import RunDir, discard, locked

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.sample import SampleSummary

Seeds = Annotated[
    str | None,
    typer.Argument(
        help="Seed questions, without answers; none: those of the embedded model.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option("-o", "--out", help="The task file to write (.toml).", show_default=False)
]
Work = Annotated[
    Path | None,
    typer.Option(
        "--work", help="Run folder of the seeds' paths.", show_default="beside the file, as .run"
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Questions kept for measuring; refuse to show any of them. May be repeated.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the file; its paths stay unless they were drawn otherwise."
    ),
]


class _Job(NamedTuple):
    """What is drawn."""

    seeds: Sequence[Question]
    model: Model
    task: Task
    settings: SampleConfig


@configured(ExemplarsConfig)
def exemplars(  # noqa: PLR0913 - one parameter per flag
    out: Out,
    settings: ExemplarsConfig,
    seeds: Seeds = None,
    work: Work = None,
    exclude: Exclude = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a model write its own exemplars: zero-shot rationales, chosen by vote.

    The file serves wherever --task does. Called again, it goes on where it stopped.

    Example: lmsi exemplars seeds.jsonl -m model.gguf -o exemplars.toml --shots 4 --templates 20
    """
    from lmsi_cli.cli.tables import exemplars_sheet
    from lmsi_cli.engine.context_check import skipped_error
    from lmsi_cli.stages.exemplars import write_exemplars
    from lmsi_cli.tasks.golds import check_options

    _check_file(out, overwrite)
    model = find_model(settings.model)
    source = _source(seeds, model)
    task = pick_task(settings.task, model, source)
    asked = _seeds(source, settings, exclude or [])
    check_options(asked, task)
    run = RunDir(work or out.with_suffix(".run"))
    with locked(run), watched(quiet, run) as progress:
        job = _Job(asked, model, task, settings.sampling())
        drawn = _draw(job, run, overwrite, progress)
        made = write_exemplars(run, asked, task, settings, out)
    show(made, json, exemplars_sheet(made, drawn))
    if drawn.skipped:
        raise skipped_error(len(drawn.skipped), drawn.questions)


def _check_file(out: Path, overwrite: bool) -> None:
    """Refuse a file that is in the way, before an hour of sampling."""
    if out.suffix != ".toml":
        raise LmsiError(f"{out}: a task file ends in .toml", hint=f"-o {out}.toml")
    if out.is_dir():
        raise LmsiError(f"{out}: is a folder", hint="name a file in it")
    if out.exists() and not overwrite:
        raise LmsiError(
            f"{out}: is already there", hint="--overwrite replaces it; or give another -o"
        )


def _source(seeds: str | None, model: Model) -> str:
    if seeds is not None:
        return seeds
    if model.card is None:
        raise LmsiError("no seeds given", hint="lmsi exemplars SEEDS -m MODEL -o FILE.toml")
    return str(model.path.parent / model.card.questions)


def _seeds(source: str, settings: ExemplarsConfig, exclude: Sequence[str]) -> list[Question]:
    """The seeds, if there are enough of them and none is kept for measuring."""
    from lmsi_cli.contamination import check_shown
    from lmsi_cli.tasks.readers import read_questions

    asked = questions_in(source)[: settings.limit or None]
    check_shown(asked, {file: read_questions(file) for file in exclude})
    if len(asked) < settings.needed:
        raise LmsiError(
            f"{source}: {len(asked)} seeds, and {settings.templates} templates of "
            f"{settings.shots} need {settings.needed}",
            hint="a seed is used once: give more of them, or lower --templates or --shots",
        )
    return asked


def _draw(job: _Job, run: RunDir, overwrite: bool, progress: Progress) -> SampleSummary:
    """Draw the paths of the seeds that the folder lacks."""
    from lmsi_cli.engine.encode import choose
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages import sample as stage

    settings = job.settings
    with LlamaEngine(job.model.path, stage.as_begun(run, settings)) as engine:
        choice = choose(settings.chat, engine.encoder)
        asking = ask(job.task, choice, settings, job.seeds, None if overwrite else run)
        told = identity(job.model, asking)
        try:
            stage.bind(run, asking.config, told)
        except LmsiError:
            if not overwrite:
                raise
            discard(run)
            stage.bind(run, asking.config, told)
        keep(run, asking)
        return stage.sample(job.seeds, engine, asking.task, asking.config, run, progress)
