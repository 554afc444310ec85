r"""Records in a folder of Parquet files that survive a killed writer.

Parquet cannot be appended to, so records are first lines of a journal, as in ``lines.py``; a full
journal is written as a shard, beside its place and renamed, and then deleted. A journal is named by
the shard that it will become, and counts only while that is not there: whenever the writer dies,
each record is in exactly one of the two.

    paths/part-000000.parquet     131,072 rows
    paths/_open-000001.jsonl      {"logprob":-4.1,...}\n      (_ hides it from readers of folders)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from lmsi_cli.lines import Appender, appender, read_records, replacing, write_error
from lmsi_cli.records import Record
from lmsi_cli.store.schema import arrow, open_rows, read_rows, write_rows

R = TypeVar("R", bound=Record)

ROWS = 131_072  # of a shard: four row groups
BYTES = 256 << 20  # of a journal, if paths are long: a shard is made in some seconds
ASIDE = ".unsent"  # ends the name of a file that another machine's work has overtaken
_SHARD = re.compile(r"part-(\d{6,})\.parquet\Z")
_JOURNAL = re.compile(r"_open-(\d{6,})\.jsonl\Z")


class Shards(Generic[R]):
    """The records of one kind in a folder; making one touches no disk."""

    def __init__(self, folder: Path, kind: type[R]) -> None:
        self.folder, self.kind = folder, kind

    def shards(self) -> list[Path]:
        """All Parquet files, in the order of their names; other tools' names are read too."""
        return sorted(self.folder.glob("*.parquet"))

    def journals(self) -> list[Path]:
        """The journals that count: those that have not become shards. One, as a rule, or none."""
        found = sorted(self.folder.glob("_open-*.jsonl"))
        return [j for j in found if _JOURNAL.match(j.name) and not self.shard_of(j).exists()]

    def shard_of(self, journal: Path) -> Path:
        """The shard that a journal becomes."""
        return self.folder / f"part-{_number(_JOURNAL, journal):06d}.parquet"

    def exists(self) -> bool:
        """Whether there is any file of ours, even an empty journal."""
        return bool(self.journals() or self.shards())

    def read(self) -> Iterator[R]:
        """Yield all records in the order of writing."""
        journals = self.journals()  # before the shards: one that is sealed meanwhile is a shard
        shards = self.shards()
        for shard in shards:
            yield from read_rows(shard, self.kind)
        for journal in journals:
            if self.shard_of(journal) not in shards:
                yield from self._read_open(journal)

    def _read_open(self, journal: Path) -> Iterator[R]:
        if self.shard_of(journal).exists():  # the writer was quicker
            return read_rows(self.shard_of(journal), self.kind)
        return read_records(journal, self.kind)

    def count(self) -> int:
        """How many records, without reading the shards: each tells its rows."""
        return sum(map(self._rows, self.shards())) + sum(map(line_count, self.journals()))

    def _rows(self, shard: Path) -> int:
        with open_rows(shard, self.kind) as file:
            return int(file.metadata.num_rows)

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(f.stat().st_size for f in (*self.shards(), *self.journals()))

    def mend(self) -> Path:
        """Finish what a killed writer left, and give the journal to go on with.

        Raises:
            LmsiError: A shard or a journal cannot be read or written.
        """
        for journal in sorted(self.folder.glob("_open-*.jsonl")):
            if _JOURNAL.match(journal.name) and self.shard_of(journal).exists():
                self._drop(journal)
        open_ = self.journals()
        for journal in open_[:-1]:
            self.seal(journal)
        return open_[-1] if open_ else self.next_journal()

    def next_journal(self) -> Path:
        """The journal behind the last shard."""
        used = [int(m[1]) for s in self.shards() if (m := _SHARD.match(s.name))]
        return self.folder / f"_open-{max(used, default=-1) + 1:06d}.jsonl"

    def seal(self, journal: Path) -> None:
        """Make a journal a shard; an empty one is deleted."""
        if any(True for _ in read_records(journal, self.kind)):
            with replacing(self.shard_of(journal)) as file:
                write_rows(file, read_records(journal, self.kind), self.kind)
            _sync_folder(self.folder)
        journal.unlink()

    def _drop(self, journal: Path) -> None:
        """Delete a journal that is a shard; keep it aside if the shard is of other records."""
        if sum(1 for _ in read_records(journal, self.kind)) == self._rows(self.shard_of(journal)):
            journal.unlink()
        else:
            journal.rename(journal.with_name(journal.name + ASIDE))


class ShardAppender(Generic[R]):
    """Appends records to a folder of shards; made by ``shard_appender``."""

    def __init__(self, shards: Shards[R], journal: Path, rows: int = ROWS) -> None:
        self._shards, self._most = shards, rows
        self._stack = ExitStack()
        self._open(journal)

    def write(self, record: R) -> None:
        """Append one record; all of it or none. LmsiError as ``lines.Appender.write``."""
        self._lines.write(record)
        self._rows += 1
        if self._rows >= self._most or self._lines.end >= BYTES:
            self.seal()
            self._open(self._shards.next_journal())

    def seal(self) -> None:
        """Make a shard of what is in the journal."""
        self._stack.close()
        self._shards.seal(self._journal)

    def close(self) -> None:
        """Let go of the journal, which stays."""
        self._stack.close()

    def _open(self, journal: Path) -> None:
        self._journal = journal
        self._lines: Appender[R] = self._stack.enter_context(appender(journal, self._shards.kind))
        self._rows = line_count(journal)


@contextmanager
def shard_appender(shards: Shards[R], rows: int = ROWS) -> Iterator[ShardAppender[R]]:
    """Add records to a folder of shards; an orderly end makes a shard of the last ones.

    Args:
        shards: The folder is made if missing.
        rows: Of a shard.

    Raises:
        LmsiError: A file is broken, or a write fails; what was written before stays.
    """
    arrow()
    try:
        shards.folder.mkdir(parents=True, exist_ok=True)
        lines = ShardAppender(shards, shards.mend(), rows)
    except OSError as e:
        raise write_error(shards.folder, e) from e
    try:
        yield lines
    except BaseException:  # Ctrl-C, too: the journal stays for the next call
        lines.close()
        raise
    lines.seal()


def _number(pattern: re.Pattern[str], path: Path) -> int:
    found = pattern.match(path.name)
    assert found is not None
    return int(found[1])


def line_count(path: Path) -> int:
    """Count lines without parsing them."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _sync_folder(folder: Path) -> None:
    """Force a renaming onto the disk before its journal goes; Windows has no such call."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
