"""One writer at a time in a store that knows no locks.

Knows one small object; nothing of what it guards. Its holder writes it anew every ``EVERY``
seconds; one that nobody has written for ``SECONDS`` is free. Ages are told by the store's clock
alone, against a probe written at that moment, so no machine's clock can jump:

    {"owner": "5f0c...", "host": "gpu-3", "pid": 4711}
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.store.places import OBJECTS, Place, told

NAME = "run.lease"
SECONDS, EVERY = 120.0, 20.0


class Holder(msgspec.Struct, frozen=True):
    """Who writes; ``owner`` names a copy of the folder, of which one process at a time has hold."""

    owner: str
    host: str
    pid: int


class Lease:
    """A marker in a folder of a store."""

    def __init__(self, fs: Any, place: Place, owner: str) -> None:  # noqa: ANN401 - of fsspec
        self._fs, self._place = fs, place
        self._at = f"{place.url}/{NAME}"
        self._me = Holder(owner=owner, host=platform.node(), pid=os.getpid())

    def take(self) -> None:
        """Become the writer; also what shows that the store can be written to.

        Raises:
            LmsiError: Another machine is it, or the store refuses.
        """
        with told(self._place, "cannot be written"):
            if self._place.protocol not in OBJECTS:
                self._fs.makedirs(self._place.url, exist_ok=True)
            age, holder = self.age(), self._holder()
            if holder and holder.owner != self._me.owner and (age is None or age < SECONDS):
                raise self._held(holder, age)
            if holder:
                self._fs.rm_file(self._at)
            self._create()

    def renew(self) -> None:
        """Stay the writer.

        Raises:
            LmsiError: Another machine has become it, or the store refuses.
        """
        with told(self._place, "cannot be written"):
            holder = self._holder()
            if holder is None or holder.owner != self._me.owner:
                raise self._lost(holder)
            self._fs.pipe_file(self._at, msgspec.json.encode(self._me))

    def release(self) -> None:
        """Let the next one write, if it is still ours to give."""
        with told(self._place, "cannot be written"):
            holder = self._holder()
            if holder and holder.owner == self._me.owner:
                self._fs.rm_file(self._at)

    def fresh(self) -> bool:
        """Whether somebody writes there now."""
        with told(self._place, "cannot be read"):
            if self._holder() is None:
                return False
            try:
                age = self.age()
            except PermissionError:  # who may only read cannot ask for the time
                return True
            return age is None or age < SECONDS

    def age(self) -> float | None:
        """Seconds since the marker was written, by the store's clock; None if it tells no time.

        Below zero if the store's clock was set back: that counts as fresh.
        """
        probe = f"{self._at}.{self._me.owner}"
        self._fs.pipe_file(probe, b"")
        try:
            now = self._fs.modified(probe)
            return float((now - self._fs.modified(self._at)).total_seconds())
        except FileNotFoundError:
            return 0.0
        except NotImplementedError:
            return None
        finally:
            with suppress(FileNotFoundError):
                self._fs.rm_file(probe)

    def _holder(self) -> Holder | None:
        with suppress(FileNotFoundError):
            data = self._fs.cat_file(self._at)
            with suppress(msgspec.MsgspecError):
                return msgspec.json.decode(data, type=Holder)
            return Holder(owner="", host="unknown", pid=0)
        return None

    def _create(self) -> None:
        """Write the marker if there is none; of two machines at once, one is refused.

        Not every store can promise that: where one cannot, the marker is just written.
        """
        data = msgspec.json.encode(self._me)
        try:
            self._fs.pipe_file(self._at, data, mode="create")
        except (NotImplementedError, TypeError):
            self._fs.pipe_file(self._at, data)
        except FileExistsError:
            raise self._held(self._holder() or self._me, 0.0) from None

    def _held(self, holder: Holder, age: float | None) -> LmsiError:
        free = "" if age is None else f", seen {max(age, 0):.0f} s ago"
        wait = (
            f"delete {self._at} if nobody works there"
            if age is None
            else f"wait for it; if it is dead, its claim ends within {SECONDS:.0f} s of silence"
        )
        return LmsiError(
            f"run folder {self._place.url} is in use by process {holder.pid} on "
            f"{holder.host}{free}",
            hint=wait,
        )

    def _lost(self, holder: Holder | None) -> LmsiError:
        who = f"process {holder.pid} on {holder.host}" if holder else "somebody"
        return LmsiError(
            f"run folder {self._place.url} was taken over by {who}, since this one had been silent "
            f"for more than {SECONDS:.0f} s",
            hint="nothing more is uploaded; its paths are drawn by the other one",
        )
