r"""Files of records, one JSON object a line: appended to, read, and written whole.

Knows JSON lines; nothing of what a file is for. Where a file grows while work goes on, each record
is one line in one write (``appender``), so that a killed writer loses nothing; other files are
written beside their place and then renamed (``write_records``, ``shuffled_writer``). ``JsonlIndex``
reads the records of a large file in the order of a key.

    with appender(run.paths, Path) as write:
        write(path)                    # {"logprob":-4.1,...,"text":" 84 / 2 = 42. ..."}\n
    read_records(run.paths, Path)      # yields Path(logprob=-4.1, ...), ...
"""

from __future__ import annotations

import math
import os
import random
import re
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Generic, Self, TypeVar

import msgspec

from lmsi_cli.atomic import replacing, write_atomic, write_error
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")

FSYNC_SECONDS = 1.0
LONGEST_LINE = 1 << 27  # bytes; a longer line cannot be a record


@contextmanager
def appender(path: Path, kind: type[R]) -> Iterator[Callable[[R], None]]:
    """Yield a function that adds a record to a JSONL file; first, a torn last line is cut off.

    A record's whole line goes to the kernel in one unbuffered write, so it outlives a killed
    process; if the disk is full or fails, none of it stays. Only fsync makes it outlive a power
    cut; at most once a second, that costs nothing beside sampling. The file is created, with its
    folder, if missing. LmsiError: a line in it is not a ``kind`` (``paths.jsonl:17: ...``), or a
    write fails.
    """
    with open_mended(path, kind) as file:
        end, synced = file.seek(0, os.SEEK_END), time.monotonic()

        def write(record: R) -> None:
            nonlocal end, synced
            line = encode_line(record)
            try:
                rest = memoryview(line)
                while rest:  # a nearly full disk takes a part without an error
                    rest = rest[file.write(rest) :]
                if time.monotonic() - synced >= FSYNC_SECONDS:
                    os.fsync(file.fileno())
                    synced = time.monotonic()
            except BaseException as e:
                with suppress(OSError):  # if this fails too, the next opening repairs the line
                    file.truncate(end)
                if isinstance(e, OSError):
                    raise write_error(path, e) from e
                raise
            end += len(line)

        try:
            yield write
        finally:
            try:
                os.fsync(file.fileno())
            except OSError as e:
                raise write_error(path, e) from e


def open_mended(path: Path, kind: type[Record]) -> FileIO:
    """Open for unbuffered appending, after cutting off a torn last line; errors as above."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as old:
            end = max((end for _, end, _ in _scan(old, path, kind)), default=0)
            old.truncate(end)
            old.seek(max(end - 1, 0))
            if old.read(1) not in (b"", b"\n"):  # a complete record that only lacks its newline
                old.write(b"\n")
        return path.open("ab", buffering=0)
    except OSError as e:
        raise write_error(path, e) from e


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a JSONL file one by one, leaving out a torn last line.

    Blank lines are skipped; a complete last record that only lacks its newline counts. LmsiError:
    the file is missing or a line is not a ``kind``: ``paths.jsonl:17: missing field 'text'``.
    """
    return (record for _, record in read_placed(path, kind))


