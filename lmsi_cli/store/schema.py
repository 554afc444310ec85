"""Records as rows of a Parquet file: the field names of the record, the plainest types.

Knows struct types and pyarrow; nothing of folders. A whole number is ``int64``, a fraction
``double``, text and choices of words ``string``; what may be None or has a default may be null or
missing. Of ``records.Path`` that makes:

    question_id: string not null        predicted_answer: string
    path: int64 not null                mean_logprob: double
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

R = TypeVar("R", bound=Record)

GROUP = 32_768  # rows of a row group: some 10 MiB of text, and a unit of reading in parallel
BATCH = 2_048  # rows that are Python objects at once
_NAMES = {str: "string", int: "int64", float: "float64", bool: "bool"}


def arrow() -> Any:  # noqa: ANN401 - a module without types
    """The module pyarrow.

    Raises:
        LmsiError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise LmsiError(
            "Parquet needs pyarrow, which is not installed", hint="pip install 'lmsi[parquet]'"
        ) from None
    return pyarrow


def schema_of(kind: type[Record]) -> pa.Schema:
    """The columns of a record, in its order; TypeError for a field that no column can hold."""
    pa, hints = arrow(), typing.get_type_hints(kind)
    fields = []
    for field in msgspec.structs.fields(kind):
        name, nullable = _column(hints[field.name])
        fields.append(pa.field(field.name, getattr(pa, name)(), nullable or not field.required))
    return pa.schema(fields)


def _column(hint: Any) -> tuple[str, bool]:  # noqa: ANN401 - a type
    """The name of a column's type, and whether it may be null."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [t for t in typing.get_args(hint) if t is not type(None)]
        if len(inner) == 1:
            return _column(inner[0])[0], True
    if typing.get_origin(hint) is typing.Literal:
        hint = str
    if hint not in _NAMES:
        raise TypeError(f"no column for {hint}")
    return _NAMES[hint], False


def write_rows(file: BinaryIO, records: Iterable[R], kind: type[R]) -> int:
    """Write a Parquet file; returns how many rows. Holds one row group in memory."""
    pq, schema, rows = arrow().parquet, schema_of(kind), 0
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables_of(records, kind):
            writer.write_table(table, row_group_size=GROUP)
            rows += table.num_rows
    return rows


def tables_of(records: Iterable[R], kind: type[R]) -> Iterator[pa.Table]:
    """Bring records into tables of at most a row group each."""
    schema = schema_of(kind)
    yield from (_table(group, schema) for group in _groups(records, GROUP))


def _groups(records: Iterable[R], size: int) -> Iterator[list[R]]:
    group: list[R] = []
    for record in records:
        group.append(record)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _table(records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(r, name) for r in records] for name in schema.names}
    return arrow().table(columns, schema=schema)


def open_rows(path: Path, kind: type[Record]) -> pq.ParquetFile:
    """Open a Parquet file of records; the caller closes it.

    Raises:
        LmsiError: It is cut short, no Parquet file, or has other columns than the record.
    """
    pa = arrow()
    try:
        file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as e:
        raise broken(path, e) from None
    wrong = _difference(file.schema_arrow, schema_of(kind))
    if wrong:
        file.close()
        raise LmsiError(
            f"{path}: holds no {kind.__name__} records of lmsi: {wrong}",
            hint="it was written by another tool: move it out of the run folder",
        )
    return file


def broken(path: Path, e: Exception) -> LmsiError:
    """Say that a Parquet file cannot be read."""
    told = str(e).strip().partition("\n")[0] or type(e).__name__
    return LmsiError(
        f"{path}: not a whole Parquet file: {told}",
        hint="restore it from a copy, or move it away: `lmsi sample` draws what is missing again",
    )


def _difference(found: pa.Schema, wanted: pa.Schema) -> str:
    """The first column that is missing, of another type or unknown; empty if all is well."""
    there = {f.name: f.type for f in found}
    for field in wanted:
        if field.name not in there and not field.nullable:
            return f"column {field.name!r} is missing"
        if field.name in there and there[field.name] != field.type:
            return f"column {field.name!r} is {there[field.name]}, not {field.type}"
    unknown = [name for name in there if name not in wanted.names]
    return f"column {unknown[0]!r} is unknown" if unknown else ""


def read_rows(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a Parquet file; LmsiError as ``open_rows``, or a row is no record."""
    for batch in read_batches(path, kind):
        yield from records_of(batch, kind, path)


def read_batches(
    path: Path, kind: type[Record], size: int = BATCH, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield a Parquet file in pieces of at most ``size`` rows; LmsiError as ``open_rows``."""
    pa = arrow()
    with open_rows(path, kind) as file:
        try:
            yield from file.iter_batches(size, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as e:
            raise broken(path, e) from None


def records_of(batch: pa.RecordBatch, kind: type[R], path: Path) -> list[R]:
    """Rows as records; ``path`` is named if one is none."""
    names = batch.schema.names
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    try:
        return msgspec.convert([dict(zip(names, row, strict=True)) for row in rows], list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError as e:
        raise LmsiError(f"{path}: a row is no {kind.__name__}: {e}") from None
