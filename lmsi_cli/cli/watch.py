"""`lmsi watch`: see from another terminal how far a run is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live

from lmsi_cli.cli.console import out
from lmsi_cli.cli.session import Json, RunFolder, show
from lmsi_cli.formats import figures_line
from lmsi_cli.reporting.digest import Sheet, rendered
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.inspect import Scene

Once = Annotated[bool, typer.Option("--once", help="Look once; do not wait for the end.")]
STALE = 30.0  # seconds after which the age of the last report is shown
OFTEN = 2.0  # seconds between looks in a terminal, as often as a command reports
QUIET = 30.0  # seconds between looks outside a terminal: each is printed below the last


def watch(run: RunFolder, once: Once = False, json: Json = False) -> None:
    """Show a running or finished run; only reads, so it disturbs nothing.

    Watching ends when the command in the folder ends; Ctrl-C ends only the watching.

    Example: lmsi watch runs/first
    """
    from lmsi_cli.stages.inspect import scene

    folder, console = RunDir(run), out()
    seen = scene(folder)
    if seen.working and not (once or json):
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while seen.working:
                view = Group(*rendered(*scene_parts(seen, time.time())))
                if console.is_terminal:
                    live.update(view, refresh=True)
                else:
                    console.print(view)
                time.sleep(OFTEN if console.is_terminal else QUIET)
                seen = scene(folder)
    show(seen, json, *scene_parts(seen, time.time()))


def scene_parts(scene: Scene, now: float) -> list[Sheet | str]:
    """The stages of a run folder, and what the last command does or how it ended.

    ``now`` is in seconds since 1970.
    """
    rows = tuple((name, there or "-") for name, there in scene.stages.items())
    sheet, status = Sheet(title=scene.folder, rows=rows), scene.status
    if status is None:
        return [sheet]
    head = f"lmsi {status.command}"
    if status.ended is not None:
        return [sheet, *status.said, f"{head}: {status.ended}"]
    if not scene.working:
        return [sheet, *status.said, f"{head}: killed; the same command goes on"]
    total = f"/{status.total}  {status.done / status.total:.1%}" if status.total else ""
    rest = figures_line(status.figures, status.memory, status.left)
    age = now - status.updated
    old = f"  (reported {age:.0f} s ago)" if age > STALE else ""
    moment = f"{status.phase}  {status.done}{total}  {rest}{old}"
    return [sheet, head, *status.said, moment]
