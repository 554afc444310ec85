"""A JSONL file read in the order of a key, in memory that does not grow with the file.

Knows records and their places in a file; nothing of what they mean. Paths stand in the order of
finishing, so those of a question are scattered. One pass notes where each line begins, in a
temporary SQLite database on disk (the standard library's, 30 bytes a line), and from then on single
records are read from their places:

    with Indexed(run.paths, Path, key=lambda p: (p.question_id, p.path), what="path") as paths:
        for question_id, group in paths:        # ("q1", [Path(path=0, ...), Path(path=1, ...)])
            ...
        paths.get("q7")                         # [Path(question_id="q7", ...), ...]
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Generic, Self, TypeVar

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_placed
from lmsi_cli.records import Record

R = TypeVar("R", bound=Record)
Key = tuple[str, int]

# An empty name is a file that SQLite deletes; it spills there once its cache is full.
_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8000;
CREATE TABLE place (key TEXT, number INTEGER, start INTEGER, PRIMARY KEY (key, number))
WITHOUT ROWID;
"""


class Placed(Generic[R]):
    """Single lines of a file by where they begin."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self._decoder = path, msgspec.json.Decoder(kind)
        self._file: BinaryIO = path.open("rb")

    def read(self, start: int) -> R:
        """Read the record at a place; LmsiError if it is not one any more."""
        self._file.seek(start)
        try:
            return self._decoder.decode(self._file.readline())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise LmsiError(
                f"{self.path}: was changed while it was read", hint="give the command again"
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Indexed(Generic[R]):
    """The records of a file by key: groups in the order of their keys, then of their numbers.

    ``most`` is the largest number, -1 without records.
    """

    def __init__(
        self,
        path: Path,
        kind: type[R],
        key: Callable[[R], Key],
        what: str,
        read: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read the file once.

        Args:
            path: A JSONL file; a torn last line is left out.
            kind: What its lines are.
            key: A record's group, and its number there.
            what: What a record is called in a message.
            read: Is told after each MiB how many have been read.

        Raises:
            LmsiError: The file is missing, a line is not a ``kind``, or two have one key.
        """
        self.path, self.most = path, -1
        self._kind, self._key, self._told = kind, key, read
        self._last: Key = ("", 0)
        self._places = sqlite3.connect("")
        self._places.executescript(_TABLE)
        try:
            rows = self._rows(kind)
            self._places.executemany("INSERT INTO place VALUES (?, ?, ?)", rows)
            self._lines = Placed(path, kind)
        except sqlite3.IntegrityError:
            self._places.close()
            raise self._twice(what) from None
        except BaseException as e:
            self._places.close()
            if isinstance(e, sqlite3.Error):
                raise LmsiError(
                    f"{path}: cannot be sorted: {e}", hint="is the disk of TMPDIR full?"
                ) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and delete the notes."""
        self._lines.close()
        self._places.close()

    def __iter__(self) -> Iterator[tuple[str, list[R]]]:
        for key, starts in self._groups():
            yield key, [self._lines.read(start) for start in starts]

    def _groups(self) -> Iterator[tuple[str, list[int]]]:
        rows = self._places.execute("SELECT key, start FROM place ORDER BY key, number")
        for key, group in groupby(rows, key=itemgetter(0)):
            yield key, [start for _, start in group]

    def __len__(self) -> int:
        return int(self._places.execute("SELECT COUNT(DISTINCT key) FROM place").fetchone()[0])

    def get(self, key: str) -> list[R]:
        """Read one group; empty if there is none of that key."""
        rows = self._places.execute("SELECT start FROM place WHERE key = ? ORDER BY number", (key,))
        return [self._lines.read(start) for (start,) in rows.fetchall()]

    def _rows(self, kind: type[R]) -> Iterator[tuple[str, int, int]]:
        mib = 0
        for start, record in read_placed(self.path, kind):
            self._last = key, number = self._key(record)
            self.most = max(self.most, number)
            if start >> 20 > mib:
                self._told(mib := start >> 20)
            yield key, number, start

    def _twice(self, what: str) -> LmsiError:
        key, number = self._last
        return LmsiError(
            f"{self.path}: {what.format(key=key, number=number)} is there twice",
            hint="delete one of the two lines",
        )
