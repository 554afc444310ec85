"""`lmsi export`: a run's adapter or its records in, files for other programs out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, Overwrite, RunFolder, chosen_round, show, watched
from lmsi_cli.config import ExportConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import size
from lmsi_cli.parquet import export_parquet
from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.run_folder import RunDir, locked

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.export import Export

Out = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--out",
        help="The folder to write; for parquet also an address, as in s3://bucket/folder.",
        show_default="RUN/export/FORM",
    ),
]
Number = Annotated[
    int | None,
    typer.Option(
        "--round",
        envvar="LMSI_EXPORT_ROUND",
        min=1,
        help="Which of several rounds.",
        show_default="the one that is kept; with --to parquet, the first",
    ),
]


@configured(ExportConfig)
def export(  # noqa: PLR0913 - one parameter per flag
    run: RunFolder,
    settings: ExportConfig,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: bool = False,
    number: Number = None,
) -> None:
    """Write the adapter alone, or merged into its base, with a model card and a check.

    After several rounds it exports the kept round (with --to parquet, the first), unless --round
    names another. --to parquet writes paths, votes and training examples instead. Only an address
    in --out uploads anything.

    Example: lmsi export runs/first --to gguf --type Q8_0
    """
    from lmsi_cli.stages.asking import sampled, task_of
    from lmsi_cli.stages.export import export_run
    from lmsi_cli.stages.pipeline import model_of

    if settings.type and settings.to in ("adapter", "parquet"):
        raise LmsiError(f"--type {settings.type}: only merged weights have one", "add --to gguf")
    if settings.to == "parquet":  # records need no model
        folder = chosen_round(RunDir(run), number or 1)  # and every round has its own
        sampled(folder)  # refuses what is not a run folder, which the lock would make
        with locked(folder):
            address = out or str(folder.root / "export" / "parquet")
            records = export_parquet(folder, address, overwrite)
        files = [("folder", records.address)]
        files += [(name, f"{n:,} rows") for name, n in records.rows.items()]
        show(records, json, Sheet(title="export", rows=tuple(files)))
        return
    folder = chosen_round(RunDir(run), number)
    model, task = model_of(folder).path, task_of(folder)
    with locked(folder), watched(quiet, folder) as progress:
        place = Path(out) if out else None
        result = export_run(folder, model, task, settings, progress, place, overwrite)
    show(result, json, export_sheet(result))


def export_sheet(e: Export) -> Sheet:
    """The folder, the files with their sizes, the checks, and remarks."""
    rows = [("folder", e.folder)]
    rows += [(name, size(count)) for name, count in e.files.items()]
    rows += [(name, f"{apart:.2%}") for name, apart in e.checks.items()]
    rows += [("note", remark) for remark in e.remarks]
    if e.to == "adapter":
        rows.append(("to upload it", f"hf upload OWNER/NAME {shlex.quote(e.folder)}"))
    return Sheet(title="export", rows=tuple(rows))
