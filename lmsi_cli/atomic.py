"""Files and folders that appear in their place whole or not at all.

Knows bytes and names; nothing of what is in a file. A file is written beside its place, synced to
disk and renamed, so a killed process leaves the old file, and at most a ``NAME.tmp``:

    write_atomic(Path("runs/a/vote.json"), '{"paths": 64}')
    with replacing_folder(Path("runs/a/export/hf")) as fresh:   # runs/a/export/.hf.unfinished
        ...
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import filelock

# a full, failing or read-only disk, a missing permission, too many open files, a name too long
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
           errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG}  # fmt: skip

GOES_ON = "put this right and give the same command again: it goes on"
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # some network folders have no locks


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file, atomically; text as UTF-8. On LmsiError an older file stays as it was."""
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of ``path`` once it is whole and on the disk.

    The folder is created if missing. LmsiError: the disk is full, or the place cannot be written
    to; an older file stays.
    """
    tmp = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp.unlink(missing_ok=True)  # it may be a link to somewhere else
        with tmp.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except BaseException as e:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise write_error(path, e) from e
        raise


def unfinished(path: Path) -> Path:
    """Name of the unfinished file; fixed, so that a killed writer leaves one at most."""
    return path.with_name(path.name + ".tmp")


def write_error(path: Path, e: OSError) -> LmsiError:
    """Say which file could not be written, and that nothing is lost."""
    message = f"{path}: cannot be written: {e.strerror}; what was written before stays"
    return LmsiError(message, hint=GOES_ON)


def refusal(e: OSError) -> LmsiError:
    """Turn an error that the user can fix into an LmsiError, which names the file if it is known.

    Any other error is a bug and is raised as it is.
    """
    if e.errno not in REFUSED:
        raise e
    where = "" if e.filename is None else f"{os.fsdecode(e.filename)}: "
    return LmsiError(f"{where}{e.strerror}; what was written before stays", hint=GOES_ON)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``place`` if all goes well, and is deleted if not.

    Leftovers of a killed process are deleted first. LmsiError: the disk is full, the place cannot
    be written to, or another process is writing it.
    """
    import filelock

    place = place.absolute()  # "." has no name to put a temporary one beside
    fresh, old = (place.with_name(f".{place.name}.{x}") for x in ("unfinished", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = acquired(place.with_name(f".{place.name}.lock"))
    except filelock.Timeout:
        message = f"{place}: another process is writing it"
        raise LmsiError(message, hint="wait for it, or choose another --out") from None
    except OSError as e:
        raise write_error(place, e) from e
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        yield fresh
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    except OSError as e:
        raise write_error(place, e) from e
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not place.exists():  # it failed between the renames
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink()
        lock.release()


def acquired(file: Path) -> filelock.BaseFileLock:
    """Take a kernel lock or, where the file system has none, a lock file that names its holder.

    filelock.Timeout: another process holds it. OSError: the file cannot be made.
    """
    import filelock

    lock: filelock.BaseFileLock = filelock.FileLock(file, timeout=0)
    try:
        lock.acquire()
    except OSError as e:
        if e.errno not in NO_LOCKS:
            raise
        lock = filelock.SoftFileLock(file.with_suffix(".held"), timeout=0)
        lock.acquire()
    return lock


def check_room(place: Path, need: int, hint: str) -> None:
    """Refuse early if the disk of a folder has less than ``need`` bytes free."""
    free = shutil.disk_usage(place).free
    if free < need:
        raise LmsiError(f"{place.parent}: {free >> 20:,} MiB free, {need >> 20:,} MiB needed", hint)


def cache_folder() -> Path:
    """The folder of files that lmsi can recreate; ``LMSI_CACHE`` moves it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LMSI_CACHE") or Path(home) / "lmsi")
