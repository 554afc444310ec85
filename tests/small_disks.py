"""A disk that takes so many more bytes of the files that are appended to, and is full then."""

import io
from contextlib import contextmanager

import pytest

from lmsi_cli import jsonl


class _Disk:
    """The bytes that are left, for all files together."""

    def __init__(self, room):
        self.room = room

    def take(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        part = bytes(data)[: self.room]
        self.room -= len(part)
        return part


class _File(io.FileIO):
    disk: _Disk

    def write(self, data):
        return super().write(self.disk.take(data))


@contextmanager
def small_disk(room):
    """Let ``jsonl.appender`` write ``room`` more bytes, and then meet what a full disk says."""
    open_mended, disk = jsonl.open_mended, _Disk(room)

    def open_small(path, kind):
        open_mended(path, kind).close()
        file = _File(path, "ab")
        file.disk = disk
        return file

    with pytest.MonkeyPatch.context() as m:
        m.setattr(jsonl, "open_mended", open_small)
        yield
