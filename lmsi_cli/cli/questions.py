"""`lmsi questions`: a few seed questions in, many new ones of the model's own out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.sample import Out
from lmsi_cli.cli.session import Json, Overwrite, files_of, questions_in, show, watched
from lmsi_cli.config import NO_STOP, EngineConfig, QuestionsConfig, SampleConfig
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
    "effort": "the effort is used up",
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
    quiet: bool = False,
) -> None:
    """Let the model write new questions, and keep those that its own paths agree on.

    The folder is a run folder: `lmsi vote` and `lmsi train` go on from it. Called again, it goes on
    where it stopped.

    Example: lmsi questions seeds.jsonl -m model.gguf -o runs/gen --seeds 10 -n 500
    """
    from lmsi_cli.run_folder import RunDir, locked
    from lmsi_cli.stages.pipeline import here, job_of
    from lmsi_cli.stages.questions import make_questions, nothing_kept, pick_seeds
    from lmsi_cli.tasks.readers import read_questions

    paths = here(_path_settings(settings, tables), "questions")
    source, tests = files_of(seeds_file, paths.model, "lmsi questions SEEDS_FILE -m MODEL -o RUN")
    job = job_of(paths, pick_seeds(questions_in(source), settings, source), source)
    exams = {file: read_questions(file) for file in [*tests, *(exclude or [])]}
    run = RunDir(out)
    with locked(run), watched(quiet, run) as progress:
        told = make_questions(job, settings, exams, source, run, progress, overwrite)
    show(told, json, *generation_sheets(told))
    if nothing := nothing_kept(run, told):
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
