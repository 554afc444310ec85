"""`lmsi convert`: a run's paths from JSON lines to Parquet shards, or back."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from lmsi_cli.cli.session import Json, RunFolder
from lmsi_cli.cli.session import show as print_

Form = Annotated[
    Literal["jsonl", "parquet"], typer.Option("--to", help="The format.", show_default=False)
]
Remove = Annotated[
    bool, typer.Option("--remove-old", help="Delete the former one, once both were compared.")
]


def convert(run: RunFolder, to: Form, remove_old: Remove = False, json: Json = False) -> None:
    """Turn a run's paths into another format; the former one is kept beside it.

    Example: lmsi convert runs/first --to parquet
    """
    from lmsi_cli.rundir import locked, opened
    from lmsi_cli.stages import convert as stage

    folder = opened(run)
    with locked(folder):
        done = stage.convert(folder, to, remove_old)
    if json:
        print_(done, json)
        return
    kept = f"; the former ones are in {done.kept}" if done.kept else ""
    sys.stdout.write(f"{done.paths:,} paths as {done.form}{kept}\n")
