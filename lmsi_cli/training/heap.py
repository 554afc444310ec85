"""Keeps the memory of a training process where its largest step put it.

Rows differ in length from step to step, and two things grow with every new length though nothing
is kept on purpose. glibc's heap gets holes that the next, slightly longer tensor does not fit into;
and oneDNN keeps up to 1,024 prepared products, one per shape and half a megabyte each. So the holes
are given back whenever the process has grown by a fifth since, and oneDNN keeps fewer.

    Trimmer(low=905969664)
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass

# Each holds half a megabyte; a layer has about fifty shapes, so with fewer each would be made anew.
SHAPES = 64
GROWTH = 1.2  # beyond this, giving back (0.3 s per GB, for it must be mapped again) is worth it


def prepare() -> None:
    """Limit oneDNN's store of prepared products; call it before torch multiplies anything."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(SHAPES))


@dataclass
class Trimmer:
    """Gives free memory back to the system between two steps, where the C library can."""

    low: int = 0  # bytes resident after the step that followed the last return; 0: not known yet

    def after_step(self) -> None:
        """Give back what lies idle if it has become much."""
        now = resident()
        if not self.low:
            self.low = now
        elif now > GROWTH * self.low:
            give_back()
            self.low = 0


def resident() -> int:
    """Bytes of this process that are in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return the heap's free pages to the system; nothing happens without glibc."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
