"""One range of keys of a folder of shards, as a file of rows that is sorted in memory.

Knows rows and their key; nothing of how they came here:

    list(Part(file, shards.folder, Path, Order("question_id", "path", "path {number}")))
    -> [("q1", [Path(path=0, ...), Path(path=1, ...)]), ...]
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.store.schema import BATCH, arrow, records_of, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R", bound=Record)


class Order(NamedTuple):
    """The field that groups, the one that orders a group, and what a record is called in errors."""

    key: str
    number: str
    what: str


class Part(Generic[R]):
    """Groups in the order of keys, then of numbers; reading makes records of them."""

    def __init__(self, file: Path, folder: Path, kind: type[R], order: Order) -> None:
        self.file, self.folder, self.kind, self.order = file, folder, kind, order

    def __iter__(self) -> Iterator[tuple[str, list[R]]]:
        return self.groups(self.sorted())

    def count(self) -> int:
        """How many keys."""
        return int(arrow().compute.count_distinct(self._keys()).as_py())

    def sorted(self) -> pa.Table:
        """All rows in order."""
        order = [(self.order.key, "ascending"), (self.order.number, "ascending")]
        return self._load().combine_chunks().sort_by(order)

    def groups(self, table: pa.Table) -> Iterator[tuple[str, list[R]]]:
        """Sorted rows as groups of records.

        Raises:
            LmsiError: Two records share key and number, or a row is no record.
        """
        rows = (
            record
            for batch in table.to_batches(max_chunksize=BATCH)
            for record in records_of(batch, self.kind, self.folder)
        )
        for key, found in groupby(rows, key=attrgetter(self.order.key)):
            group = list(found)
            self._check(key, list(map(attrgetter(self.order.number), group)))
            yield key, group

    def _keys(self) -> pa.ChunkedArray:
        pa, name = arrow(), self.order.key
        place = schema_of(self.kind).get_field_index(name)
        return self._load(pa.ipc.IpcReadOptions(included_fields=[place]))[name]

    def _load(self, options: Any = None) -> pa.Table:  # noqa: ANN401 - of pyarrow
        pa = arrow()
        with pa.OSFile(str(self.file)) as file:
            return pa.ipc.open_stream(file, options=options).read_all()

    def _check(self, key: str, numbers: list[int]) -> None:
        for one, other in pairwise(numbers):
            if one == other:
                raise LmsiError(
                    f"{self.folder}: {self.order.what.format(key=key, number=one)} is there twice",
                    hint="was a shard copied into this folder? move the copy out of it",
                )
