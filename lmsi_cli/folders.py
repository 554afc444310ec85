"""A folder that comes to its place whole or not at all.

Knows folders, not what is in them. While ``runs/a/export/hf`` is made, its files lie in
``runs/a/export/.hf.unfinished``; a process that is killed leaves that, and the next one removes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import write_error


def check_place(place: Path, own: str, overwrite: bool) -> None:
    """Refuse to replace a folder unasked, and one that is not ours at all.

    Args:
        place: Where a new folder shall come.
        own: A file that every folder of this kind has.
        overwrite: Whether a folder of this kind may be replaced.

    Raises:
        LmsiError: Something is in the way.
    """
    if not place.exists():
        return
    ours = (place / own).is_file()
    if overwrite and ours:
        return
    other = "choose another --out"
    hint = f"replace it with --overwrite, or {other}" if ours else other
    raise LmsiError(f"{place}: is there already{'' if ours else ', and no export'}", hint=hint)


def check_room(place: Path, need: int) -> None:
    """Ask for the room on the disk before the work.

    Args:
        place: An existing folder.
        need: Bytes.

    Raises:
        LmsiError: There is less.
    """
    free = shutil.disk_usage(place).free
    if free < need:
        raise LmsiError(
            f"{place.parent}: {free >> 20:,} MiB free, {need >> 20:,} MiB needed",
            hint="free some space, or choose another --out",
        )


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """An empty folder that takes its place if all goes well, and else is gone.

    Raises:
        LmsiError: The disk is full, or the place cannot be written to.
    """
    fresh, old = (place.with_name(f".{place.name}.{x}") for x in ("unfinished", "old"))
    try:
        _remove(fresh)
        fresh.mkdir(parents=True)
        yield fresh
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    except OSError as e:
        raise write_error(place, e) from e
    finally:
        _remove(fresh)
        if old.exists() and not place.exists():  # between the two renames
            old.rename(place)
        _remove(old)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