def read_placed(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Yield records as ``read_records`` does, each with the byte offset where its line begins."""
    try:
        with path.open("rb") as file:
            yield from ((start, record) for start, _, record in _scan(file, path, kind))
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object; LmsiError as ``read_struct``."""
    return read_struct(path, dict[str, Any])


def read_struct(path: Path, kind: type[T], hint: str = "") -> T:
    """Read a file that holds one value of type ``kind``; ``hint`` says how to recreate the file.

    LmsiError: it is missing, or holds anything else, such as another version's format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e
    except msgspec.ValidationError as e:
        raise LmsiError(f"{path}: not of this version of lmsi: {_plain(str(e))}", hint) from None
    except UNREADABLE as e:
        raise LmsiError(f"{path}: not a JSON object: {e}", hint) from None


def write_struct(path: Path, value: object, sort: bool = False) -> None:
    """Write a file that holds one value, indented; ``sort`` orders its fields by name."""
    text = msgspec.json.encode(value, order="sorted" if sort else None)
    write_atomic(path, msgspec.json.format(text))


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a whole JSONL file, as ``atomic.replacing`` does."""
    with replacing(path) as file:
        file.writelines(map(encode_line, records))


@contextmanager
def shuffled_writer(path: Path, seed: int) -> Iterator[Callable[..., None]]:
    """Yield a function that takes the records of a JSONL file, in an order that ``seed`` decides.

    It is the order that ``random.shuffle`` gives a list of that length; memory holds eight bytes
    per record. The file appears only once it is whole; until then it takes twice its size on the
    disk. LmsiError: it cannot be written; an older one stays.
    """
    starts, end = array("Q"), 0
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as unordered:

        def write(*records: Record) -> None:
            nonlocal end
            for record in records:
                starts.append(end)
                end += unordered.write(encode_line(record))

        yield write
        random.Random(seed).shuffle(starts)
        for start in starts:
            unordered.seek(start)
            file.write(unordered.readline())


def _scan(file: BinaryIO, path: Path, kind: type[R]) -> Iterator[tuple[int, int, R]]:
    """Yield where each line begins and ends, and its record; stop before a torn last line.

    A prefix of a record is never valid JSON, so a bad last line that *is* JSON was not torn: it is
    reported like a bad line in the middle.
    """
    decoder = msgspec.json.Decoder(kind)
    end = 0
    for number, line in enumerate(bounded_lines(file, path), 1):
        end += len(line)
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except msgspec.ValidationError as e:
            raise LmsiError(f"{path}:{number}: {_plain(str(e))}") from None
        except UNREADABLE as e:
            if not line.endswith(b"\n") or not file.read(1):  # the end, or a writer at work
                return
            found = str(e).removeprefix("JSON is malformed: ")
            raise LmsiError(f"{path}:{number}: not valid JSON: {found}") from None
        yield end - len(line), end, record


def bounded_lines(file: BinaryIO, name: Path | str) -> Iterator[bytes]:
    """The lines of a file; LmsiError for one that would fill the memory."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), b""), 1):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise LmsiError(f"{name}:{number}: a line of over {LONGEST_LINE >> 20} MiB")
        yield line


def _plain(message: str) -> str:
    """Rephrase msgspec's message, the field first: ``field 'path': expected int, got str``."""
    text, _, where = message.replace("`", "'").partition(" - at '$.")
    text = re.sub(r"^Object (contains )?", "", text).replace("missing required", "missing")
    return (f"field '{where}: " if where else "") + text[0].lower() + text[1:]


def encode_line(record: Record) -> bytes:
    """Encode one record as a line with sorted keys; ValueError for NaN and infinities."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, float) and not math.isfinite(value):  # JSON would turn it to null
            raise ValueError(f"{type(record).__name__}.{name} is {value}")
    return msgspec.json.encode(record, order="sorted") + b"\n"


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

    Paths are written in the order in which they finish, so a question's paths are scattered. One
    pass stores where each line begins in a temporary SQLite database on disk (30 bytes a line), so
    memory does not grow with the file; after that, single records are read from their places.
    ``largest`` is the largest number, -1 without records:

        key = lambda p: (p.question_id, p.path)
        with JsonlIndex(run.paths, Path, key, what="path {number} of {key!r}") as paths:
            for question_id, group in paths:    # ("q1", [Path(path=0, ...), Path(path=1, ...)])
                ...
            paths.get("q7")                     # [Path(question_id="q7", ...), ...]
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
        except BaseException as e:
            self._places.close()
            name = f"{path}: {what.format(key=last[0], number=last[1])}"
            if isinstance(e, sqlite3.IntegrityError):
                raise LmsiError(f"{name} is there twice", "delete one of the two lines") from None
            if isinstance(e, OverflowError):
                raise LmsiError(f"{name}: no such number", "delete that line") from None
            if isinstance(e, sqlite3.Error):  # the database has no room
                hint = "is the disk of TMPDIR full?"
                raise LmsiError(f"{path}: cannot be sorted: {e}", hint) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
