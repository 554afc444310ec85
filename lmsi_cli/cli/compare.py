"""`lmsi compare`: two evaluations on the same questions in, what changed between them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lmsi_cli.cli.session import Json, show
from lmsi_cli.errors import LmsiError

FirstPlace = Annotated[Path, typer.Argument(help="A run folder, or a file of its eval/.")]
SecondPlace = Annotated[Path, typer.Argument(help="Another; if the same: its base and adapter.")]
DataName = Annotated[str, typer.Option(help="Name of the data set, where a folder has several.")]
LineName = Annotated[
    str, typer.Option(help="Line whose flips to show; by default the one that decides.")
]
Shown = Annotated[
    Literal["flips"] | None,
    typer.Option(
        "--show", help="Show the texts of the questions that flipped.", envvar="LMSI_COMPARE_SHOW"
    ),
]
Distilled = Annotated[
    bool,
    typer.Option(
        "--distilled", help="B is a student of A: compare both before and after training."
    ),
]
Own = Annotated[
    Path | None,
    typer.Option(help="With --distilled: a run in which B's model learned from its own votes."),
]


def compare(  # noqa: PLR0913 - one parameter per flag
    a: FirstPlace,
    b: SecondPlace,
    data: DataName = "",
    line: LineName = "",
    shown: Shown = None,
    distilled: Distilled = False,
    own: Own = None,
    json: Json = False,
) -> None:
    """Compare two evaluations on the questions they share: settings, changes, flipped questions.

    Example: lmsi compare runs/first runs/second --data test --show flips
    """
    from lmsi_cli.reporting.distillation import distillation_section
    from lmsi_cli.reporting.pairwise import flip_texts, opposed_section
    from lmsi_cli.stages import compare as stage

    if distilled and shown:
        raise LmsiError("--distilled has no flips to show", hint="leave --show out")
    if distilled:
        table = stage.distilled(a, b, data, line, own)
        show(table, json, distillation_section(table))
        return
    if own:
        raise LmsiError("--own belongs to --distilled", hint="give both, or leave it out")
    result = stage.compare(a, b, data, line)
    more = "--show flips shows their texts" if result.flips else ""
    texts = flip_texts(result) if shown == "flips" else [more]
    show(result, json, opposed_section(result), *filter(None, texts))
