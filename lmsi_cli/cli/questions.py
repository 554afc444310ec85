"""`lmsi questions`: a few seed questions in, many new ones of the model's own out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.asking import ask, keep, pick_task
from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.sample import Out
from lmsi_cli.cli.session import (
    Json,
    Overwrite,
    Quiet,
    identity,
    questions_in,
    show,
    watched,
)
from lmsi_cli.config import NO_STOP, EngineConfig, QuestionsConfig, SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.settings import resolve

Seeds = Annotated[
    str | None,
    typer.Argument(
        help="Questions to begin with; without any, those of the embedded model.",
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Questions kept for measuring; nothing like them is kept. May be repeated.",
        show_default=False,
    ),
]


@configured(QuestionsConfig)
def questions(  # noqa: PLR0913 - one parameter per flag
    out: Out,
    settings: QuestionsConfig,
    tables: dict[str, dict[str, Any]],
    seeds_file: Seeds = None,
    exclude: Exclude = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the model write new questions, and keep those that its own paths agree on.

    The folder is a run folder: `lmsi vote` and `lmsi train` go on from it. Called again, it goes on
    where it stopped.

    Example: lmsi questions seeds.jsonl -m model.gguf -o runs/gen --seeds 10 -n 500
    """
    from functools import partial

    from lmsi_cli.engine.encode import choose
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.report.generation import generation_sheets, next_step
    from lmsi_cli.run_folder import RunDir, discard, locked
    from lmsi_cli.stages import questions as stage
    from lmsi_cli.stages import sample as sampling
    from lmsi_cli.tasks.golds import check_options
    from lmsi_cli.tasks.readers import read_questions

    paths = _path_settings(settings, tables)
    model = find_model(paths.model)
    source, excluded = _files(seeds_file, exclude, model)
    seeds = stage.pick_seeds(questions_in(source), settings, source)
    exams = {file: read_questions(file) for file in excluded}
    task = pick_task(paths.task, model, source)
    check_options(seeds, task)
    run = RunDir(out)
    begun = paths if overwrite else sampling.as_begun(run, paths)
    with (
        locked(run),
        LlamaEngine(model.path, begun) as engine,
        watched(quiet, run) as progress,
    ):
        choice = choose(paths.chat, engine.encoder, paths.template_var)
        asking = ask(task, choice, paths, seeds, None if overwrite else run)
        task, paths = asking.task, asking.config
        sampling.put_on(engine, paths.adapter)
        known = {**identity(model, asking), **sampling.drawn_by(paths.adapter, model.path)}
        if overwrite:  # only now: a model that does not load must not cost the old run
            discard(run)
        settings = stage.bind(run, settings, {**known, **_named(source, seeds, excluded)})
        paths = msgspec.structs.replace(paths, paths=settings.paths)
        sampling.bind(run, paths, known)
        keep(run, asking)
        draw = partial(
            sampling.sample, engine=engine, task=task, config=paths, run=run, progress=progress
        )
        told = stage.generate(stage.Job(seeds, exams, engine, task, settings, run, draw, progress))
    show(told, json, *generation_sheets(told))
    if nothing := stage.nothing_kept(run, told):
        raise nothing
    for warning in told.warnings:
        err().print(f"warning: {warning}", markup=False)
    err().print(next_step(told, str(out)), markup=False)


def _path_settings(settings: QuestionsConfig, tables: dict[str, dict[str, Any]]) -> SampleConfig:
    """How the paths are drawn: as [sample] says, but for what is given here."""
    own = ("model", "task", "prompt", "chat", "adapter", "seed", "paths")
    shared = {name: getattr(settings, name) for name in (*EngineConfig.__struct_fields__, *own)}
    whole = {"stop": NO_STOP, "limit": 0}  # a share counts only if all paths are drawn
    return resolve(SampleConfig, tables.get("sample", {}), shared, whole)


def _files(
    seeds_file: str | None, exclude: list[str] | None, model: Model
) -> tuple[str, list[str]]:
    """The file of the seeds and those to keep away from: of the embedded model its own.

    Raises:
        LmsiError: No file is given, and the model brings none.
    """
    folder = model.path.parent
    if seeds_file is not None:
        return seeds_file, exclude or []
    if model.card is None:
        raise LmsiError("no seed questions given", hint="lmsi questions SEEDS_FILE -m MODEL -o RUN")
    tests = [str(folder / name) for name in model.card.tests]
    return str(folder / model.card.questions), [*tests, *(exclude or [])]


def _named(source: str, seeds: Sequence[Question], excluded: list[str]) -> dict[str, Any]:
    """What a generation is tied to besides its settings."""
    digest = hashlib.sha256(msgspec.json.encode(seeds)).hexdigest()
    return {
        "seed_questions_file": source,
        "seed_questions_sha256": digest,
        "exclude": sorted(Path(file).name for file in excluded),
    }
