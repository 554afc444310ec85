"""Names that a shell completes: models, tasks and run folders, as far as they begin as typed.

Typer writes the shells' scripts (`lmsi --install-completion`) and asks here. Where nothing is
found, the shell goes on with its own files.

    run_folders("runs/f") == ["runs/first", "runs/fourth"]
"""

from __future__ import annotations

from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path


def models(incomplete: str) -> list[str]:
    """Those that come with lmsi, those of other programs, and GGUF files of this folder."""
    from lmsi_cli.catalog import at_hand, cards
    from lmsi_cli.hub import is_model

    here = (file.name for file in Path().glob("*.gguf"))
    names = [*cards(), *(found.name for found in at_hand()), *filter(is_model, here)]
    return _beginning(incomplete, names)


def tasks(incomplete: str) -> list[str]:
    """Those that come with lmsi."""
    from lmsi_cli.tasks.loader import summaries

    return _beginning(incomplete, (task.name for task in summaries()))


def run_folders(incomplete: str) -> list[str]:
    """Those here and one folder below."""
    start = escape(incomplete)
    found = [
        file
        for depth in ("", "*/")
        for file in glob(f"{start}*/{depth}run.toml")  # noqa: PTH207 - a Path would lose a leading ./
    ]
    return sorted(file.removesuffix("/run.toml") for file in found)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
