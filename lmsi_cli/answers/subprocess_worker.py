r"""A child process that answers line by line, and is replaced when it does not.

Knows processes and time limits; nothing of what is asked. Unlike an alarm signal this works on
every thread and system, and ends what runs inside C:

    Apart("lmsi_cli.answers.formula", 1.0).ask("\\sqrt{4}") -> "2"
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from lmsi_cli.errors import LmsiError

STARTING = 60.0  # seconds by the clock to start and import
GRACE = 10  # times its CPU seconds a question may take by the clock: a machine may be busy


class Apart:
    """One child at most; started by the first question, on whichever thread."""

    def __init__(self, module: str, seconds: float) -> None:
        """Name the module to run and the CPU seconds that a question has."""
        self.module, self.seconds = module, seconds
        self.lock = threading.Lock()
        self.child: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread()
        atexit.register(self.stop)

    def ask(self, question: str) -> Any:  # noqa: ANN401 - what the child says
        """Ask, and wait for the answer; None if the child dies of it or its time is up.

        Raises:
            LmsiError: The child cannot be started.
        """
        with self.lock:
            answer = self._told(self.child or self._started(), json.dumps(question))
            if not answer:
                self.stop()
            return json.loads(answer) if answer else None

    def stop(self) -> None:
        """End the child, if there is one."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            child.wait()
            self.reader.join()  # it has met the end of the child's output
            for stream in (child.stdin, child.stdout):
                with suppress(OSError):  # a line that the child did not live to read
                    stream.close()  # type: ignore[union-attr]

    def _started(self) -> subprocess.Popen[str]:
        """Start the child and wait until it is ready."""
        command = [sys.executable, "-P", "-m", self.module, str(self.seconds)]
        pipe, silent = subprocess.PIPE, subprocess.DEVNULL
        self.child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=silent, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C is for lmsi; the child ends with its standard input
        )  # fmt: skip
        self.lines = queue.Queue()
        pipes = (self.child.stdout, self.lines)
        self.reader = threading.Thread(target=_pass_on, args=pipes, daemon=True)
        self.reader.start()
        if not self._next(STARTING):
            self.stop()
            raise LmsiError(
                f"the child process {self.module} does not start",
                hint=f"see why: python -m {self.module} 1",
            )
        return self.child

    def _told(self, child: subprocess.Popen[str], line: str) -> str:
        assert child.stdin is not None
        try:
            child.stdin.write(line + "\n")
            child.stdin.flush()
        except OSError:
            return ""
        return self._next(GRACE * self.seconds)

    def _next(self, seconds: float) -> str:
        """The child's next line; empty if it died or is too late."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return ""


def _pass_on(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Hand over each line, and an empty one when the child has ended."""
    for line in stream:
        lines.put(line)
    lines.put("")
