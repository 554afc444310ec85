"""What a simulated worker is doing: blocks one after another, standing still, and what has come.

Knows blocks, seconds and shares of them; nothing of a dispatcher or of other workers. One block:

    Run(block, start=10.0, good=6.0, ending=0.5, pause=60.0, at=2.0)
    .worked(13.0) -> 2.0         # it stood still after 2 s of work
    .end -> 76.5
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmsi_cli.cluster.dispatch import Block


class Run:
    """A block at a worker; times in seconds.

    ``good`` is what its tokens take, ``ending`` what it takes longer for running empty; it stands
    still for ``pause`` when it has worked for ``at``.
    """

    def __init__(
        self, block: Block, start: float, good: float, ending: float, pause: float, at: float
    ) -> None:
        self.block, self.start, self.good, self.pause, self.at = block, start, good, pause, at
        self.busy = good + ending
        self.end = start + self.busy + pause
        self.paths = block.paths
        self.seen = start  # until then the driver has been told
        self.came = self.new = 0  # paths that the driver has, and those it had not

    def worked(self, when: float) -> float:
        """How long it has worked by then."""
        spent = max(0.0, when - self.start)
        return min(self.busy, spent if spent <= self.at else max(self.at, spent - self.pause))

    def stood(self, when: float) -> float:
        """How long it has stood still by then."""
        return min(self.pause, max(0.0, when - self.start - self.at))


class Worker:
    """One process of the fleet; ``slot`` is its place, which outlives it.

    ``lag`` is for how long its paths wait for a report.
    """

    def __init__(self, name: str, slot: int, speed: float, now: float, lag: float) -> None:
        self.name, self.slot, self.speed, self.lag = name, slot, speed, lag
        self.joined = self.free = self.empty = now  # empty: the last path of the last block
        self.died = float("inf")
        self.runs: list[Run] = []


class Kept:
    """Which paths the driver has kept: bits of whole numbers of a fixed size, for all questions."""

    def __init__(self, questions: int) -> None:
        self._bits = np.full(questions, 0, np.uint64)  # all of its memory from the beginning
        self.paths = self.again = 0  # again: kept although it was there

    def add(self, question: int, bits: int) -> None:
        """Keep paths of a question."""
        there = int(self._bits[question])
        self.again += (there & bits).bit_count()
        self.paths += (bits & ~there).bit_count()
        self._bits[question] = there | bits


def resident_mib() -> float:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def size_mib(root: object, without: frozenset[str]) -> float:
    """The memory of an object and all that it refers to, less these attributes of it.

    Counted in a copy of this process, since counting takes memory, too.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, struct.pack("d", _size(root, without)))
        os._exit(0)
    os.waitpid(child, 0)
    found: float = struct.unpack("d", os.read(reads, 8))[0]
    os.close(reads)
    os.close(writes)
    return found


def _size(root: object, without: frozenset[str]) -> float:
    seen: set[int] = set()
    stack: list[Any] = [v for k, v in vars(root).items() if k not in without]
    total = 0
    while stack:
        found = stack.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        stack.extend(_parts(found))
    return total / 2**20


def _parts(found: Any) -> list[Any]:  # noqa: ANN401 - whatever a dispatcher holds
    if isinstance(found, Mapping):
        return [*found.keys(), *found.values()]
    if isinstance(found, str | bytes | int | float):
        return []
    parts = list(vars(found).values()) if hasattr(found, "__dict__") else []
    return parts + (list(found) if hasattr(found, "__iter__") else [])
