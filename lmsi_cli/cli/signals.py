"""How the process ends: two seconds after SIGTERM with its files whole, at once after a failure.

Knows signals and nothing of commands. Python runs its own handlers between two bytecodes only,
and a long decode or training step is one call into C. So a thread waits at the other end of the
wake-up pipe, which the C handler writes to at once: the main thread gets ``GRACE`` seconds to
unwind by itself, then the thread ends the process. That loses nothing: a finished path is in the
kernel's hands since its line was written, whole files are renamed into place, and the lock of the
run folder goes with the process.

    lmsi sample ... & kill $!
    -> terminated; what was finished is saved, the same command goes on     (exit code 143)
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

TERMINATED = 128 + signal.SIGTERM
GRACE = 1.2  # seconds to unwind in: a training step between two checkpoints is given up
SHOW_CURSOR = "\x1b[?25h"  # a progress bar that is not taken down leaves it hidden


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: what cleans up after Ctrl-C cleans up after it."""


def obey(words: str) -> None:
    """Obey SIGTERM from here on, which Windows does not have; called once, in the main thread.

    Args:
        words: A line for the user, if the process has to be ended from outside.
    """
    if sys.platform == "win32":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, _raise)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_late, args=(reader, words), daemon=True).start()


def _raise(_number: int, _frame: object) -> NoReturn:
    raise Terminated


def _end_late(reader: int, words: str) -> None:
    """Wait for SIGTERM among the signals, and end what has not ended by itself soon after."""
    while os.read(reader, 1) != bytes([signal.SIGTERM]):
        continue
    time.sleep(GRACE)
    os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{words}\n".encode())
    os._exit(TERMINATED)


@contextmanager
def at_once(several: bool) -> Iterator[None]:
    """End a failed process of several without closing Python down.

    Threads of torch.distributed may still come back from a broken exchange, and one that asks for
    Python while that closes down aborts the process: exit code 134 in place of 1.
    """
    try:
        yield
    except SystemExit as e:
        if several and isinstance(e.code, int) and e.code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(e.code)
        raise
