"""The folder that a Ray of our own lives in: held while its driver lives, cleared away after it.

Knows files and locks; nothing of Ray. A driver that was killed cannot clear up, so whoever makes
the next folder removes those that nobody holds:

    with scratch() as folder: ...      # /tmp/lmsi-ray-x1y2z3/, with the lock that says whose it is
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from lmsi_cli.errors import LmsiError

PREFIX, LOCK = "lmsi-ray-", "lmsi.lock"
SHORT, SHORT_PLACE = 24, "/tmp"  # Ray's sockets lie deep below, and may have 107 characters
FORGOTTEN = 86_400  # seconds after which a folder without a lock belongs to nobody


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder and remove it at the end, with those that killed drivers have left.

    Raises:
        LmsiError: None can be made.
    """
    place = _place()
    sweep(place)
    folder, lock = _made(place)
    try:
        yield folder
    finally:
        _remove(folder)
        lock.release()


def clear(folder: Path) -> None:
    """Empty a folder but for its lock, so that it can be swept if something comes after this."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a folder; the lock goes last, for whoever is cut short here."""
    clear(folder)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove the folders of this user that no living process holds."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or just removed by another
            if _abandoned(folder):
                _remove(folder)


def _abandoned(folder: Path) -> bool:
    """Whether a folder is ours and nobody holds it; leaves those alone that nobody can tell of."""
    if folder.is_symlink() or not folder.is_dir() or not _own(folder):
        return False
    lock = folder / LOCK
    if not lock.exists():  # it is just being made; or an older version's
        return time.time() - folder.stat().st_mtime > FORGOTTEN
    with suppress(filelock.Timeout), filelock.FileLock(lock, timeout=0):
        return True
    return False


def _own(folder: Path) -> bool:
    return sys.platform == "win32" or folder.stat().st_uid == os.getuid()


def _place() -> Path:
    """Where temporary files lie, unless that is too long a name for Ray's sockets."""
    try:
        usual = Path(tempfile.gettempdir())
    except OSError as e:
        raise _nowhere(e) from e
    short = Path(SHORT_PLACE)
    return short if len(str(usual)) > SHORT and short.is_dir() else usual


def _made(place: Path) -> tuple[Path, filelock.BaseFileLock]:
    """A folder that is held; another one if someone swept it away before it was."""
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as e:
            raise _nowhere(e) from e
        lock = filelock.FileLock(folder / LOCK)
        with suppress(FileNotFoundError):
            lock.acquire()
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()


def _nowhere(e: OSError) -> LmsiError:
    message = f"--cluster local: no folder for Ray: {e.strerror or e}: {e.filename or ''}"
    return LmsiError(message.rstrip(": "), hint="set TMPDIR to a folder with room")
