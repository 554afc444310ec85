"""A JSONL file read in the order of a key, in memory that does not grow with the file.

Knows records and their places in a file; nothing of what they mean. Paths are written in the order
in which they finish, so a question's paths are scattered. One pass stores where each line begins in
a temporary SQLite database on disk (the standard library's, 30 bytes a line); after that, single
records are read from their places:

    key = lambda p: (p.question_id, p.path)
    with JsonlIndex(run.paths, Path, key, what="path {number} of {key!r}") as paths:
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
from typing import Generic, Self, TypeVar

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_placed
from lmsi_cli.records import UNREADABLE, Record

R = TypeVar("R", bound=Record)

# A database without a name is in a file that SQLite deletes, used once the cache is full.
_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8000;
CREATE TABLE place (key TEXT, number INTEGER, start INTEGER, PRIMARY KEY (key, number))
WITHOUT ROWID;
"""


class JsonlIndex(Generic[R]):
    """The records of a file by key: groups in the order of their keys, then of their numbers.

    ``largest`` is the largest number, -1 without records.
    """

    def __init__(
        self,
        path: Path,
        kind: type[R],
        key: Callable[[R], tuple[str, int]],
        what: str,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read the file once, except for a torn last line; ``progress`` gets the MiB read so far.

        ``key`` returns a record's group, and its number there; ``what`` is a record's name in
        messages, with ``{key}`` and ``{number}``. LmsiError: the file is missing, a line is not a
        ``kind``, or two have the same key.
        """
        self.path, self.largest = path, -1
        self._places = sqlite3.connect("")
        self._places.executescript(_TABLE)
        last, mib = ("", 0), 0

        def rows() -> Iterator[tuple[str, int, int]]:
            nonlocal last, mib
            for start, record in read_placed(path, kind):
                last = key(record)
                self.largest = max(self.largest, last[1])
                if start >> 20 > mib:
                    progress(mib := start >> 20)
                yield *last, start

        try:
            self._places.executemany("INSERT INTO place VALUES (?, ?, ?)", rows())
            self._file, self._decoder = path.open("rb"), msgspec.json.Decoder(kind)
        except sqlite3.IntegrityError:
            self._places.close()
            message = f"{path}: {what.format(key=last[0], number=last[1])} is there twice"
            raise LmsiError(message, hint="delete one of the two lines") from None
        except BaseException as e:
            self._places.close()
            if isinstance(e, OverflowError):
                message = f"{path}: {what.format(key=last[0], number=last[1])}: no such number"
                raise LmsiError(message, hint="delete that line") from None
            if isinstance(e, sqlite3.Error):  # the database has no room
                hint = "is the disk of TMPDIR full?"
                raise LmsiError(f"{path}: cannot be sorted: {e}", hint=hint) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and delete the index."""
        self._file.close()
        self._places.close()

    def __iter__(self) -> Iterator[tuple[str, list[R]]]:
        rows = self._places.execute("SELECT key, start FROM place ORDER BY key, number")
        for key, group in groupby(rows, key=itemgetter(0)):
            yield key, [self._read(start) for _, start in group]

    def __len__(self) -> int:
        return int(self._places.execute("SELECT COUNT(DISTINCT key) FROM place").fetchone()[0])

    def get(self, key: str) -> list[R]:
        """Read one group; empty if there is none of that key."""
        rows = self._places.execute("SELECT start FROM place WHERE key = ? ORDER BY number", (key,))
        return [self._read(start) for (start,) in rows.fetchall()]

    def _read(self, start: int) -> R:
        """Read the record at a place; LmsiError if there is no record any more."""
        self._file.seek(start)
        try:
            return self._decoder.decode(self._file.readline())
        except UNREADABLE:
            hint = "give the command again"
            raise LmsiError(f"{self.path}: was changed while it was read", hint) from None
