r"""Work that may never end, done in a child process with bounds on time and memory.

Knows JSON lines and processes; nothing of the work. A question is a line in, its answer a line out.
The system kills a child that exceeds its CPU time, and the next question starts another:

    Apart("lmsi_cli.answers.formula", 1.0).ask("\\sqrt{4}") -> "2"
    serve(spelled, seconds=1.0, memory=4 << 30)    # what the child does
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lmsi_cli.errors import LmsiError

STARTING = 60.0  # wall-clock seconds to start and import
GRACE = 10  # wall-clock limit per question, in multiples of its CPU seconds: machines may be busy


class Apart:
    """A child process that answers line by line, and is replaced when it does not.

    There is at most one child, started by the first question from any thread. Unlike an alarm
    signal, this works on every thread and system, and stops code that runs inside C.
    """

    def __init__(self, module: str, seconds: float) -> None:
        """Set the module to run and the CPU seconds that a question may take."""
        self.module, self.seconds = module, seconds
        self.lock = threading.Lock()
        self.child: subprocess.Popen[str] | None = None
        atexit.register(self.stop)

    def ask(self, question: object) -> Any:  # noqa: ANN401 - what the child says
        """Ask and wait for the answer; None if the child dies or runs out of time.

        LmsiError: it cannot be started.
        """
        with self.lock:
            if self.child is None:
                self._start()
            return self._exchange(json.dumps(question) + "\n", GRACE * self.seconds)

    def stop(self) -> None:
        """End the child, if there is one."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            with suppress(OSError):  # a line that the child did not live to read
                child.communicate()

    def _start(self) -> None:
        """Start the child and wait until it is ready."""
        command = [sys.executable, "-P", "-m", self.module, str(self.seconds)]
        pipe, silent = subprocess.PIPE, subprocess.DEVNULL
        self.child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=silent, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C is for lmsi; the child ends with its standard input
        )  # fmt: skip
        if not self._exchange("", STARTING):
            hint = f"see why: python -m {self.module} 1"
            raise LmsiError(f"the child process {self.module} does not start", hint)

    def _exchange(self, line: str, seconds: float) -> Any:  # noqa: ANN401 - what the child says
        """Write to the child and read its answer; None, and no child, if it died or was late."""
        child = self.child
        assert child and child.stdin and child.stdout
        late = threading.Timer(seconds, child.kill)
        late.start()
        try:
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
        except OSError:
            answer = ""
        except BaseException:  # Ctrl-C: the pending answer must not reach the next question
            self.stop()
            raise
        finally:
            late.cancel()
        if answer.endswith("\n"):
            return json.loads(answer)
        self.stop()
        return None


def serve(answer: Callable[[Any], Any], seconds: float, memory: int) -> None:
    """Run as the child: answer line by line until standard input ends; null where that fails.

    Questions and answers are JSON values. Each question has so many ``seconds`` of CPU time;
    ``memory`` is the address space of the whole child in bytes, the program itself included.
    """
    with suppress(ImportError, ValueError, OSError):  # not every system has the limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _say("true")
    for line in sys.stdin:
        if hasattr(signal, "setitimer"):  # the system kills it then, without running any Python
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, seconds)
        said = "null"
        with suppress(Exception):  # what it cannot handle has no answer
            said = json.dumps(answer(json.loads(line)))
        _say(said)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
