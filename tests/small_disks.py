"""A disk that takes so many more bytes of the files that are appended to, and is full then."""

import io
from contextlib import contextmanager

import pytest

from lmsi_cli import jsonl


@contextmanager
def small_disk(room):
    """Let ``jsonl.appender`` write ``room`` more bytes, and then meet what a full disk says."""
    left, open_mended = [room], jsonl.open_mended

    class File(io.FileIO):
        def write(self, data):
            if not left[0]:
                raise OSError(28, "No space left on device")
            part = bytes(data)[: left[0]]
            left[0] -= len(part)
            return super().write(part)

    def open_small(path, kind):
        open_mended(path, kind).close()
        return File(path, "ab")

    with pytest.MonkeyPatch.context() as m:
        m.setattr(jsonl, "open_mended", open_small)
        yield
