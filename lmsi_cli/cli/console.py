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

import msgspec
from rich import progress as rich
from rich.console import Console

from lmsi_cli.atomic import write_atomic
from lmsi_cli.formats import figures_line, printable
from lmsi_cli.records import Progress, Status
from lmsi_cli.run_folder import RunDir

FILE_WIDTH = 200  # characters a line where stdout is no terminal, so that tables are not cut
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
STATUS_EVERY = 2.0  # seconds between two writes of status.json, and measurements of memory
SAID = 8  # last lines that status.json keeps
SMOOTH = 30.0  # seconds over which the rate is averaged, so that the time left does not jump


def out() -> Console:
    """The console for results; created on each call so that tests can replace stdout."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_WIDTH
    return Console(highlight=False, soft_wrap=False, width=wide)


def err() -> Console:
    """The console for messages."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def animated() -> bool:
    """Whether a live bar can be drawn where stderr goes."""
    if err().is_jupyter:  # where Rich draws with widgets
        return find_spec("ipywidgets") is not None
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def memory() -> int:
    """Resident size of this process and its child processes, in bytes."""
    import psutil

    used = 0
    for number in (os.getpid(), *(p.pid for p in multiprocessing.active_children())):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            used += int(psutil.Process(number).memory_info().rss)
    return used


class Beacon(Progress):
    """Shows a command's progress and, if there is a run folder, writes it to ``status.json``.

    Writes only once work has begun, so a command that finds the folder in use does not overwrite
    the status of the command that works there. If ``quiet``, only what ``say`` prints is shown.
    """

    def __init__(self, quiet: bool, run: RunDir | None, argv: Sequence[str]) -> None:
        self.quiet, self.run = quiet, run
        self.live = rich.Progress(
            rich.TextColumn("{task.description:<22}", markup=False),
            rich.BarColumn(bar_width=24),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[figures]}"),
            rich.TimeElapsedColumn(),
            console=err(),
            disable=quiet or not animated(),
        )
        self.bar = rich.TaskID(0)
        self.marks = deque[tuple[float, int]]()
        self.shown = self.written = 0.0
        self.status = Status(command=shlex.join(argv), pid=os.getpid(), begun=time.time())
        self.live.start()

    def start(self, label: str, total: int) -> None:
        """Begin a phase, with a bar below the finished ones."""
        label = printable(label)  # it may name a file
        self.bar = self.live.add_task(label, total=total or None, figures="")
        self.shown = time.monotonic()
        self.marks.clear()
        self._note(phase=label, total=total, done=0, figures={}, left=None)
        self._write()

    def advance(self, done: int, **figures: float | str) -> None:
        """Report ``done`` finished units: move the bar, or print a line now and then."""
        now = time.monotonic()
        self._note(done=done, figures=figures, left=self._left(now, done))
        if now - self.written >= STATUS_EVERY:
            self._write()
        shown = figures_line(figures, self.status.memory, self.status.left)
        self.live.update(self.bar, completed=done, figures=shown)
        total = self.status.total
        late = now - self.shown >= PLAIN_EVERY or done == total
        if self.live.disable and late and not self.quiet:
            self.shown = now
            share = f"{done / total:6.1%}" if total else ""
            self._print(f"{self.status.phase}  {done}/{total}  {share}  {shown}")

    def say(self, text: str) -> None:
        """Print a line that stays on the screen, above the bars."""
        text = printable(text)
        self._print(text)
        self._note(said=(*self.status.said, text)[-SAID:])

    def end(self, how: str) -> None:
        """Leave the bars as they are; note how the command ended, if it had begun to work."""
        if not self.live.disable:  # older releases of Rich end a hidden display with a blank line
            self.live.stop()
        if self.status.phase:
            self._note(ended=how)
            self._write()

    def _left(self, now: float, done: int) -> float | None:
        """Seconds to the end at the rate of the last ``SMOOTH`` seconds; None: no rate to go by."""
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[0][0] > SMOOTH:
            self.marks.popleft()
        begun, before = self.marks[0]
        rest = max(0, self.status.total - done)
        return rest * (now - begun) / (done - before) if done > before else None

    def _print(self, line: str) -> None:
        if self.live.disable:
            sys.stderr.write(f"{line}\n")
        else:
            self.live.console.print(line, markup=False)

    def _note(self, **now: object) -> None:
        self.status = msgspec.structs.replace(self.status, **now)

    def _write(self) -> None:
        self.written = time.monotonic()
        self._note(memory=memory(), updated=time.time())
        if self.run is not None:
            write_atomic(self.run.status, msgspec.json.format(msgspec.json.encode(self.status)))
