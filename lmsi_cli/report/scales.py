"""The sweep over adapter scales as a table for the terminal; computes nothing.

adapter scale
0.5     51.2% answers as the vote's
1       55.0% answers as the vote's
chosen  1: no scale is better than 1 beyond chance
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lmsi_cli.report.tables import facts, percent

if TYPE_CHECKING:  # as in tables.py
    from lmsi_cli.stages.scales import Sweep

AGAINST = {"labels": "right answers", "vote": "answers as the vote's", "nothing": ""}


def scales_table(sweep: Sweep) -> Table:
    """One scale a line, then which one was chosen, why, and what that cost."""
    lines = [
        (f"{t.scale:g}", f"{percent(t.agreement)} {AGAINST[sweep.marks]}") for t in sweep.tried
    ]
    lines.append(("chosen", f"{sweep.chosen:g}: {sweep.why}"))
    if sweep.tried:
        told = f"{sweep.answers} answers to {sweep.questions} questions, {sweep.seconds:.0f} s"
        lines.append(("cost", told))
    return facts("adapter scale", lines)
