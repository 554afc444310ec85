"""`lmsi questions`: a few seed questions in, many new questions by the model out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import Tables, configured
from lmsi_cli.cli.sample import Out
from lmsi_cli.cli.session import Exclude, Json, Overwrite, files_of, show, watched
from lmsi_cli.config import NO_STOP, EngineConfig, QuestionsConfig, SampleConfig
from lmsi_cli.formats import percent
from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.settings import resolve
from lmsi_cli.tasks.readers import read_questions

if TYPE_CHECKING:
    from lmsi_cli.stages.questions import Generation

Seeds = Annotated[
    str | None, typer.Argument(help="Seed questions; not given: those of the embedded model.")
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
    tables: Tables,
    seeds_file: Seeds = None,
    exclude: Exclude = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Let the model write new questions, and keep those that its own paths agree on.

    The folder is a run folder: `lmsi vote` and `lmsi train` work in it. The same command continues
    where it stopped.

    Example: lmsi questions seeds.jsonl -m model.gguf -o runs/gen --seeds 10 -n 500
    """
    from lmsi_cli.stages.pipeline import here, job_of
    from lmsi_cli.stages.questions import make_questions, nothing_kept, pick_seeds

    own = (*EngineConfig.__struct_fields__, "model", "seed", "paths")  # the rest is from [sample]
    shared = {name: getattr(settings, name) for name in own}
    whole = {"stop": NO_STOP, "limit": 0}  # a share counts only if all paths are drawn
    paths = here(resolve(SampleConfig, tables.get("sample", {}), shared, whole), "questions")
    source, tests = files_of(seeds_file, paths.model, "lmsi questions SEEDS_FILE -m MODEL -o RUN")
    asked = pick_seeds(read_questions(source), settings, source)
    exams = {file: read_questions(file) for file in [*tests, *(exclude or [])]}
    with watched(quiet, None) as progress:
        job = job_of(paths, asked, source, progress)
    run = RunDir(out)
    with locked(run), watched(quiet, run) as progress:
        made = make_questions(job, settings, exams, source, run, progress, overwrite)
    show(made, json, *generation_sheets(made))
    if nothing := nothing_kept(run, made):
        raise nothing
    for warning in made.warnings:
        err().print(f"warning: {warning}", markup=False)
    err().print(next_step(made, run.typed), markup=False)


def generation_sheets(g: Generation) -> list[Sheet]:
    """All tables of a generation."""
    share = percent(g.candidates / max(1, g.drafts))
    needed = f"{g.paths} paths each; {g.candidates - g.sampled} were not needed"
    made = (
        ("questions kept", f"{g.kept} of {g.wanted} wanted: {ENDED[g.ended]}"),
        ("drafts", f"{g.drafts} ({g.new_drafts} new)"),
        ("candidates", f"{g.candidates} ({share} of the drafts)"),
        ("voted on", f"{g.sampled}, {needed}"),
        ("mean share of all paths", f"{g.mean_share:.2f}; kept from {g.min_share:g} on"),
        ("time", f"{g.seconds:.0f} s"),
    )
    lost = [(reason, f"{count}", "drafts") for reason, count in g.dropped.items()]
    lost += [(reason, f"{count}", "candidates") for reason, count in g.rejected.items()]
    return [
        Sheet(title="questions", rows=made),
        Sheet(title="dropped", columns=("", "number", "of"), rows=tuple(lost)),
    ]


def next_step(g: Generation, folder: str) -> str:
    """Name the next command; if there are fewer questions than asked for, say so first."""
    short = f"{g.kept} of {g.wanted} questions: {ENDED[g.ended]}\n" if g.kept < g.wanted else ""
    flags = f"--min-share {g.min_share:g} --min-votes {g.min_votes}"  # keep the same questions
    return f"{short}next: lmsi vote {folder} {flags}"
