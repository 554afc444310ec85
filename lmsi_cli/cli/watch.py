"""`lmsi watch`: see from another terminal how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.session import Json, RunFolder, show

if TYPE_CHECKING:
    from lmsi_cli.stages.watch import Scene

Look = Callable[[], "Scene"]
Once = Annotated[bool, typer.Option("--once", help="Look once; do not wait for the end.")]
EVERY = 2.0  # seconds, as often as a command reports
QUIET = 30.0  # seconds between looks where stdout is no terminal: each is printed below the last


def watch(run: RunFolder, once: Once = False, json: Json = False) -> None:
    """Show a running or finished run; reads only, so it disturbs nothing.

    Ends when the command that works in the folder ends. Ctrl-C ends the watching alone.

    Example: lmsi watch runs/first
    """
    from lmsi_cli.cli.tables import scene_parts
    from lmsi_cli.run_folder import open_run
    from lmsi_cli.stages.watch import scene

    folder = open_run(run)
    seen = scene(folder)
    if seen.working and not once and not json:
        seen = _follow(seen, lambda: scene(open_run(run)))
    show(seen, json, *scene_parts(seen, time.time()))


def _follow(seen: Scene, look: Look) -> Scene:
    """Redraw until the work ends; return what is left to be shown."""
    from rich.console import Group
    from rich.live import Live

    from lmsi_cli.cli.console import out
    from lmsi_cli.cli.tables import scene_parts
    from lmsi_cli.report.text import rendered

    fancy = sys.stdout.isatty()
    with Live(console=out(), auto_refresh=False, transient=True) as live:
        while seen.working:
            parts = Group(*rendered(*scene_parts(seen, time.time())))
            if fancy:
                live.update(parts, refresh=True)
            else:
                out().print(parts)
            time.sleep(EVERY if fancy else QUIET)
            seen = look()
    return seen
