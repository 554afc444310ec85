"""What a person sees: progress and messages on stderr, results on stdout.

Knows Rich and the run folder's ``status.json``; nothing of stages. Implements ``records.Progress``:
a live bar on a terminal, a plain line every few seconds elsewhere. Either way it writes the status
file, from which `lmsi watch` in another terminal sees how far a command is:

    sampling  1280/6400  20.0%  21.4 paths/s  1,420 tokens/s  parsed 96%  612 MiB  left 3:59
    {"command": "sample q.jsonl -o runs/a", "pid": 4711, "phase": "sampling", "done": 1280,
     "total": 6400, "figures": {"parsed": "96%"}, "left": 239.1, "memory": 641728512, ...}
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import IO

import msgspec
from rich import progress as rich
from rich.console import Console

from lmsi_cli.atomic import write_atomic
from lmsi_cli.formats import figures_line, printable
from lmsi_cli.records import Progress, Status
from lmsi_cli.run_folder import RunDir

FILE_WIDTH = 200  # characters a line where stdout is no terminal, so that tables are not cut
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
MEMORY_EVERY = 1.0  # seconds between measurements, which cost more than showing them
STATUS_EVERY = 2.0  # seconds between two writes of status.json
SAID = 8  # last lines that status.json keeps
SMOOTH = 30.0  # seconds over which the rate is averaged, so that the time left does not jump


def out() -> Console:
    """The console for results; created on each call so that tests can replace stdout."""
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
        """Seconds until ``total``; None while there is no rate to go by."""
        now = time.monotonic()
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[0][0] > SMOOTH:
            self.marks.popleft()
        (t0, d0), (t1, d1) = self.marks[0], self.marks[-1]
        return max(0, total - d1) * (t1 - t0) / (d1 - d0) if d1 > d0 else None


def memory() -> int:
    """Resident size of this process and its child processes, in bytes."""
    import psutil

    used = 0
    for number in (os.getpid(), *(p.pid for p in multiprocessing.active_children())):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            used += int(psutil.Process(number).memory_info().rss)
    return used


class Bar:
    """Progress on a terminal."""

    def __init__(self) -> None:
        self.live = rich.Progress(
            rich.TextColumn("{task.description:<22}", markup=False),
            rich.BarColumn(bar_width=24),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[figures]}"),
            rich.TimeElapsedColumn(),
            console=err(),
        )
        self.task: rich.TaskID | None = None
        self.live.start()

    def start(self, label: str, total: int) -> None:
        """Add a bar below the finished ones."""
        self.task = self.live.add_task(label, total=total or None, figures="")

    def show(self, done: int, figures: str) -> None:
        """Move the bar."""
        assert self.task is not None
        self.live.update(self.task, completed=done, figures=figures)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.live.console.print(text, markup=False)

    def stop(self) -> None:
        """Leave the bars as they are."""
        self.live.stop()


class Lines:
    """Progress without a terminal: a line now and then; if quiet, only what ``say`` prints."""

    def __init__(self, stream: IO[str], quiet: bool = False) -> None:
        self.stream, self.quiet = stream, quiet
        self.label, self.total, self.last = "", 0, 0.0

    def start(self, label: str, total: int) -> None:
        """Begin a phase."""
        self.label, self.total, self.last = label, total, time.monotonic()

    def show(self, done: int, figures: str) -> None:
        """Print progress if the last line is old enough, or if the phase is done."""
        now = time.monotonic()
        if self.quiet or (now - self.last < PLAIN_EVERY and done != self.total):
            return
        self.last = now
        share = f"{done / self.total:6.1%}" if self.total else ""
        self.say(f"{self.label}  {done}/{self.total}  {share}  {figures}")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.stream, flush=True)

    def stop(self) -> None:
        """Do nothing: there is no display to close."""


def watcher(quiet: bool = False) -> Bar | Lines:
    """The progress view that fits where stderr goes."""
    fancy = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if err().is_jupyter:  # where Rich draws with widgets
        fancy = find_spec("ipywidgets") is not None
    return Bar() if fancy and not quiet else Lines(sys.stderr, quiet)


class Beacon(Progress):
    """Reports a command's progress to a view and, if there is a run folder, to ``status.json``.

    Writes only once work has begun, so a command that finds the folder in use does not overwrite
    the status of the command that works there.
    """

    def __init__(self, view: Bar | Lines, run: RunDir | None, argv: Sequence[str]) -> None:
        self.view, self.run, self.rate = view, run, Rate()
        self.written = self.measured = float("-inf")
        self.status = Status(
            command=shlex.join(argv),
            pid=os.getpid(),
            phase="",
            done=0,
            total=0,
            figures={},
            left=None,
            memory=0,
            begun=time.time(),
            updated=0.0,
        )

    def start(self, label: str, total: int) -> None:
        """Begin a phase."""
        label = printable(label)  # it may name a file
        self.view.start(label, total)
        self.rate = Rate()
        self._note(phase=label, total=total, done=0, figures={}, left=None)
        self._write()

    def advance(self, done: int, **figures: float | str) -> None:
        """Report ``done`` finished units; the file is written at most every two seconds."""
        left, now = self.rate.left(done, self.status.total), time.monotonic()
        self._note(done=done, figures=figures, left=left)
        if now - self.measured >= MEMORY_EVERY:
            self._note(memory=memory())
            self.measured = now
        self.view.show(done, figures_line(figures, self.status.memory, left))
        if now - self.written >= STATUS_EVERY:
            self._write()

    def say(self, text: str) -> None:
        """Print a line that stays on the screen."""
        text = printable(text)
        self.view.say(text)
        self._note(said=(*self.status.said, text)[-SAID:])

    def end(self, how: str) -> None:
        """Note how the command ended, if it had begun to work."""
        if self.status.phase:
            self._note(ended=how)
            self._write()

    def _note(self, **now: object) -> None:
        self.status = msgspec.structs.replace(self.status, **now)

    def _write(self) -> None:
        if self.run is None:
            return
        self.written = time.monotonic()
        self._note(memory=memory(), updated=time.time())
        write_atomic(self.run.status, msgspec.json.format(msgspec.json.encode(self.status)))
