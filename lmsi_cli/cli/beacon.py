"""Lets another terminal see how far a command is: a progress view that also writes a file.

Passes everything on to the view that it wraps. Knows the run folder's ``status.json``; nothing of
what the command does. Writes only once work has begun, so a command that finds the folder in use
leaves the file of the one that works there:

    {"command": "sample q.jsonl -o runs/a", "pid": 4711, "phase": "sampling", "done": 1280,
     "total": 6400, "figures": {"parsed": "96%"}, "left": 239.1, "memory": 641728512, ...}
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.cli.console import Rate, memory
from lmsi_cli.records import Progress, Status
from lmsi_cli.run_folder import RunDir

EVERY = 2.0  # seconds between two writes
SAID = 8  # lines that are kept


class Beacon:
    """A Progress that wraps another one."""

    def __init__(self, view: Progress, run: RunDir, argv: Sequence[str]) -> None:
        self.view, self.run, self.rate = view, run, Rate()
        self.written = float("-inf")
        self._last: dict[str, object] = {}  # what was told since the file was written
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
        """A phase begins."""
        self.view.start(label, total)
        self.rate = Rate()
        self._tell(phase=label, total=total, done=0, figures={}, left=None)
        self._write()

    def advance(self, done: int, **figures: float | str) -> None:
        """Units are finished; the file follows every other second."""
        self.view.advance(done, **figures)
        left = self.rate.left(done, self.status.total)
        if time.monotonic() - self.written >= EVERY:
            self._tell(done=done, figures=figures, left=left)
            self._write()
        else:
            self._last = {"done": done, "figures": figures, "left": left}

    def say(self, text: str) -> None:
        """A line that stays."""
        self.view.say(text)
        self._tell(said=(*self.status.said, text)[-SAID:])

    def end(self, how: str) -> None:
        """Note how the command ended, if it had begun to work."""
        if self.status.phase:
            self._tell(ended=how, **self._last)
            self._write()

    def _tell(self, **now: object) -> None:
        self.status = msgspec.structs.replace(self.status, **now)
        self._last = {}

    def _write(self) -> None:
        self.written = time.monotonic()
        told = msgspec.structs.replace(self.status, memory=memory(), updated=time.time())
        write_atomic(self.run.status, msgspec.json.format(msgspec.json.encode(told)))
