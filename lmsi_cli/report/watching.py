"""What `lmsi watch` shows of a run folder, as Rich renderables.

Knows words and widths; where the facts come from is in ``stages/watch.py``. The first line of a
running one:

    sampling  1280/6400  20.0%  1,420 tokens/s  parsed 96%  612 MiB  left 3:59
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lmsi_cli.records import Status
from lmsi_cli.report.moments import figures_line
from lmsi_cli.report.printable import printable
from lmsi_cli.report.tables import facts

if TYPE_CHECKING:
    from lmsi_cli.stages.watch import Scene

STALE = 30.0  # seconds without a report after which its age is told


def scene_parts(scene: Scene, now: float) -> list[Table | Text]:
    """The stages, and what the last command does or how it ended.

    Args:
        scene: What was seen.
        now: Seconds since 1970.
    """
    rows = [(stage.name, printable(stage.there or "-")) for stage in scene.stages]
    lines = [] if scene.status is None else _told(scene.status, scene.working, now)
    return [facts(scene.folder, rows), *(Text(printable(line)) for line in lines)]


def _told(status: Status, working: bool, now: float) -> list[str]:
    head = f"lmsi {status.command}"
    if status.ended is not None:
        return [*status.said, f"{head}: {status.ended}"]
    if not working:
        return [*status.said, f"{head}: killed; the same command goes on"]
    return [head, *status.said, _moment(status, now)]


def _moment(status: Status, now: float) -> str:
    total = f"/{status.total}  {status.done / status.total:.1%}" if status.total else ""
    rest = figures_line(status.figures, status.memory, status.left)
    age = now - status.updated
    old = f"  (reported {age:.0f} s ago)" if age > STALE else ""
    return f"{status.phase}  {status.done}{total}  {rest}{old}"
