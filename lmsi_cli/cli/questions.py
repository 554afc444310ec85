"""`lmsi questions`: a few seed questions in, many new ones of the model's own out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from lmsi_cli.report.digest import Sheet
from lmsi_cli.report.formats import NONE, percent
from lmsi_cli.settings import resolve

if TYPE_CHECKING:
    from lmsi_cli.generation.diversity import Quantiles, Spread
    from lmsi_cli.generation.outcome import Generation

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
ENDED = {
    "enough": "as many as were asked for",
    "effort": "--effort is used up",
    "no new questions": "the last drafts brought no new question",
}


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


def generation_sheets(g: Generation) -> list[Sheet]:
    """All tables of a generation."""
    lost = tuple(
        (reason, f"{count}", whole)
        for whole, reasons in (("drafts", g.dropped), ("candidates", g.rejected))
        for reason, count in reasons.items()
    )
    spread = ("", f"{g.seeds} seeds", f"{g.kept} kept")
    return [
        Sheet(title="questions", rows=tuple(_made(g))),
        Sheet(title="dropped", columns=("", "number", "of"), rows=lost),
        Sheet(title="how varied", columns=spread, rows=tuple(_varied(g))),
    ]


def next_step(g: Generation, folder: str) -> str:
    """Say how to go on; of fewer questions than were asked for, say so first."""
    short = ""
    if g.kept < g.wanted:
        short = f"{g.kept} of {g.wanted} questions: {ENDED[g.ended]}\n"
    flags = f"--min-share {g.min_share:g} --min-votes {g.min_votes}"  # keep the same questions
    return f"{short}next: lmsi vote {folder} {flags}"


def _made(g: Generation) -> Iterator[tuple[str, str]]:
    yield "questions kept", f"{g.kept} of {g.wanted} wanted: {ENDED[g.ended]}"
    yield "drafts", f"{g.drafts} ({g.new_drafts} new)"
    share = percent(g.candidates / max(1, g.drafts))
    yield "candidates", f"{g.candidates} ({share} of the drafts)"
    yield "voted on", f"{g.sampled}, {g.paths} paths each; {g.waiting} were not needed"
    yield "mean share of all paths", f"{g.mean_share:.2f}; kept from {g.min_share:g} on"
    yield "time", f"{g.seconds:.0f} s"
    if g.prompts_too_long:
        yield "prompts too long", f"{g.prompts_too_long}"


def _varied(g: Generation) -> Iterator[tuple[str, str, str]]:
    own, made = g.seed_spread, g.spread
    yield "words, median", *_both(own, made, lambda s: f"{s.words.median:g}")
    yield "  5% to 95%", *_both(own, made, lambda s: f"{s.words.low:g} to {s.words.high:g}")
    for i, what in enumerate(("words", "pairs of words", "triples of words")):
        before, after = percent(own.distinct[i]), percent(made.distinct[i]) if made else NONE
        yield f"distinct {what}", before, after
        grouped = made.grouped_distinct if made else None
        yield f"  by {g.seeds} questions", before, percent(grouped[i]) if grouped else NONE
    yield "nearest other one, median and 95%", *_both(own, made, lambda s: _near(s.nearest))
    by_group = made.grouped_nearest if made else None
    near = own.nearest.median if own.nearest else None
    yield f"  median by {g.seeds} questions", _share(near), _share(by_group)
    yield "nearest seed, median and 95%", NONE, _near(g.to_seeds)
    if a := g.answers:
        yield "different answers", NONE, f"{a.distinct}"
        yield "commonest answer", NONE, f"{a.commonest[:20]}: {percent(a.commonest_share)}"
        yield "entropy of the answers, nats", NONE, f"{a.entropy:.2f}"


def _both(own: Spread, made: Spread | None, tell: Callable[[Spread], str]) -> tuple[str, str]:
    return tell(own), NONE if made is None else tell(made)


def _near(q: Quantiles | None) -> str:
    return NONE if q is None else f"{q.median:.2f}, {q.high:.2f}"


def _share(x: float | None) -> str:
    return NONE if x is None else f"{x:.2f}"
