"""Shards read in the order of a key, in memory that does not grow with their number.

Knows rows and their key; nothing of what they mean. The paths of a question are scattered over all
shards. Some keys are looked at to cut the rows into parts of like size; one pass puts each row into
the file of its part, in a temporary folder (``TMPDIR``); then part after part is sorted in memory.
Parts are ranges and not hashes of the key, so groups come in the order of their keys, as from
``indexed.Indexed``:

    with Gathered(shards, "question_id", "path", what="path {number} of {key!r}") as paths:
        for question_id, group in paths:        # ("q1", [Path(path=0, ...), Path(path=1, ...)])
            ...
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records
from lmsi_cli.records import Record
from lmsi_cli.store.parts import Order, Part
from lmsi_cli.store.schema import GROUP, arrow, open_rows, read_batches, schema_of, tables_of
from lmsi_cli.store.shards import Shards

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R", bound=Record)

PART = 48 << 20  # bytes of a part, uncompressed; sorting it takes some three times that
MOST_PARTS = 400  # files that are open at once; below the usual limit of 1,024
LOOKED_AT = 64  # keys of each row group that the cuts are chosen by


class Gathered(Generic[R]):
    """The records of a folder of shards by key: groups in the order of keys, then of numbers.

    ``most`` is the largest number, -1 without records.
    """

    def __init__(
        self,
        shards: Shards[R],
        key: str,
        number: str,
        what: str,
        read: Callable[[int], None] = lambda _: None,
        part: int = PART,
    ) -> None:
        """Read all shards once.

        Args:
            shards: The folder; a journal that is still open is read too.
            key: The field that groups.
            number: The field that orders a group; no two records share both.
            what: Names a record in errors, with ``{key}`` and ``{number}``.
            read: Is told the MiB that are read.
            part: Bytes that are sorted at once.

        Raises:
            LmsiError: A shard is broken, or the temporary folder is full. That a record is there
                twice is told when its group is reached.
        """
        self._shards, self._order = shards, Order(key, number, what)
        self.most, self._loaded, self._told = -1, (-1, None), read
        self._cuts = self._choose(part)
        self._temp = tempfile.TemporaryDirectory(prefix="lmsi-vote-")
        try:
            self._scatter()
        except BaseException as e:
            self.close()
            if isinstance(e, OSError | arrow().ArrowException):
                raise LmsiError(
                    f"{shards.folder}: cannot be sorted: {e}", hint="is the disk of TMPDIR full?"
                ) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the parts."""
        self._temp.cleanup()

    def __iter__(self) -> Iterator[tuple[str, list[R]]]:
        for part in self._parts():
            yield from part

    def __len__(self) -> int:
        return sum(part.count() for part in self._parts())

    def _parts(self) -> Iterator[Part[R]]:
        return map(self._part, range(len(self._cuts) + 1))

    def get(self, key: str) -> list[R]:
        """Read one group; empty if there is none of that key."""
        part = bisect_right(self._cuts, key)
        if self._loaded[0] != part:  # questions are asked for in order, as a rule
            self._loaded = part, self._part(part).sorted()
        table: Any = self._loaded[1]
        keys = table[self._order.key]
        low, high = _place(keys, key, bisect_left), _place(keys, key, bisect_right)
        return next((g for _, g in self._part(part).groups(table.slice(low, high - low))), [])

    def _schema(self) -> pa.Schema:
        return schema_of(self._shards.kind)

    def _choose(self, part: int) -> list[str]:
        """The keys at which a new part begins, sorted."""
        keys: list[str] = []
        size = 0
        for shard in self._shards.shards():
            with open_rows(shard, self._shards.kind) as file:
                groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
                size += sum(g.total_byte_size for g in groups)
            for batch in read_batches(shard, self._shards.kind, GROUP, [self._order.key]):
                keys += batch[self._order.key].take(_spread(batch.num_rows)).to_pylist()
        size += sum(j.stat().st_size for j in self._shards.journals())
        parts = min(-(-size // part), MOST_PARTS, len(keys))
        keys.sort()
        return sorted({keys[i * len(keys) // parts] for i in range(1, parts)})

    def _scatter(self) -> None:
        """Put every row into the file of its part."""
        pa, schema = arrow(), self._schema()
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with ExitStack() as stack:
            files = [
                stack.enter_context(pa.ipc.new_stream(str(self._file(i)), schema, options=options))
                for i in range(len(self._cuts) + 1)
            ]
            for batch in self._batches():
                ordered = batch.take(pa.compute.sort_indices(batch[self._order.key]))
                self.most = max(self.most, pa.compute.max(batch[self._order.number]).as_py())
                for part, low, high in self._runs(ordered[self._order.key]):
                    files[part].write_batch(ordered.slice(low, high - low))

    def _runs(self, keys: pa.Array) -> Iterator[tuple[int, int, int]]:
        """Which rows of a sorted piece belong to which part."""
        low = 0
        for part, cut in enumerate([*self._cuts, None]):
            high = len(keys) if cut is None else _place(keys, cut, bisect_left)
            if high > low:
                yield part, low, high
            low = high

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, with the columns of this version's record."""
        kind, mib = self._shards.kind, 0
        for shard in self._shards.shards():
            for batch in read_batches(shard, kind, GROUP):
                yield _whole(batch, self._schema())
            mib += shard.stat().st_size
            self._told(mib >> 20)
        for journal in self._shards.journals():
            for table in tables_of(read_records(journal, kind), kind):
                yield from table.to_batches()

    def _file(self, part: int) -> Path:
        return Path(self._temp.name) / f"{part}.arrows"

    def _part(self, part: int) -> Part[R]:
        return Part(self._file(part), self._shards.folder, self._shards.kind, self._order)


class _Keys:
    """A column as ``bisect`` wants it."""

    def __init__(self, column: Any) -> None:  # noqa: ANN401 - of pyarrow
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, i: int) -> str:
        return str(self._column[i].as_py())


def _place(column: Any, key: str, find: Callable[[Any, str], int]) -> int:  # noqa: ANN401
    return find(_Keys(column), key)


def _spread(rows: int) -> list[int]:
    most = min(rows, LOOKED_AT)
    return [i * rows // most for i in range(most)]


def _whole(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A piece with all columns, in order; those that an older version lacks are null."""
    pa = arrow()
    there = set(batch.schema.names)
    columns = [
        batch[f.name] if f.name in there else pa.nulls(batch.num_rows, f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
