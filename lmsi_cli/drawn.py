"""Which paths of a run are there already, in a few bits each.

A run of a million questions has tens of millions of paths; as Python tuples their keys alone would
take gigabytes. Here a question is one whole number whose bit k stands for path k:

    drawn = Drawn()
    drawn.add("q7", 0, parsed=True)
    drawn.add("q7", 5, parsed=False)      # {"q7": 0b100001}, paths 2, parsed 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView
from pathlib import Path as File

from lmsi_cli.lines import read_records
from lmsi_cli.records import Path

MOST = 1 << 16  # numbers that runs use; a file edited by hand may hold others


class Drawn:
    """The (question, path) keys that are done; ``paths`` of them, ``parsed`` with an answer.

    A key that is there twice counts once. A number that no run uses counts for nothing, but its
    question has been drawn from.
    """

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self.paths = self.parsed = 0

    def add(self, question_id: str, path: int, parsed: bool) -> None:
        """Count a path, numbered from 0."""
        before = self._bits.get(question_id, 0)
        bit = 1 << path if 0 <= path < MOST else 0
        self._bits[question_id] = before | bit
        if bit & ~before:
            self.paths += 1
            self.parsed += parsed

    def lacks(self, question_id: str, paths: int) -> Iterator[int]:
        """The numbers below ``paths`` that are still to be drawn, in order."""
        bits = self._bits.get(question_id, 0)
        return (i for i in range(paths) if not bits >> i & 1)

    def lacking(self, question_id: str, paths: int) -> int:
        """How many numbers below ``paths`` are still to be drawn."""
        there = self._bits.get(question_id, 0) & ((1 << paths) - 1)
        return paths - there.bit_count()

    @property
    def questions(self) -> KeysView[str]:
        """The questions with a path."""
        return self._bits.keys()


def drawn_paths(file: File, tell: Callable[[Path], None] | None = None) -> Drawn:
    """Read which paths a run holds; none if the file is not there yet.

    Args:
        file: Its ``paths.jsonl``.
        tell: Is told of every path.

    Raises:
        LmsiError: A line is no path.
    """
    drawn = Drawn()
    for path in read_records(file, Path) if file.exists() else ():
        drawn.add(path.question_id, path.path, path.predicted_answer is not None)
        if tell is not None:
            tell(path)
    return drawn
