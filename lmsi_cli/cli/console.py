"""What a person sees: progress and messages on stderr, results on stdout.

Knows Rich; nothing of stages. Implements ``records.Progress`` twice: a live bar on a terminal, a
plain line every few seconds elsewhere:

    sampling  1280/6400  20.0%  21.4 paths/s  1,420 tokens/s  parsed 96%  left 3:59
"""

from __future__ import annotations

import os
import sys
import time
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

FILE_WIDTH = 200  # characters of a line where stdout is no terminal: a table is not cut for a file
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
SMOOTH = 30.0  # seconds over which the rate is averaged, so that the time left does not jump


def out() -> Console:
    """The console for results; made anew so that tests can replace stdout."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH
    return Console(highlight=False, soft_wrap=False, width=wide)


def err() -> Console:
    """The console for messages."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class _Rate:
    """Units per second over the last ``SMOOTH`` seconds."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []

    def left(self, done: int, total: int) -> str:
        """Time until ``total``, or ``?`` before anything can be said."""
        now = time.monotonic()
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[0][0] > SMOOTH:
            self.marks.pop(0)
        (t0, d0), (t1, d1) = self.marks[0], self.marks[-1]
        return clock((total - d1) * (t1 - t0) / (d1 - d0)) if d1 > d0 else "?"


def _figure(name: str, value: float | str) -> str:
    """``paths_s=21.4`` as ``21.4 paths/s``; ``parsed='96%'`` as ``parsed 96%``."""
    if isinstance(value, str):
        return f"{name} {value}"
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown} {name[:-2]}/s" if name.endswith("_s") else f"{name} {shown}"


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
        self.total, self.rate = 0, _Rate()
        self.live.start()

    def start(self, label: str, total: int) -> None:
        """A new bar below the finished ones."""
        self.task = self.live.add_task(label, total=total or None, figures="")
        self.total, self.rate = total, _Rate()

    def advance(self, done: int, **figures: float | str) -> None:
        """Move the bar."""
        text = "  ".join(_figure(k, v) for k, v in figures.items())
        left = self.rate.left(done, self.total)
        assert self.task is not None
        self.live.update(self.task, completed=done, figures=f"{text}  left {left}")

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
        self.label, self.total, self.last, self.rate = "", 0, 0.0, _Rate()

    def start(self, label: str, total: int) -> None:
        """Name the phase."""
        self.label, self.total, self.last, self.rate = label, total, 0.0, _Rate()

    def advance(self, done: int, **figures: float | str) -> None:
        """Print, if the last line is old enough or this is the last one."""
        left = self.rate.left(done, self.total)
        if time.monotonic() - self.last < self.every and done != self.total:
            return
        self.last = time.monotonic()
        share = f"{done / self.total:6.1%}" if self.total else ""
        text = "  ".join(_figure(k, v) for k, v in figures.items())
        self.say(f"{self.label}  {done}/{self.total}  {share}  {text}  left {left}")

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
