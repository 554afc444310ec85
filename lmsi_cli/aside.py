"""Work in a process of its own, as if it were done here: progress, errors and Ctrl-C included.

PyTorch and llama.cpp must not compute in one process (``engine/cpu_check.py``), so training runs
aside, which also returns all its memory. Knows nothing of the work. The process ends when its pipe
closes: when the work is done, or when this process dies. What comes through the pipe:

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
from types import ModuleType, SimpleNamespace
from typing import Any

from lmsi_cli.atomic import refusal
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress

OURS = "lmsi_cli"  # the logger whose level -v sets


def run(work: Callable[..., Any], *given: object, progress: Progress, name: str) -> Any:  # noqa: ANN401 - as the work
    """Call ``work(*given, progress=...)`` in another process and return its result.

    ``work`` is a function of a module; it, its arguments and its result must be picklable. What it
    reports to its progress goes to ``progress``. LmsiError: the work raised it, or its process
    died (``name`` says which). KeyboardInterrupt: after the work was interrupted as well and has
    saved what it saves then.
    """
    spawn = multiprocessing.get_context("spawn")  # llama.cpp's threads do not survive a fork
    mine, theirs = spawn.Pipe()
    level = logging.getLogger(OURS).level
    process = spawn.Process(target=_serve, args=(theirs, level, work, given), daemon=True)
    try:
        with _sheltered():
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
            process.join()  # before closing the pipe ends it
        raise
    finally:
        mine.close()  # ends the process, whatever it is doing
        if process.is_alive():
            process.join()


@contextmanager
def _sheltered() -> Iterator[None]:
    """Keep Ctrl-C and the user's script from a process started inside.

    It inherits the signal mask, for good; the script would be run again, as spawning does.
    """
    script, masks = sys.modules["__main__"], hasattr(signal, "pthread_sigmask")
    if masks:
        resource_tracker.ensure_running()  # else the first start launches it, which lifts the mask
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    pipe: Connection[Any, Any], level: int, work: Callable[..., Any], given: tuple[object, ...]
) -> None:
    """What the process runs; a bug shows its traceback, as it would in the parent process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    if level:
        logging.basicConfig(format="%(message)s")
        logging.getLogger(OURS).setLevel(level)

    def sends(kind: str) -> Callable[..., None]:
        return lambda *told, **figures: pipe.send((kind, told, figures))

    progress = SimpleNamespace(**{kind: sends(kind) for kind in ("start", "advance", "say")})
    with suppress(KeyboardInterrupt):
        try:
            message = ("done", work(*given, progress=progress))
        except LmsiError as e:
            message = ("failed", e)
        except OSError as e:
            message = ("failed", refusal(e))
        pipe.send(message)


def _end_with(pipe: Connection[Any, Any]) -> None:
    """Wait until the parent closes the pipe, to which it never sends, and end this process."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
