"""Sequences whose items lie on the disk: a run's examples take a few bytes each in memory.

Knows files and places in them; nothing of what the items are. ``Lines`` reads a JSONL file where it
lies, ``Spill`` writes items into a file that has no name and goes with the process, and ``View``
shows some of a sequence's items, or each of them changed, as they are read:

    spill = Spill(folder)
    spill.add(b"...", length=212)
    spill.done(decode)[0]                              # decode(b"...")
    View(["a", "b", "c"], numbers=[2, 0])[0] == "c"
"""

from __future__ import annotations

import tempfile
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Generic, TypeVar, overload

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_placed, read_records, write_error
from lmsi_cli.records import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Lazy(Sequence[T]):
    """A sequence that makes an item whenever it is asked for it, and keeps none.

    It equals any sequence of the same items.
    """

    @abstractmethod
    def read(self, number: int) -> T:
        """Make the item of this number, 0 to ``len(self) - 1``."""

    def lengths(self) -> Sequence[int] | None:
        """The items' lengths in tokens, where these are known without reading them."""
        return None

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self.read(i) for i in range(len(self))[at]]
        return self.read(range(len(self))[at])

    def __iter__(self) -> Iterator[T]:
        return map(self.read, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Lines(Lazy[R]):
    """The records of a JSONL file; eight bytes each in memory."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        """Read the file once.

        Args:
            path: A JSONL file; a torn last line is left out.
            kind: What its lines are.

        Raises:
            LmsiError: The file is missing, or a line is not a ``kind``.
        """
        self._path, self._kind = path, kind
        self._decoder = msgspec.json.Decoder(kind)
        self._starts = array("Q", (start for start, _ in read_placed(path, kind)))
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[R]:
        return read_records(self._path, self._kind)

    def read(self, number: int) -> R:
        """The record of a number; LmsiError if the file is no longer what it was."""
        if self._file is None:
            self._file = self._path.open("rb")
            weakref.finalize(self, self._file.close)
        self._file.seek(self._starts[number])
        try:
            return self._decoder.decode(self._file.readline())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise LmsiError(
                f"{self._path}: was changed while it was read", hint="give the command again"
            ) from None


class Spilled(Lazy[T]):
    """Items of a nameless file, twelve bytes each in memory; made by ``Spill``."""

    def __init__(
        self,
        file: IO[bytes],
        starts: Sequence[int],
        lengths: Sequence[int],
        decode: Callable[[bytes], T],
    ) -> None:
        self._file, self._starts, self._lengths = file, starts, lengths
        self._decode = decode
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Sequence[int]:
        """As they were told to ``Spill.add``."""
        return self._lengths

    def read(self, number: int) -> T:
        """Decode the item of a number."""
        self._file.seek(self._starts[number])
        return self._decode(self._file.read(self._starts[number + 1] - self._starts[number]))


class Spill(Generic[T]):
    """Takes items one by one and keeps them on the disk."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open a file that no other process sees.

        Args:
            folder: Whose disk to use; if it is not there yet, that of the folder around it. None
                is the system's place for such files, which may be memory.

        Raises:
            LmsiError: Nothing can be written there.
        """
        home = next((p for p in (folder, *folder.parents) if p.is_dir()), None) if folder else None
        self._place = home or Path(tempfile.gettempdir())
        self._starts, self._lengths = array("Q", [0]), array("I")
        try:
            self._file = tempfile.TemporaryFile(dir=home)  # noqa: SIM115 - lives with its items
        except OSError as e:
            raise write_error(self._place, e) from e
        self._lost = weakref.finalize(self, self._file.close)

    def add(self, item: bytes, length: int) -> None:
        """Keep an item.

        Args:
            item: As ``decode`` will get it back.
            length: In tokens.

        Raises:
            LmsiError: The disk is full.
        """
        try:
            self._file.write(item)
        except OSError as e:
            raise write_error(self._place, e) from e
        self._starts.append(self._starts[-1] + len(item))
        self._lengths.append(length)

    def done(self, decode: Callable[[bytes], T]) -> Spilled[T]:
        """All items, in their order; LmsiError if the disk is full."""
        try:
            self._file.flush()
        except OSError as e:
            raise write_error(self._place, e) from e
        self._lost.detach()
        return Spilled(self._file, self._starts, self._lengths, decode)


class View(Lazy[T]):
    """Some of a sequence's items, each changed as it is read; the lengths must stay as they are."""

    def __init__(
        self,
        items: Sequence[T],
        numbers: Sequence[int] | None = None,
        change: Callable[[int, T], T] = lambda _, item: item,
    ) -> None:
        """Show ``items[numbers[i]]``, or ``items[i]``, as ``change(i, item)``.

        Args:
            items: What to look at.
            numbers: Of the items to show, in order; None for all.
            change: Gets the number here, and the item.
        """
        self._items, self._numbers, self._change = items, numbers, change

    def __len__(self) -> int:
        return len(self._items if self._numbers is None else self._numbers)

    def __iter__(self) -> Iterator[T]:
        if self._numbers is not None:
            return super().__iter__()
        return (self._change(i, item) for i, item in enumerate(self._items))

    def lengths(self) -> Sequence[int] | None:
        """Those of the items shown."""
        known = self._items.lengths() if isinstance(self._items, Lazy) else None
        if known is None or self._numbers is None:
            return known
        return array("I", (known[i] for i in self._numbers))

    def read(self, number: int) -> T:
        """The item shown under a number."""
        place = number if self._numbers is None else self._numbers[number]
        return self._change(number, self._items[place])
