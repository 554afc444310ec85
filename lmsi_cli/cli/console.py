"""What a person sees: progress and messages on stderr, results on stdout.

Knows Rich; nothing of stages. Implements ``records.Progress`` twice: a live bar on a terminal, a
plain line every few seconds elsewhere:

    sampling  1280/6400  20.0%  21.4 paths/s  1,420 tokens/s  parsed 96%  612 MiB  left 3:59
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from lmsi_cli.report.formats import figures_line

FILE_WIDTH = 200  # characters of a line where stdout is no terminal: a table is not cut for a file
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
MEMORY_EVERY = 1.0  # seconds; asking costs more than moving the bar
SMOOTH = 30.0  # seconds over which the rate is averaged, so that the time left does not jump


def out() -> Console:
    """The console for results; made anew so that tests can replace stdout."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH
    return Console(highlight=False, soft_wrap=False, width=wide)


def err() -> Console:
    """The console for messages."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Rate:
    """Units per second over the last ``SMOOTH`` seconds."""

    def __init__(self) -> None:
        self.marks: deque[tuple[float, int]] = deque()

    def left(self, done: int, total: int) -> float | None:
        """Seconds until ``total``; None before anything can be said."""
        now = time.monotonic()
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[0][0] > SMOOTH:
            self.marks.popleft()
        (t0, d0), (t1, d1) = self.marks[0], self.marks[-1]
        return max(0, total - d1) * (t1 - t0) / (d1 - d0) if d1 > d0 else None


def memory() -> int:
    """Resident size of this process and of those that it has work done in, in bytes."""
    import psutil

    used = 0
    for number in (os.getpid(), *(p.pid for p in multiprocessing.active_children())):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            used += int(psutil.Process(number).memory_info().rss)
    return used


class Bar:
    """Progress on a terminal."""

    def __init__(self) -> None:
        self.live = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=err(),
        )
        self.task: TaskID | None = None
        self.total, self.rate = 0, Rate()
        self.used, self.measured = 0, float("-inf")
        self.live.start()

    def start(self, label: str, total: int) -> None:
        """A new bar below the finished ones."""
        self.task = self.live.add_task(label, total=total or None, figures="")
        self.total, self.rate = total, Rate()

    def advance(self, done: int, **figures: float | str) -> None:
        """Move the bar."""
        now = time.monotonic()
        if now - self.measured >= MEMORY_EVERY:
            self.used, self.measured = memory(), now
        text = figures_line(figures, self.used, self.rate.left(done, self.total))
        assert self.task is not None
        self.live.update(self.task, completed=done, figures=text)

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.live.console.print(text, markup=False)

    def stop(self) -> None:
        """Leave the bars as they are."""
        self.live.stop()


class Lines:
    """Progress where nobody watches a terminal: a line now and then."""

    def __init__(self, stream: IO[str], every: float = PLAIN_EVERY) -> None:
        self.stream, self.every = stream, every
        self.label, self.total, self.last, self.rate = "", 0, 0.0, Rate()

    def start(self, label: str, total: int) -> None:
        """Name the phase."""
        self.label, self.total, self.rate = label, total, Rate()
        self.last = time.monotonic()

    def advance(self, done: int, **figures: float | str) -> None:
        """Print, if the last line is old enough or this is the last one."""
        left = self.rate.left(done, self.total)
        if time.monotonic() - self.last < self.every and done != self.total:
            return
        self.last = time.monotonic()
        share = f"{done / self.total:6.1%}" if self.total else ""
        text = figures_line(figures, memory(), left)
        self.say(f"{self.label}  {done}/{self.total}  {share}  {text}")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.stream, flush=True)

    def stop(self) -> None:
        """Nothing is held open."""


class Quiet(Lines):
    """No progress at all; lines that matter still appear."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Say nothing."""


def watcher(quiet: bool = False) -> Bar | Lines:
    """The progress view that fits where stderr goes."""
    if quiet:
        return Quiet(sys.stderr)
    fancy = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return Bar() if fancy else Lines(sys.stderr)
