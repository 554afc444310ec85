"""A run folder in a store: a copy of it here that commands work in, fetched and given back.

Knows when files move: before a command, every ``EVERY`` seconds of its work those that are whole,
and all at its end. So a stage reads and appends as ever. What a crash leaves unsent lies in the
copy, and the same command on the same machine goes on from there:

    remote = Remote(Place("s3://bucket/runs/a", "s3"), own={"run.lock"})
    with remote.held():
        ...                     # works in remote.place.copy
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from lmsi_cli.errors import LmsiError
from lmsi_cli.store.lease import EVERY, Lease
from lmsi_cli.store.places import Place, told
from lmsi_cli.store.sync import Mirror, sendable


class Remote:
    """A folder of a store; making one connects to nothing."""

    def __init__(self, place: Place, own: set[str]) -> None:
        self.place, self._own = place, own
        self._holding = False

    @cached_property
    def _fs(self) -> Any:  # noqa: ANN401 - of fsspec
        with told(self.place, "cannot be reached"):
            return self.place.open()

    @cached_property
    def _mirror(self) -> Mirror:
        return Mirror(self._fs, self.place, self._own)

    def _lease(self) -> Lease:
        return Lease(self._fs, self.place, self._mirror.owner)

    def fetch(self) -> None:
        """Bring the copy up to date, to read it.

        Raises:
            LmsiError: The store refuses, or has nothing there.
        """
        if not self._mirror.pull() and not any(self._mirror.here()):
            raise LmsiError(
                f"{self.place.url}: no run is there",
                hint=f"`lmsi sample QUESTIONS -o {self.place.url}` begins one",
            )

    def give(self) -> None:
        """Upload what is new here, for a command that adds a file without holding the folder."""
        self._mirror.push()

    def in_use(self) -> bool:
        """Whether a machine writes there now."""
        return self._lease().fresh()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Work in the copy as the only writer; all of it is in the store after an orderly end.

        The caller holds the copy itself against other processes of this machine.

        Raises:
            LmsiError: Another machine writes there, the store refuses, or the upload fails.
        """
        if self._holding:  # for a run folder within this one
            yield
            return
        lease = self._lease()
        lease.take()
        self._holding = True
        try:
            self._mirror.pull()
            with _Courier(self._mirror, lease):
                yield
        except BaseException:  # Ctrl-C, too: what was finished is uploaded all the same
            self._holding = False
            with suppress(LmsiError):  # the first error tells more; the copy has everything
                self._finish(lease)
            raise
        self._holding = False
        self._finish(lease)

    def _finish(self, lease: Lease) -> None:
        lease.renew()  # never over another writer's work
        self._mirror.push()
        lease.release()


class _Courier:
    """Keeps the claim and sends whole files while a command works, on a thread of its own.

    A store that cannot be reached for a while is no reason to stop: the end shows whether it is.
    """

    def __init__(self, mirror: Mirror, lease: Lease) -> None:
        self._mirror, self._lease = mirror, lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lmsi-store", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(EVERY):
            with suppress(LmsiError):
                self._lease.renew()
                self._mirror.push(sendable)
