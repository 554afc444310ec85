r"""Files of records, one JSON object a line: appended to, read, and written whole.

Knows JSON lines; nothing of what a file is for. Where a file grows while work goes on, each record
is one line in one write (``appender``), so that a killed writer loses nothing; other files are
written beside their place and then renamed (``write_records``, ``shuffled_writer``).

    with appender(run.paths, Path) as paths:
        paths.write(path)              # {"logprob":-4.1,...,"text":" 84 / 2 = 42. ..."}\n
    read_records(run.paths, Path)      # yields Path(logprob=-4.1, ...), ...
"""

from __future__ import annotations

import math
import os
import random
import re
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast, get_type_hints

import msgspec

from lmsi_cli.atomic import replacing, write_atomic, write_error
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Record

R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

FSYNC_SECONDS = 1.0
SHORT_LINE = 2_048  # bytes read for one line; a longer one takes a second call
LONGEST_LINE = 1 << 27  # bytes; a longer line cannot be a record
ONE_WRITE = 1 << 18  # bytes that are collected before they are written


class Appender(Generic[R]):
    """Appends records to a JSONL file; made by ``appender``.

    Each line goes to the kernel in one unbuffered write, so it outlives a killed process. Only
    fsync makes it outlive a power cut; at most once a second, that costs nothing beside sampling.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file, self._path = file, path
        self._end = file.seek(0, os.SEEK_END)
        self._synced = time.monotonic()

    def write(self, record: R) -> None:
        """Append one record: its whole line or, if the disk is full or fails, none of it."""
        line = encode_line(record)
        try:
            rest = memoryview(line)
            while rest:  # a nearly full disk takes a part without an error
                rest = rest[self._file.write(rest) :]
            if time.monotonic() - self._synced >= FSYNC_SECONDS:
                self.sync()
        except BaseException as e:
            with suppress(OSError):  # if this fails too, the next opening repairs the line
                self._file.truncate(self._end)
            if isinstance(e, OSError):
                raise write_error(self._path, e) from e
            raise
        self._end += len(line)

    def sync(self) -> None:
        """Force what was written onto the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as e:
            raise write_error(self._path, e) from e
        self._synced = time.monotonic()


@contextmanager
def appender(path: Path, kind: type[R]) -> Iterator[Appender[R]]:
    """Open a JSONL file to add records, after cutting off a last line that a killed writer tore.

    It is created, with its folder, if missing. LmsiError: a line in it is not a ``kind``
    (``paths.jsonl:17: ...``), or a write fails.
    """
    with open_mended(path, kind) as file:
        lines = Appender[R](file, path)
        try:
            yield lines
        finally:
            lines.sync()


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


class ShuffledWriter:
    """Takes records, and writes their lines in shuffled order; made by ``shuffled_writer``.

    It keeps eight bytes per record in memory, not the record.
    """

    def __init__(self, unordered: BufferedRandom) -> None:
        self._unordered, self._end = unordered, 0
        self._starts = array("Q")

    def write(self, *records: Record) -> None:
        """Add records."""
        for record in records:
            self._starts.append(self._end)
            self._end += self._unordered.write(encode_line(record))

    def finish(self, file: BinaryIO, seed: int) -> None:
        """Write all lines, in the order that ``random.shuffle`` gives a list of that length."""
        self._unordered.flush()
        random.Random(seed).shuffle(self._starts)
        raw = self._unordered.raw  # unbuffered: the next line is elsewhere
        for start in self._starts:
            raw.seek(start)
            read = b""
            while b"\n" not in read:
                read += raw.read(max(SHORT_LINE, len(read)))
            file.write(read[: read.index(b"\n") + 1])


@contextmanager
def shuffled_writer(path: Path, seed: int) -> Iterator[ShuffledWriter]:
    """Write a JSONL file in an order that ``seed`` decides; it appears only once it is whole.

    Until then it takes twice its size on the disk. LmsiError: it cannot be written; an older one
    stays.
    """
    with (
        replacing(path) as file,
        tempfile.TemporaryFile(dir=path.parent, buffering=ONE_WRITE) as unordered,
    ):
        writer = ShuffledWriter(cast(BufferedRandom, unordered))
        yield writer
        writer.finish(file, seed)


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
    for name in _fractions(type(record)):
        value = getattr(record, name)
        if isinstance(value, float) and not math.isfinite(value):  # JSON would turn it to null
            raise ValueError(f"{type(record).__name__}.{name} is {value}")
    return msgspec.json.encode(record, order="sorted") + b"\n"


@lru_cache
def _fractions(kind: type[Record]) -> tuple[str, ...]:
    """The fields that may hold a fraction, judging by the names of their types."""
    hints = {name: str(hint) for name, hint in get_type_hints(kind).items()}
    return tuple(n for n in kind.__struct_fields__ if re.search("float|Any", hints[n]))
