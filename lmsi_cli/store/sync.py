r"""A folder of this machine and a folder of a store, kept alike.

Knows files, and what both sides had when they were last alike; nothing of what a file means. A file
is moved whole: stores can neither append nor rename. What changed on one side goes to the other;
where both changed, the store's counts, and ours is kept aside (``.unsent``). What is known lies
beside the copy:

    {"owner": "5f0c...", "files": {"run.toml": {"local": [512, 1763740000123], "remote": "\"e3\""}}}
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import unfinished, write_atomic, write_error
from lmsi_cli.store.lease import NAME as LEASE
from lmsi_cli.store.places import OBJECTS, Place, told
from lmsi_cli.store.shards import ASIDE

WHOLE = {".parquet", ".toml", ".json"}  # never seen half written: safe to send in the middle


class Known(msgspec.Struct):
    """A file when both sides were alike: bytes and time of change here, the store's mark there."""

    local: tuple[int, int]
    remote: str


class Memory(msgspec.Struct):
    """What a copy remembers between commands."""

    owner: str
    files: dict[str, Known] = {}


class Mirror:
    """A folder here and its counterpart in a store.

    ``own`` are names of files that concern this machine alone.
    """

    def __init__(self, fs: Any, place: Place, own: set[str]) -> None:  # noqa: ANN401 - of fsspec
        self._fs, self._place, self._own = fs, place, own
        self._file = place.work / "store.json"
        self._memory = self._remembered()

    @property
    def owner(self) -> str:
        """Names this copy among all others of the folder."""
        return self._memory.owner

    def pull(self) -> int:
        """Take what the store has and we have not.

        Returns:
            How many files the store has.

        Raises:
            LmsiError: The store refuses, or the disk has no room.
        """
        with told(self._place, "cannot be read"):
            there = self._listed()
            known = self._memory.files
            new = [n for n in there if n not in known or known[n].remote != _mark(there[n])]
            self._check_room(sum(int(there[n]["size"]) for n in new))
            for name in new:
                self._take(name, there[name])
            for name in [n for n in known if n not in there]:
                self._forget(name)
        self._remember()
        return len(there)

    def push(self, may: Callable[[str], bool] = lambda _: True) -> None:
        """Give the store what has changed here; new files first, then what is gone.

        Args:
            may: Which files may be sent now.

        Raises:
            LmsiError: The store refuses; what was sent before stays there.
        """
        with told(self._place, "cannot be written"):
            here = {n: p for n, p in self.here() if may(n)}
            for name, path in sorted(here.items()):
                stamp = _stamp(path)
                if name not in self._memory.files or self._memory.files[name].local != stamp:
                    self._send(name, path, stamp)
            gone = [n for n in self._memory.files if may(n) and not (self._copy / n).exists()]
            for name in gone:
                self._fs.rm_file(self._at(name))
                del self._memory.files[name]
                self._remember()

    @property
    def _copy(self) -> Path:
        return self._place.copy

    def _at(self, name: str) -> str:
        return f"{self._place.url}/{name}"

    def here(self) -> Iterator[tuple[str, Path]]:
        """Files of the copy that the store should have, by their names below the folder."""
        for path in self._copy.rglob("*"):
            name = path.relative_to(self._copy).as_posix()
            if path.is_file() and path.name not in self._own and path.suffix not in (".tmp", ASIDE):
                yield name, path

    def _listed(self) -> dict[str, dict[str, Any]]:
        """Files of the store by their names below the folder."""
        base = self._fs._strip_protocol(self._place.url).rstrip("/") + "/"
        try:
            found = self._fs.find(self._place.url, detail=True)
        except FileNotFoundError:
            return {}
        names = {path.removeprefix(base): info for path, info in found.items() if base in path}
        return {n: i for n, i in names.items() if n and not n.startswith(LEASE) and _harmless(n)}

    def _take(self, name: str, info: dict[str, Any]) -> None:
        path = self._copy / name
        known = self._memory.files.get(name)
        if path.exists() and (known is None or known.local != _stamp(path)):
            path.replace(path.with_name(path.name + ASIDE))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise write_error(path, e) from e
        self._fs.get_file(self._at(name), str(unfinished(path)))
        unfinished(path).replace(path)
        self._memory.files[name] = Known(local=_stamp(path), remote=_mark(info))
        self._remember()

    def _forget(self, name: str) -> None:
        """Let go of a file that is gone from the store, unless it was changed here since."""
        path, known = self._copy / name, self._memory.files.pop(name)
        if path.exists() and _stamp(path) == known.local:
            path.unlink()

    def _send(self, name: str, path: Path, stamp: tuple[int, int]) -> None:
        if self._place.protocol in OBJECTS:
            self._fs.put_file(str(path), self._at(name))
        else:  # a server's disk, where a file is seen while it grows
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(path), self._at(name) + ".tmp")
            self._fs.mv(self._at(name) + ".tmp", self._at(name))
        mark = _mark(self._fs.info(self._at(name)))
        self._memory.files[name] = Known(local=stamp, remote=mark)
        self._remember()

    def _check_room(self, need: int) -> None:
        self._copy.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._copy).free
        if need > free:
            raise LmsiError(
                f"{self._copy}: {free >> 20:,} MiB free; {self._place.url} needs "
                f"{need >> 20:,} MiB on this machine",
                hint="free some space, or let LMSI_WORK name a folder on a larger disk",
            )

    def _remembered(self) -> Memory:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory(owner=secrets.token_hex(8))
        except (OSError, msgspec.MsgspecError) as e:
            raise LmsiError(
                f"{self._file}: cannot be read: {e}", hint="move it away: files are compared anew"
            ) from None

    def _remember(self) -> None:
        write_atomic(self._file, msgspec.json.encode(self._memory))


def sendable(name: str) -> bool:
    """Whether a file may be sent while a command still works: those that are written at once."""
    return PurePosixPath(name).suffix in WHOLE


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _mark(info: dict[str, Any]) -> str:
    """What tells one version of an object from the next."""
    for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created"):
        if info.get(name):
            return f"{info[name]}"
    return f"{info['size']}"


def _harmless(name: str) -> bool:
    """Whether a name stays below its folder; others are not ours."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.suffix != ".tmp"
