"""What the commands share: common flags, the progress view, and the way results are shown.

Knows the command line; nothing of any particular command.

    with locked(run), watched(quiet, run) as progress: ...
    show(result, json, table)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lmsi_cli.catalog import find_model
from lmsi_cli.cli.console import Beacon, err, out
from lmsi_cli.cli.options import complete_runs
from lmsi_cli.errors import LmsiError
from lmsi_cli.hub import PREFIX
from lmsi_cli.records import Progress
from lmsi_cli.reporting.digest import Part, rendered
from lmsi_cli.run_folder import RunDir

RunFolder = Annotated[Path, typer.Argument(help="The run folder.", autocompletion=complete_runs)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard what is there already.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Questions for measuring, never trained on or shown to a model; may be repeated."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result to stdout as JSON.")]


@contextmanager
def watched(
    quiet: bool, run: RunDir | None, command: Sequence[str] | None = None
) -> Iterator[Progress]:
    """Show progress here and to `lmsi watch`; the view is closed whatever happens.

    Work without a run folder (``run`` is None) is not visible to `lmsi watch`. The command is
    recorded as it was typed, or as ``command`` says.
    """
    beacon = Beacon(quiet, run, sys.argv[1:] if command is None else command)
    ended = "interrupted"
    try:
        yield beacon
        ended = "done"
    except LmsiError as e:
        ended = str(e)
        raise
    finally:
        beacon.end(ended)


def files_of(given: str | None, model: str, usage: str) -> tuple[str, list[str]]:
    """The question file and the files to measure on; if none is given, the embedded model's own.

    LmsiError: the model has no questions of its own; ``usage`` is the hint.
    """
    if given is not None:
        return given, []
    if model.startswith(PREFIX) or (found := find_model(model)).card is None:
        raise LmsiError("no questions given", hint=usage)
    folder = found.path.parent
    return str(folder / found.card.questions), [str(folder / test) for test in found.card.tests]


def chosen_round(run: RunDir, number: int | None = None) -> RunDir:
    """The folder of a round; by default of the kept one, which is announced if it is not ``run``.

    LmsiError: there is no such round.
    """
    from lmsi_cli.rounds import kept_round

    if number is None:
        found = kept_round(run)
        if found.root != run.root:
            line = f"{found.root}: its adapter is taken, that of the round that is kept"
            err().print(line, markup=False)
        return found
    found = run.round(number)
    if run.root.is_dir() and not found.root.is_dir():
        hint = f"`lmsi report {run.typed}` lists them"
        raise LmsiError(f"{found.root}: no such round", hint)
    return found


def show(result: msgspec.Struct | list[Any] | dict[str, Any], as_json: bool, *parts: Part) -> None:
    """Print a result on stdout, as JSON or as tables and sentences."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(result, order="sorted").decode() + "\n")
        return
    for part in rendered(*parts):
        out().print(part)
