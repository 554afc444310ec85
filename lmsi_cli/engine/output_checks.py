"""What can go wrong while a model draws paths, each found where it shows and said in one line.

A model file that changes under our hands, weights that are not numbers, a cache that does not fit
the memory. Knows neither llama.cpp nor questions: files, arrays and counts only.

    mark = Mark(Path("m.gguf"))     # size and time of change of the file as it is loaded
    mark.check()                    # LmsiError once these differ: the file was written to
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import parts_of

LOG = logging.getLogger(__name__)
T = TypeVar("T")


class NotNumbersError(ArithmeticError):
    """The model's output is NaN or infinite; carries the question's id."""


class NoMemoryError(LmsiError):
    """A cache does not fit the memory; one for fewer paths may."""


def first_nan(logprobs: NDArray[np.floating[Any]]) -> int | None:
    """The first row whose log-probability is no finite number; one NaN logit in a row is enough."""
    bad = np.flatnonzero(~np.isfinite(logprobs))
    return int(bad[0]) if len(bad) else None


def not_numbers(question_id: str, model: Path, adapter: str | None) -> LmsiError:
    """Name the files that can be the reason."""
    where = str(model) if adapter is None else f"{model} with {adapter}"
    hint = "leave the adapter out to see which of the two it is; train it again if it is damaged"
    if adapter is None:
        hint = "download or convert it again, or use another quantisation: its weights overflow"
    problem = f"the model computes NaN instead of logits (at question {question_id!r})"
    return LmsiError(f"{where}: {problem}", hint)


class Mark:
    """A model's files as they were when it was loaded; llama.cpp goes on reading from them.

    llama.cpp maps a model instead of reading it. Written in place, the file changes the weights of
    the running model: the paths that follow are nobody's. Cut short in place, it kills the process
    with SIGBUS at the next decode, which no check can forestall; paths outlive that as they outlive
    kill -9. Deleted, moved or replaced by a rename, the old bytes stay mapped until the end. What
    is seen at the path decides: gone is borne, changed is refused, because a file that was renamed
    into place cannot be told from one that was written.
    """

    def __init__(self, path: Path) -> None:
        """Look at a file, or all parts of a model, before it is loaded.

        A single file that is not there is another's to report.
        """
        self.seen = {part: _look(part) or (0, 0) for part in parts_of(path)}

    def check(self) -> None:
        """Compare; a microsecond, so it can be asked before every path that is written.

        Raises:
            LmsiError: The file has changed.
        """
        for path, seen in self.seen.items():
            if _look(path) not in (None, seen):
                raise LmsiError(
                    f"{path}: the model file has changed while it was in use",
                    hint="put the old file back and give the same command again: it goes on with "
                    "what was finished before; or start over with --overwrite",
                )


def _look(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def widest(width: int, open_: Callable[[int], T]) -> tuple[T, int]:
    """Open for as many paths as the memory holds: ``width``, or half of it again and again.

    Args:
        width: Paths side by side, at least 1.
        open_: Opens for a width; raises NoMemoryError if that is too much.

    Returns:
        What was opened, and for how many paths; a smaller number than was asked for is said.

    Raises:
        NoMemoryError: Not even one path fits.
    """
    fits, reason = width, ""
    while True:
        try:
            opened = open_(fits)
            break
        except NoMemoryError as e:
            if fits == 1:
                raise
            fits, reason = fits // 2, str(e)
    if reason:
        LOG.warning("note: %d paths are drawn side by side, not %d: %s", fits, width, reason)
    return opened, fits
