"""`lmsi export`: a run's adapter or its records in, the form that another program takes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Overwrite,
    RunFolder,
    chosen_round,
    show,
    watched,
)
from lmsi_cli.config import ExportConfig
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import task_of

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
        min=1,
        help="Of several rounds, which one.",
        show_default="the one that is kept",
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

    Of a run of several rounds that is the adapter of the round that is kept. With --to parquet
    the sampled paths, the votes and the training examples are written instead.

    Example: lmsi export runs/first --to gguf --type Q8_0
    """
    from lmsi_cli.cli.tables import export_sheet
    from lmsi_cli.run_folder import locked, open_run
    from lmsi_cli.stages.export import export_run
    from lmsi_cli.stages.pipeline import model_of

    if settings.to == "parquet":
        _export_parquet(open_run(run), number, out, overwrite, json)
        return
    folder = chosen_round(open_run(run), number)
    model, task = model_of(folder).path, task_of(folder)
    with locked(folder), watched(quiet, folder) as progress:
        place = Path(out) if out else None
        result = export_run(folder, model, task, settings, progress, place, overwrite)
    show(result, json, export_sheet(result))


def _export_parquet(
    run: RunDir, number: int | None, out: str | None, overwrite: bool, json: bool
) -> None:
    """Write the records of a run, or of one of its later rounds; needs no model."""
    from lmsi_cli.cli.tables import parquet_sheet
    from lmsi_cli.parquet import export_parquet
    from lmsi_cli.run_folder import locked

    folder = chosen_round(run, number or 1)
    with locked(folder):
        place = out or str(folder.root / "export" / "parquet")
        result = export_parquet(folder, place, overwrite)
    show(result, json, parquet_sheet(result))
