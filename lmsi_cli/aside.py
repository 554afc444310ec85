"""Work in a process of its own, as if it were done here: progress, errors and Ctrl-C included.

PyTorch and llama.cpp must not compute in one process (``engine/cpu_check.py``), so who trains does
it aside; its memory is given back whole, too. Knows nothing of the work. The process ends with its
pipe: when the work is done, and when this process dies. What comes through the pipe:

    ("advance", (7,), {"loss": 0.41})    ("done", <result>)    ("failed", LmsiError("..."))
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, NoReturn

from lmsi_cli.atomic import refusal
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress

OURS = "lmsi_cli"  # the logger whose level -v sets


def run(work: Callable[..., Any], *given: object, progress: Progress, name: str) -> Any:  # noqa: ANN401 - as the work
    """Call ``work(*given, progress=...)`` in another process and give what it returns.

    Args:
        work: A function of a module; it, what it is given and what it returns must pickle.
        given: Its arguments.
        progress: Is told of what the work tells its own.
        name: Of the work, for the case that its process dies.

    Raises:
        LmsiError: As the work, or its process died.
        KeyboardInterrupt: Once the work has met it as well, and has saved what it saves then.
    """
    spawn = multiprocessing.get_context("spawn")  # threads of llama.cpp do not live through a fork
    mine, theirs = spawn.Pipe()
    level = logging.getLogger(OURS).level
    process = spawn.Process(target=_serve, args=(theirs, level, work, given), daemon=True)
    try:
        with _deaf(), _no_script():
            process.start()
            theirs.close()
        while True:
            kind, content, *figures = mine.recv()
            if kind == "done":
                return content
            if kind == "failed":
                raise content
            getattr(progress, kind)(*content, **figures[0])
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = "the same command goes on from what was saved (signal 9: mostly out of memory)"
        raise LmsiError(f"the process of {name} died ({how})", hint) from None
    except KeyboardInterrupt:
        if process.is_alive():
            process.terminate()
            process.join()  # before its pipe ends it
        raise
    finally:
        mine.close()  # it ends with its pipe, wherever it is
        if process.is_alive():
            process.join()


@contextmanager
def _no_script() -> Iterator[None]:
    """Start a process that does not run the user's script again, as multiprocessing would."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _deaf() -> Iterator[None]:
    """Start a process that never meets Ctrl-C: it inherits the mask, for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the first start begins it, which lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Telling:
    """The other side's progress: whatever is told goes through the pipe."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe = pipe

    def start(self, label: str, total: int) -> None:
        self._pipe.send(("start", (label, total), {}))

    def advance(self, done: int, **figures: float | str) -> None:
        self._pipe.send(("advance", (done,), figures))

    def say(self, text: str) -> None:
        self._pipe.send(("say", (text,), {}))


def _serve(
    pipe: Connection[Any, Any], level: int, work: Callable[..., Any], given: tuple[object, ...]
) -> None:
    """The life of the process. A fault of the program shows its traceback, as it would there."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    if level:
        logging.basicConfig(format="%(message)s")
        logging.getLogger(OURS).setLevel(level)
    with suppress(KeyboardInterrupt):
        try:
            message = ("done", work(*given, progress=_Telling(pipe)))
        except LmsiError as e:
            message = ("failed", e)
        except OSError as e:
            message = ("failed", refusal(e))
        pipe.send(message)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with(pipe: Connection[Any, Any]) -> None:
    """Nothing is ever sent to the work, so this waits for the end of the other side."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
