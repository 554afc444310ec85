"""`lmsi export`: a run's adapter in, the form that another program takes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmsi_cli.cli.asking import task_of
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Overwrite,
    Quiet,
    RunFolder,
    chosen_round,
    model_of,
    show,
    watched,
)
from lmsi_cli.config import ExportConfig

Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="The folder to write.", show_default="RUN/export/FORM"),
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
    quiet: Quiet = False,
    number: Number = None,
) -> None:
    """Write the adapter alone, or merged into its base, with a model card and a check.

    Of a run of several rounds that is the adapter of the round that is kept.

    Example: lmsi export runs/first --to gguf --type Q8_0
    """
    from lmsi_cli.report.exports import export_table
    from lmsi_cli.rundir import locked, opened
    from lmsi_cli.stages.export import export_run

    folder = chosen_round(opened(run), number)
    model, task = model_of(folder).path, task_of(folder)
    with locked(folder), watched(quiet, folder) as progress:
        result = export_run(folder, model, task, settings, progress, out, overwrite)
    show(result, json, export_table(result))
