"""An export as a table for the terminal; computes nothing.

export
    folder                  runs/first/export/gguf-Q8_0
    tinymath-lmsi-Q8_0.gguf 26.2 MiB
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lmsi_cli.report.tables import facts

if TYPE_CHECKING:  # as in tables.py
    from lmsi_cli.parquet import Exported
    from lmsi_cli.stages.export import Export


def export_table(e: Export) -> Table:
    """Where it is, the files with their sizes, the checks, and what is to be known."""
    rows = [("folder", e.folder), ("adapter scale", f"{e.scale:g}")]
    rows += [(name, _size(size)) for name, size in e.files.items()]
    rows += [(name, f"{apart:.2%}") for name, apart in e.checks.items()]
    rows += [("note", remark) for remark in e.remarks]
    return facts("export", rows)


def parquet_table(e: Exported) -> Table:
    """Where the files are, and how many rows each has."""
    rows = [("folder", e.address), *((name, f"{n:,} rows") for name, n in e.rows.items())]
    return facts("export", rows)


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**17 else f"{size / 2**10:.1f} KiB"
