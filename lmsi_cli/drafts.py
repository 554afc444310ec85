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
from pathlib import Path
from typing import IO, BinaryIO

from lmsi_cli.lines import encode_line, replacing
from lmsi_cli.records import Record


class Draft:
    """Takes records; made by ``drafted``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: Record) -> None:
        """Add one record."""
        self._file.write(encode_line(record))


class Shuffled:
    """Takes records, and gives their lines in another order; made by ``shuffled``."""

    def __init__(self, heap: IO[bytes]) -> None:
        self._heap, self._end = heap, 0
        self._starts = array("Q")

    def write(self, record: Record) -> None:
        """Add one record."""
        line = encode_line(record)
        self._starts.append(self._end)
        self._end += self._heap.write(line)

    def pour(self, file: BinaryIO, seed: int) -> None:
        """Write all lines, in the order that ``random.shuffle`` gives a list of as many."""
        random.Random(seed).shuffle(self._starts)
        for start in self._starts:
            self._heap.seek(start)
            file.write(self._heap.readline())


@contextmanager
def drafted(path: Path) -> Iterator[Draft]:
    """Write a JSONL file that takes its place once it is whole; LmsiError if it cannot."""
    with replacing(path) as file:
        yield Draft(file)


@contextmanager
def shuffled(path: Path, seed: int) -> Iterator[Shuffled]:
    """Write a JSONL file in random order, as ``drafted`` does; takes its room twice meanwhile."""
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as heap:
        draft = Shuffled(heap)
        yield draft
        draft.pour(file, seed)
