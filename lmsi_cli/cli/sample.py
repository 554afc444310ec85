"""`lmsi sample`: questions and a model in, sampled paths in a run folder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from lmsi_cli.catalog import Model
from lmsi_cli.cli.asking import Asking, ask, form_of, keep, pick_task
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Overwrite,
    Quiet,
    identity,
    questions_in,
    show,
    shown,
    watched,
)
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:
    from lmsi_cli.cluster import Job

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
    quiet: Quiet = False,
) -> None:
    """Draw many chain-of-thought paths per question.

    Called again, it goes on where it stopped: nothing lost, nothing twice.

    Example: lmsi sample questions.jsonl -m model.gguf -o runs/first --paths 16
    """
    from lmsi_cli.catalog import find_model
    from lmsi_cli.cli.serving import refuse_served
    from lmsi_cli.cli.tables import sample_sheet
    from lmsi_cli.engine.context_check import skipped_error
    from lmsi_cli.engine.encode import choose
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.run_folder import discard, locked
    from lmsi_cli.stages import sample as stage
    from lmsi_cli.tasks.golds import check_options

    asked = questions_in(questions)
    flags = Shown(overwrite, dry_run, json, quiet)
    if settings.engine == "openai":
        _refuse_cluster(settings)
        _sample_there(asked, settings, questions, out, flags)
        return
    refuse_served(settings)
    model = find_model(settings.model)
    task = pick_task(settings.task, model, questions)
    check_options(asked[: settings.limit or None], task)
    if dry_run:
        _preview(asked, model.path, task, settings, flags)
        return
    if settings.cluster:
        _sample_in_cluster(asked, settings, model, task, RunDir(out), flags)
        return
    _refuse_cluster(settings)
    run = RunDir(out)
    with (
        locked(run),
        LlamaEngine(model.path, settings if overwrite else stage.as_begun(run, settings)) as engine,
        watched(quiet, run) as progress,
    ):
        choice = choose(settings.chat, engine.encoder, settings.template_var)
        stage.put_on(engine, settings.adapter)
        drawn_by = stage.drawn_by(settings.adapter, model.path)
        asking = ask(task, choice, settings, asked, None if overwrite else run, (engine, progress))
        if overwrite:  # only now: a model that does not load must not cost the old run
            discard(run)
        stage.bind(run, asking.config, {**identity(model, asking), **drawn_by})
        keep(run, asking)
        summary = stage.sample(asked, engine, asking.task, asking.config, run, progress)
    show(summary, json, sample_sheet(summary))
    if summary.skipped:
        raise skipped_error(len(summary.skipped), summary.questions)


class Shown(NamedTuple):
    """The flags beside the settings."""

    overwrite: bool
    dry_run: bool
    json: bool
    quiet: bool


def _sample_there(
    asked: Sequence[Question], settings: SampleConfig, source: str, out: Path, flags: Shown
) -> None:
    """Let a server draw the paths."""
    from lmsi_cli.cli.serving import preview_there, sample_there
    from lmsi_cli.cli.tables import sample_sheet
    from lmsi_cli.engine.context_check import unfinished_error

    if flags.dry_run:
        preview_there(asked, settings, source, flags.json)
        return
    summary = sample_there(asked, settings, source, out, flags.overwrite, flags.quiet)
    show(summary, flags.json, sample_sheet(summary))
    if summary.skipped:
        raise unfinished_error(len(summary.skipped), summary.questions)


def _refuse_cluster(settings: SampleConfig) -> None:
    """Refuse a cluster where a server draws, and its workers where there is none."""
    if settings.cluster:
        raise LmsiError(
            f"--cluster {settings.cluster}: with --engine openai the server is what is shared",
            hint="leave --cluster out; --concurrency says how many requests are under way",
        )
    if settings.workers:
        raise LmsiError("--workers: that is a cluster's", hint="give --cluster local with it")


def _sample_in_cluster(
    asked: Sequence[Question],
    settings: SampleConfig,
    model: Model,
    task: Task,
    run: RunDir,
    flags: Shown,
) -> None:
    """Let Ray workers draw the paths; nobody is there for a trial, so the first wording is used."""
    from lmsi_cli.cli.tables import sample_sheet
    from lmsi_cli.cluster import Pool, connected
    from lmsi_cli.engine.context_check import unfinished_error
    from lmsi_cli.run_folder import discard, locked
    from lmsi_cli.stages import sample as stage

    with locked(run), connected(settings) as (ray, room), watched(flags.quiet, run) as progress:
        begun = settings if flags.overwrite else stage.as_begun(run, settings)
        drawn_by = stage.drawn_by(settings.adapter, model.path)
        choice = form_of(model.path, settings)
        asking = ask(task, choice, settings, asked, None if flags.overwrite else run)
        tied = {**identity(model, asking), **drawn_by}
        pool = Pool(ray, _job(asking, begun, asked, room.threads, tied), room)
        progress.say(f"workers: {room.workers}, CPUs of each: {room.threads}")
        pool.ready()
        if flags.overwrite:  # only now: a model that does not load must not cost the old run
            discard(run)
        alone = msgspec.structs.replace(asking.config, cluster="", workers=0)
        stage.bind(run, alone, tied)
        keep(run, asking)
        summary = stage.sample_in_pool(asked, pool, asking.task, alone, run, progress)
    show(summary, flags.json, sample_sheet(summary))
    if summary.skipped:
        raise unfinished_error(len(summary.skipped), summary.questions)


def _job(
    asking: Asking,
    begun: SampleConfig,
    asked: Sequence[Question],
    threads: int,
    tied: dict[str, Any],
) -> Job:
    """What each worker does: as the run was begun, with its own share of the CPUs."""
    from lmsi_cli.cluster import Job, shown_of

    kind = {name: getattr(begun, name) for name in ("kv", "flash_attn", "fast_copy")}
    settings = msgspec.structs.replace(asking.config, threads=threads, **kind)
    names = [n for n in ("model", "adapter") if n in tied]
    files = {tied[n]: tied[f"{n}_sha256"] for n in names}
    shown = shown_of(asked[: settings.limit or None])
    return Job(files, tied.get("adapter_scale", 1.0), settings, asking.task, shown)


def _preview(
    asked: Sequence[Question], model: Path, task: Task, settings: SampleConfig, flags: Shown
) -> None:
    """Show what would be asked and what it would cost; writes nothing."""
    from lmsi_cli.cli.tables import cost_sheet, preview_parts, trial_sheet
    from lmsi_cli.engine.encode import choose
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages.estimate import estimate
    from lmsi_cli.stages.preview import preview
    from lmsi_cli.stages.sample import put_on, requests_of

    with LlamaEngine(model, settings) as engine, shown(flags.quiet) as progress:
        choice = choose(settings.chat, engine.encoder, settings.template_var)
        put_on(engine, settings.adapter)
        asked = asked[: settings.limit or None]
        asking = ask(task, choice, settings, asked, None, (engine, progress))
        prompts = preview(asked, engine.encoder, asking.task, choice)
        requests = requests_of(asked, engine, asking.task, asking.config)
        cost = estimate(requests, engine, asking.config, asking.task.trigger)
    told = {"cost": cost, "wording": asking.wording, "trial": asking.trial}
    tables = [trial_sheet(asking.trial)] if asking.trial else []
    both = {**msgspec.to_builtins(prompts), **msgspec.to_builtins(told)}
    show(both, flags.json, *tables, *preview_parts(prompts), cost_sheet(cost))
