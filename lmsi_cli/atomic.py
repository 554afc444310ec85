"""Files and folders that come to their place whole or not at all.

Knows bytes and names; nothing of what is in a file. A file is written beside its place, brought
onto the disk, and renamed; so a killed process leaves the old one, and ``NAME.tmp`` at most:

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

# a full, failing or read-only disk, a missing right, too many open files
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
           errno.EMFILE, errno.ENFILE}  # fmt: skip

GOES_ON = "put this right and give the same command again: it goes on"
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # as some network folders have it


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file, atomically; text as UTF-8. On LmsiError an older file stays as it was."""
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file beside ``path``; once whole and on the disk, it takes its place.

    The folder is made if missing. LmsiError: the disk is full, or the place cannot be written to;
    an older file stays.
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
    """Say what the machine refuses, wherever it was met: a full disk has no file's name.

    An error that nobody but us can mend is raised as it is.
    """
    if e.errno not in REFUSED:
        raise e
    where = "" if e.filename is None else f"{os.fsdecode(e.filename)}: "
    return LmsiError(f"{where}{e.strerror}; what was written before stays", hint=GOES_ON)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """Give an empty folder that takes its place if all goes well, and is deleted if not.

    What a killed process left behind is deleted first. LmsiError: the disk is full, the place
    cannot be written to, or another process does it now.
    """
    import filelock

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
        if old.exists() and not place.exists():  # between the two renames
            old.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink()
        lock.release()


def acquired(file: Path) -> filelock.BaseFileLock:
    """Lock by the kernel, or where the file system cannot by a file that names its holder.

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


def check_place(place: Path, own: str, overwrite: bool) -> None:
    """Refuse to replace a folder unasked, and one that lmsi did not make at all.

    ``own`` is a file that every folder of this kind has; ``overwrite`` lets one of them be
    replaced.
    """
    if not place.exists():
        return
    ours = (place / own).is_file()
    if overwrite and ours:
        return
    other = "choose another --out"
    hint = f"replace it with --overwrite, or {other}" if ours else other
    raise LmsiError(f"{place}: is there already{'' if ours else ', and no export'}", hint=hint)


def check_room(place: Path, need: int, hint: str) -> None:
    """Refuse before the work where the disk of a folder has less than ``need`` bytes."""
    free = shutil.disk_usage(place).free
    if free < need:
        raise LmsiError(f"{place.parent}: {free >> 20:,} MiB free, {need >> 20:,} MiB needed", hint)


def cache_folder() -> Path:
    """Where lmsi keeps what it can make again; ``LMSI_CACHE`` moves it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LMSI_CACHE") or Path(home) / "lmsi")
