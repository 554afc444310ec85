"""`lmsi doctor`: what this machine can do, and what to do about each problem."""

from __future__ import annotations

import typer

from lmsi_cli.cli.console import out
from lmsi_cli.cli.session import Json, show


def doctor(json: Json = False) -> None:
    """Check this machine: versions, memory, llama.cpp, torch, GPU.

    Example: lmsi doctor
    """
    from lmsi_cli.cli.tables import doctor_sheet
    from lmsi_cli.stages.doctor import examine

    checks = examine()
    show(checks, json, doctor_sheet(checks))
    for check in checks:
        if check.command and not json:  # not in the table, which would break it to pieces
            out().print(f"\n{check.command}", markup=False, emoji=False, soft_wrap=True)
    if any(c.fatal for c in checks):
        raise typer.Exit(1)
