"""`lmsi tasks`: which tasks there are, and one of them as it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsi_cli.cli.session import Json, show

app = typer.Typer(invoke_without_command=True)
Name = Annotated[
    str,
    typer.Argument(help="A name from the list, or the path of a .toml file.", show_default=False),
]


@app.callback()
def tasks(context: typer.Context, json: Json = False) -> None:
    """Show the tasks that come with lmsi, or check one of your own.

    Example: lmsi tasks
    """
    if context.invoked_subcommand is None:
        _list(json)


@app.command("show")
def show_(name: Name, json: Json = False) -> None:
    """Check a task and print its file: a pattern for one of your own.

    Example: lmsi tasks show gsm8k
    """
    from lmsi_cli.tasks.loader import find_task, load_task

    task = load_task(name)
    show(task, json, find_task(name).read_text(encoding="utf-8").rstrip())


def _list(as_json: bool) -> None:
    from lmsi_cli.cli.tables import tasks_sheet
    from lmsi_cli.tasks.loader import summaries

    found = summaries()
    show(list(found), as_json, tasks_sheet(found))
