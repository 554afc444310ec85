"""`lmsi exemplars`: seed questions and a model in, a task file with the model's exemplars out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from lmsi_cli.cli.options import Tables, configured
from lmsi_cli.cli.session import Exclude, Json, files_of, show, watched
from lmsi_cli.config import ExemplarsConfig, SampleConfig
from lmsi_cli.contamination import check_apart
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.settings import resolve
from lmsi_cli.tasks.readers import read_questions

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.exemplars import ExemplarsSummary
    from lmsi_cli.stages.sample import SampleSummary

Seeds = Annotated[
    str | None,
    typer.Argument(help="Seed questions, without answers; not given: those of the embedded model."),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The task file to write (.toml).")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the file; paths stay if the settings are the same."),
]


@configured(ExemplarsConfig)
def exemplars(  # noqa: PLR0913 - one parameter per flag
    out: Out,
    settings: ExemplarsConfig,
    tables: Tables,
    seeds: Seeds = None,
    exclude: Exclude = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Let a model write its own exemplars: zero-shot rationales, chosen by vote.

    Every --task accepts the file. The same command continues where it stopped.

    Example: lmsi exemplars seeds.jsonl -m model.gguf -o exemplars.toml --shots 4 --templates 20
    """
    from lmsi_cli.engine.checks import skipped_error
    from lmsi_cli.stages.exemplars import make_exemplars
    from lmsi_cli.stages.pipeline import job_of

    _check_file(out, overwrite)
    model = settings.model or resolve(SampleConfig, tables.get("sample", {})).model
    settings = msgspec.structs.replace(settings, model=model)
    source, _ = files_of(seeds, model, "lmsi exemplars SEEDS -m MODEL -o FILE.toml")
    asked = _seeds(source, settings, exclude or [])
    with watched(quiet, None) as progress:
        job = job_of(settings.sampling(), asked, source, progress)
    run = RunDir(out.with_suffix(".run"))
    with locked(run), watched(quiet, run) as progress:
        made, drawn = make_exemplars(job, settings, out, run, progress, overwrite)
    show(made, json, exemplars_sheet(made, drawn))
    if drawn.skipped:
        raise skipped_error(len(drawn.skipped), drawn.questions)


def _check_file(out: Path, overwrite: bool) -> None:
    """Refuse a file name that is wrong or taken, before an hour of sampling."""
    if out.suffix != ".toml":
        raise LmsiError(f"{out}: a task file ends in .toml", hint=f"-o {out}.toml")
    if out.is_dir():
        raise LmsiError(f"{out}: is a folder", hint="name a file in it")
    if out.exists() and not overwrite:
        hint = "--overwrite replaces it; or give another -o"
        raise LmsiError(f"{out}: is already there", hint)


def _seeds(source: str, settings: ExemplarsConfig, exclude: Sequence[str]) -> list[Question]:
    """Read the seeds; refuse too few of them, and any that are reserved for measuring."""
    asked = read_questions(source)[: settings.limit or None]
    check_apart(asked, {file: read_questions(file) for file in exclude}, "show")
    if len(asked) < settings.needed:
        raise LmsiError(
            f"{source}: {len(asked)} seeds, and {settings.templates} templates of "
            f"{settings.shots} need {settings.needed}",
            hint="a seed is used once: give more of them, or lower --templates or --shots",
        )
    return asked


def exemplars_sheet(made: ExemplarsSummary, drawn: SampleSummary) -> Sheet:
    """What became of the seeds, and which file holds the exemplars."""
    left = ", ".join(f"{n} {reason}" for reason, n in made.left_out.items())
    rows = (
        ("seeds", f"{made.seeds}" + (f" ({left})" if left else "")),
        ("paths", f"{drawn.paths:,} ({drawn.new_paths:,} new)"),
        ("templates", f"{made.templates} of {made.shots} exemplars"),
        ("mean share of their winners", f"{made.share:.0%}"),
        ("written", made.file),
        ("to use it", f"--task {quote(made.file)} --prompt cot-few"),
    )
    return Sheet(title="exemplars", rows=rows)
