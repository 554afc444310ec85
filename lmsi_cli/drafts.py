"""Files that are written a record at a time and appear only when they are whole.

Knows records and files; nothing of what is written. ``shuffled`` puts its records in an order that
a seed decides, and holds eight bytes of each meanwhile, not the record:

    with drafted(run.votes) as votes, shuffled(run.train, seed=0) as train:
        votes.write(vote)
        train.write(example)
    # both are there now; after an exception neither is
"""

from __future__ import annotations

import random
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO, cast

from lmsi_cli.lines import encode_line, replacing
from lmsi_cli.records import Record

LINE = 2_048  # bytes read for one line; a longer one takes a second call
WRITTEN = 1 << 18  # bytes of one write


class Draft:
    """Takes records; made by ``drafted``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, *records: Record) -> None:
        """Add records."""
        self._file.writelines(map(encode_line, records))


class Shuffled:
    """Takes records, and gives their lines in another order; made by ``shuffled``."""

    def __init__(self, heap: BufferedRandom) -> None:
        self._heap, self._end = heap, 0
        self._starts = array("Q")

    def write(self, *records: Record) -> None:
        """Add records."""
        for record in records:
            self._starts.append(self._end)
            self._end += self._heap.write(encode_line(record))

    def pour(self, file: BinaryIO, seed: int) -> None:
        """Write all lines, in the order that ``random.shuffle`` gives a list of as many."""
        self._heap.flush()
        random.Random(seed).shuffle(self._starts)
        for start in self._starts:
            file.write(self._line(start))

    def _line(self, start: int) -> bytes:
        """Read one line from its place, past the buffer: the next one is elsewhere."""
        raw, read = self._heap.raw, b""
        raw.seek(start)
        while b"\n" not in read:
            read += raw.read(max(LINE, len(read)))
        return read[: read.index(b"\n") + 1]


@contextmanager
def drafted(path: Path) -> Iterator[Draft]:
    """Write a JSONL file that takes its place once it is whole; LmsiError if it cannot."""
    with replacing(path) as file:
        yield Draft(file)


@contextmanager
def shuffled(path: Path, seed: int) -> Iterator[Shuffled]:
    """Write a JSONL file in random order, as ``drafted`` does; takes its room twice meanwhile."""
    with (
        replacing(path) as file,
        tempfile.TemporaryFile(dir=path.parent, buffering=WRITTEN) as heap,
    ):
        draft = Shuffled(cast(BufferedRandom, heap))
        yield draft
        draft.pour(file, seed)
