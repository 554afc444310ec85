"""Tables of Apache Arrow into entries: Parquet, Arrow files and streams, and saved data sets.

Knows nothing of what the columns mean, and imports pyarrow only for such a file. A folder is what
`Dataset.save_to_disk` of the package `datasets` wrote: Arrow streams and a ``state.json`` that
names them. One entry:

    Row(where="own.parquet: row 1", fields={"question": "What is 2 + 2?", "answer": Decimal("4")})
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.entries import Row

_PARQUET, _FILE, _STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"  # how each of them begins
_SUFFIXES = (".parquet", ".arrow", ".feather")


class _Shard(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    files: list[_Shard] = msgspec.field(name="_data_files")


class _Splits(msgspec.Struct):
    splits: list[str]


def is_table(name: str, data: bytes) -> bool:
    """Say whether a file is a table, or is called one."""
    known = data.startswith((_PARQUET, _FILE, _STREAM))
    return known or Path(name).suffix.lower() in _SUFFIXES


def table_rows(name: str, data: bytes, columns: Collection[str] | None = None) -> Iterator[Row]:
    """Read the rows of a table.

    Args:
        name: What the file is called.
        data: All of it.
        columns: Those to read where they are there; not given: all.

    Raises:
        LmsiError: pyarrow is not installed, or cannot read the file.
    """
    try:
        import pyarrow as arrow
    except ImportError:
        hint = "pip install 'lmsi[parquet]', or save it as JSONL"
        raise LmsiError(f"{name}: reading this table needs pyarrow", hint=hint) from None
    try:
        entries = _entries(_opened(data), columns)
    except (arrow.ArrowException, OSError, ValueError) as e:
        reason = str(e).partition("\n")[0]
        hint = "write it again, or save it as JSONL"
        raise LmsiError(f"{name}: not a Parquet or Arrow table: {reason}", hint=hint) from None
    yield from (Row(f"{name}: row {i}", fields) for i, fields in enumerate(entries, 1))


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder, in order: those that ``state.json`` names, else all.

    Raises:
        LmsiError: It has none, or holds several splits.
    """
    if splits := _read(folder / "dataset_dict.json", _Splits):
        named = ", ".join(str(folder / split) for split in splits.splits)
        raise LmsiError(f"{folder}: holds several splits", hint=f"name one: {named}")
    if state := _read(folder / "state.json", _State):  # maps leave files of their own beside these
        return [folder / Path(shard.filename).name for shard in state.files]
    if found := sorted(folder.glob("*.arrow")):
        return found
    raise LmsiError(f"{folder}: is a folder", hint="name a file in it")


def _read(file: Path, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the structs above
    """Read what `datasets` wrote about a folder; None if the file is not there."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        hint = "name one of the folder's Arrow files"
        raise LmsiError(f"{file}: cannot be read: {e}", hint=hint) from None


def _opened(data: bytes) -> Any:  # noqa: ANN401 - a table of pyarrow, which has no types
    from pyarrow import ipc, parquet

    if data.startswith(_PARQUET):
        return parquet.read_table(io.BytesIO(data))
    opening = ipc.open_file if data.startswith(_FILE) else ipc.open_stream
    return opening(data).read_all()


def _entries(table: Any, columns: Collection[str] | None) -> list[dict[str, Any]]:  # noqa: ANN401
    """The rows as Python has them; a fraction as it is written, which differs with its width."""
    from pyarrow import types

    if columns is not None:
        table = table.select([name for name in table.column_names if name in columns])
    table.validate(full=True)  # pyarrow would follow wrong offsets out of its memory
    fractions = [f.name for f in table.schema if types.is_floating(f.type)]
    for name in fractions:
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(place).cast("string"))
    entries: list[dict[str, Any]] = table.to_pylist()
    for entry in entries:
        entry.update({n: Decimal(entry[n]) for n in fractions if entry[n] is not None})
    return entries
