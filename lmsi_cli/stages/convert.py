"""A run's paths from one format to the other, compared record by record before anything goes.

Knows the two formats of a run's paths; the records stay as they are, in their order. Interrupted at
any point, the same call goes on. What comes out:

    Converted(form="parquet", paths=6400, kept="runs/a/paths.jsonl.old")
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from lmsi_cli.errors import LmsiError
from lmsi_cli.folders import replacing_folder
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.records import Path as Sampled
from lmsi_cli.records import Record
from lmsi_cli.rundir import RunDir
from lmsi_cli.store import Form, Shards, shard_appender

OLD = ".old"


class Converted(Record, frozen=True, kw_only=True):
    """What was done; ``kept`` is where the former file or folder lies, None if it was deleted."""

    form: Form
    paths: int
    kept: str | None


def convert(run: RunDir, form: Form, remove: bool = False) -> Converted:
    """Turn a run's paths into another format.

    Args:
        run: Held by the caller (``locked``).
        form: The wanted format.
        remove: Delete the former file or folder, once every record was found in the new one.

    Raises:
        LmsiError: There are no paths, they have this format, or a former one is in the way. The
            two differ after the writing; nothing is deleted then.
    """
    place = {"jsonl": run.paths, "parquet": run.shards}
    former = run.shards if form == "jsonl" else run.paths
    if not _holds(run, _other(form)):
        raise _nothing(run, form)
    old = former.with_name(former.name + OLD)
    if old.exists() and not remove:
        raise LmsiError(f"{old}: is there already", hint="move it away, or give --remove-old")
    if not _holds(run, form):
        _write(run, form)
    count = _compare(run, place[form], former)
    if remove:
        _delete(former)
    else:
        former.rename(old)
    return Converted(form=form, paths=count, kept=None if remove else str(old))


def _other(form: Form) -> Form:
    return "jsonl" if form == "parquet" else "parquet"


def _holds(run: RunDir, form: Form) -> bool:
    if form == "parquet":
        return run.sampled.shards.exists()
    return run.paths.exists() and run.paths.stat().st_size > 0


def _read(run: RunDir, form: Form) -> Iterator[Sampled]:
    return run.sampled.shards.read() if form == "parquet" else read_records(run.paths, Sampled)


def _write(run: RunDir, form: Form) -> None:
    """Write the other format whole, then put it in its place."""
    records = _read(run, _other(form))
    if form == "jsonl":
        write_records(run.paths, records)
        return
    _clear(run.shards)
    with (
        replacing_folder(run.shards) as folder,
        shard_appender(Shards(folder, Sampled)) as shards,
    ):
        for record in records:
            shards.write(record)


def _clear(folder: Path) -> None:
    """Make way for a new folder; LmsiError if there is anything in it."""
    try:
        if folder.exists():
            folder.rmdir()
    except OSError:
        raise LmsiError(
            f"{folder}: holds files that lmsi did not write", hint="move them away"
        ) from None


def _compare(run: RunDir, new: Path, former: Path) -> int:
    """Count the records, all of which must be the same in both; LmsiError at the first other."""
    count = 0
    for one, other in zip_longest(_read(run, "parquet"), _read(run, "jsonl")):
        if one != other:
            raise LmsiError(
                f"{new} and {former}: record {count + 1} differs; nothing was deleted",
                hint=f"move {new} away and convert again",
            )
        count += 1
    return count


def _delete(place: Path) -> None:
    try:
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
    except OSError as e:
        raise LmsiError(f"{place}: cannot be deleted: {e.strerror}") from e


def _nothing(run: RunDir, form: Form) -> LmsiError:
    if _holds(run, form):
        return LmsiError(f"{run.root}: its paths are {form} already", hint="nothing to do")
    return LmsiError(f"{run.root}: holds no paths", hint="run `lmsi sample` first")
