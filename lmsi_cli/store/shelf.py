"""The records of one kind of a run: lines of one file, or shards in a folder, never both.

Knows both formats and chooses by what is there; nothing of what the records mean.

    paths = Shelf(root / "paths.jsonl", root / "paths", Path)
    paths.form()                   # "jsonl", "parquet", or None if nothing is there yet
    for path in paths.read(): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, Protocol, Self, TypeVar

from lmsi_cli.errors import LmsiError
from lmsi_cli.indexed import Indexed
from lmsi_cli.lines import appender, read_records
from lmsi_cli.records import Record
from lmsi_cli.store.gathered import Gathered
from lmsi_cli.store.schema import arrow
from lmsi_cli.store.shards import Shards, line_count, shard_appender

R = TypeVar("R", bound=Record)
W = TypeVar("W", bound=Record, contravariant=True)

Form = Literal["jsonl", "parquet"]
TOLD = {"jsonl": "JSON lines", "parquet": "Parquet shards"}


class Writer(Protocol[W]):
    """Takes records one by one."""

    def write(self, record: W) -> None:
        """Append one record; all of it or none."""


class Grouped(Protocol[R]):
    """Records by key; ``indexed.Indexed`` and ``Gathered`` say more."""

    most: int

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...
    def __iter__(self) -> Iterator[tuple[str, list[R]]]: ...
    def __len__(self) -> int: ...
    def get(self, key: str) -> list[R]:
        """One group; empty if there is none of that key."""

    def close(self) -> None:
        """Let go of all files."""


class Shelf(Generic[R]):
    """The records of one kind; making one touches no disk."""

    def __init__(self, file: Path, folder: Path, kind: type[R]) -> None:
        self.file, self.kind = file, kind
        self.shards = Shards(folder, kind)

    @property
    def place(self) -> Path:
        """What to name in a message."""
        return self.shards.folder if self._sharded() else self.file

    def form(self) -> Form | None:
        """The format of what is there; None if nothing is.

        Raises:
            LmsiError: There are both.
        """
        lines = self.file.exists()
        if self._sharded() and lines and self.file.stat().st_size:
            raise LmsiError(
                f"{self.file} and {self.shards.folder}: paths in two formats, and one counts",
                hint="`lmsi convert` finishes a conversion; else move one of the two away",
            )
        return "parquet" if self._sharded() else "jsonl" if lines else None

    def exists(self) -> bool:
        """Whether there is a file of records, even without any; LmsiError as ``form``."""
        return self.form() is not None

    def read(self) -> Iterator[R]:
        """Yield all records in the order of writing; none if nothing is there.

        Raises:
            LmsiError: A file is broken or holds other records; there are two formats.
        """
        form = self.form()
        if form == "parquet":
            return self.shards.read()
        return read_records(self.file, self.kind) if form else iter(())

    def count(self) -> int:
        """How many records, by their lines and the shards' own figures."""
        form = self.form()
        if form == "parquet":
            return self.shards.count()
        return line_count(self.file) if form else 0

    def size(self) -> int:
        """Bytes on the disk."""
        form = self.form()
        if form == "parquet":
            return self.shards.size()
        return self.file.stat().st_size if form else 0

    def settle(self, wanted: Form | Literal["auto"], usual: Form = "jsonl") -> Form:
        """The format to write in: as there, else as wanted, else as usual.

        Raises:
            LmsiError: What is there has another format than the wanted one; pyarrow is missing.
        """
        there = self.form()
        if there and wanted not in ("auto", there):
            raise LmsiError(
                f"{self.place}: has {TOLD[there]}, and --format {wanted} was given",
                hint=f"`lmsi convert {self.file.parent} --to {wanted}` turns it into {wanted}",
            )
        form = there or (usual if wanted == "auto" else wanted)
        if form == "parquet":
            arrow()  # before the work, not at its end
        return form

    def appending(self, form: Form) -> AbstractContextManager[Writer[R]]:
        """Open for adding records in a format that ``settle`` gave."""
        if form == "parquet":
            return shard_appender(self.shards)
        return appender(self.file, self.kind)

    def grouped(
        self, key: str, number: str, what: str, read: Callable[[int], None] = lambda _: None
    ) -> Grouped[R]:
        """Bring records of one key together; arguments and errors as ``Gathered``."""
        if self.form() == "parquet":
            return Gathered(self.shards, key, number, what, read)
        return Indexed(self.file, self.kind, attrgetter(key, number), what, read)

    def files(self) -> list[Path]:
        """Every file that holds records, or did: for deleting."""
        folder = self.shards.folder
        return [self.file, *sorted(folder.glob("part-*.parquet")), *sorted(folder.glob("_open-*"))]

    def _sharded(self) -> bool:
        return self.shards.exists()
