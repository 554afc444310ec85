r"""Read files as entries: lines, JSON lines, one JSON value, CSV, tab-separated and Arrow tables.

Knows nothing of what the fields mean; ``readers.py`` and ``published.py`` do. Imports pyarrow only
for a Parquet or Arrow file. A folder is one that `Dataset.save_to_disk` of the package `datasets`
wrote: Arrow streams and a ``state.json`` that names them. Two entries:

    Row(where="SVAMP.json: entry 1", fields={"ID": "chal-1", "Body": "Each pack ...", ...})
    Row(where="own.parquet: row 1", fields={"question": "What is 2 + 2?", "answer": Decimal("4")})
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import shlex
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE

STDIN = "stdin"  # the name of standard input
# Not splitlines(): it also cuts at characters that may stand inside a question (U+2028).
LINE_END = re.compile(r"\r\n?|\n")
_PARQUET, _FILE, _STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"  # how each format begins
SMALL = 1 << 26  # bytes that any file may unpack to
SHOWN = 40  # characters shown of a wrong value
_SUFFIXES = (".parquet", ".arrow", ".feather")


class Row(NamedTuple):
    """One entry of a file before it is checked; ``where`` is ``file:line`` or names its number."""

    where: str
    fields: dict[str, Any]


def decoded(name: str, data: bytes) -> str:
    """Decode UTF-8, with or without the byte order mark that Windows programs write.

    LmsiError: the encoding is another one, or there are NUL bytes, which text never has.
    """
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        problem = "a packed file, such as a spreadsheet or an archive"
        raise LmsiError(f"{name}: {problem}", hint="save it as CSV, or unpack it")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if wide or 0 in data:
        file = "FILE" if name == STDIN else shlex.quote(name)
        hint = f"if it is UTF-16: iconv -f UTF-16 -t UTF-8 {file} > utf8{Path(name).suffix}"
        problem = "UTF-16 text, not UTF-8" if wide else "holds NUL bytes, as UTF-16 text does"
        raise LmsiError(f"{name}: {problem}", hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = len(LINE_END.findall(data[: e.start].decode("latin-1"))) + 1
        raise LmsiError(f"{name}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None


def lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each after its place; a carriage return ends a line, too."""
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.strip():
            yield f"{name}:{number}", line


def json_rows(name: str, text: str, hint: str = "") -> Iterator[Row]:
    """Read one JSON object a line; LmsiError: a line is none (names it, and gives the hint)."""
    for where, line in lines(name, text):
        try:
            value = _decoded(line)
        except ValueError as e:
            raise LmsiError(f"{where}: not valid JSON: {getattr(e, 'msg', e)}", hint=hint) from None
        yield Row(where, _object(where, value, hint))


def text_entries(name: str, text: str) -> Iterator[Row]:
    """Read JSON lines, one JSON value, or a tab-separated table, told apart by how they start."""
    if text.lstrip()[:1] not in ("{", "["):
        return cells(name, text, "\t", quoted=False)  # as GLUE publishes them
    try:
        value = _decoded(text)
    except ValueError:  # not one value, so one a line
        return json_rows(name, text)
    placed = enumerate(value if isinstance(value, list) else [value], 1)
    named = ((f"{name}: entry {number}", entry) for number, entry in placed)
    return (Row(where, _object(where, entry)) for where, entry in named)


def _decoded(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Decode one value; ValueError if it is not valid JSON.

    A fraction keeps the digits it was written with. NaN and Infinity are not valid JSON, but pandas
    and Python write them.
    """
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
        if "\\u" in text:  # may spell half a character, which cannot be saved
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _object(where: str, value: object, hint: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LmsiError(f"{where}: expected a JSON object, got {str(value)[:SHOWN]}", hint=hint)
    return value


def cells(name: str, text: str, delimiter: str, quoted: bool = True) -> Iterator[Row]:
    """Read a table with a header, skipping blank rows.

    LmsiError: a row has more or fewer columns than the header, or is not valid CSV; names it.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    line = 0
    try:
        header, line = next(reader, []), reader.line_num
        for row in reader:
            where, line = f"{name}:{line + 1}", reader.line_num
            if len(row) not in (0, len(header)):
                raise LmsiError(
                    f"{where}: {len(row)} columns, the header has {len(header)}",
                    hint='text with a comma or a line break needs quotes: "..."',
                )
            if any(row):
                yield Row(where, dict(zip(header, row, strict=True)))
    except csv.Error as e:
        raise LmsiError(f"{name}:{line + 1}: not valid CSV: {e}") from None


class _Shard(msgspec.Struct):
    filename: Annotated[str, msgspec.Meta(pattern=r"^[^\0]+$")]


class _State(msgspec.Struct):
    files: list[_Shard] = msgspec.field(name="_data_files")


class _Splits(msgspec.Struct):
    splits: list[str]


def is_table(name: str, data: bytes) -> bool:
    """Say whether a file is a Parquet or Arrow table, by its first bytes or its suffix."""
    known = data.startswith((_PARQUET, _FILE, _STREAM))
    return known or Path(name).suffix.lower() in _SUFFIXES


def table_rows(name: str, data: bytes, columns: Collection[str] | None = None) -> Iterator[Row]:
    """Read the rows of a table: its ``columns``, where it has them; by default all.

    LmsiError: pyarrow is not installed, or cannot read the file.
    """
    try:
        import pyarrow as arrow
    except ImportError:
        hint = "pip install '.[parquet]' in lmsi's folder, or save it as JSONL"
        raise LmsiError(f"{name}: reading this table needs pyarrow", hint=hint) from None
    try:
        entries = _entries(_opened(data), columns)
    except (arrow.ArrowException, OSError, ValueError, LookupError) as e:
        reason = str(e).partition("\n")[0]
        hint = "write it again, or save it as JSONL"
        raise LmsiError(f"{name}: not a Parquet or Arrow table: {reason}", hint=hint) from None
    yield from (Row(f"{name}: row {i}", fields) for i, fields in enumerate(entries, 1))


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder, in order: those that ``state.json`` names, else all.

    LmsiError: it has none, or holds several splits.
    """
    if splits := _read(folder / "dataset_dict.json", _Splits):
        shown = ", ".join(str(folder / split) for split in splits.splits)
        raise LmsiError(f"{folder}: holds several splits", hint=f"name one: {shown}")
    if state := _read(folder / "state.json", _State):  # `map` leaves files of its own beside these
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
    except (OSError, *UNREADABLE) as e:
        hint = "name one of the folder's Arrow files"
        raise LmsiError(f"{file}: cannot be read: {e}", hint=hint) from None


def _opened(data: bytes) -> Any:  # noqa: ANN401 - a table of pyarrow, which has no types
    from pyarrow import ipc, parquet

    if data.startswith(_PARQUET):
        told = parquet.read_metadata(io.BytesIO(data))
        groups = map(told.row_group, range(told.num_row_groups))
        _check_size(sum(g.total_byte_size for g in groups), told.num_rows, len(data))
        return parquet.read_table(io.BytesIO(data))
    opening = ipc.open_file if data.startswith(_FILE) else ipc.open_stream
    table = opening(data).read_all()
    _check_size(table.nbytes, table.num_rows, len(data))
    return table


def _check_size(unpacked: int, rows: int, packed: int) -> None:
    """Refuse a file that unpacks without end: text is packed to a tenth, never to a hundredth."""
    if unpacked > max(SMALL, 100 * packed) or rows > packed:
        raise ValueError(f"{packed:,} bytes would unpack to {unpacked:,}, in {rows:,} rows")


def _entries(table: Any, columns: Collection[str] | None) -> list[dict[str, Any]]:  # noqa: ANN401
    """The rows as Python values; floats as decimals, with the digits that their width prints."""
    from pyarrow import types

    if columns is not None:
        table = table.select([name for name in table.column_names if name in columns])
    table.validate(full=True)  # else wrong offsets could lead pyarrow out of its memory
    fractions = [f.name for f in table.schema if types.is_floating(f.type)]
    for name in fractions:
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(place).cast("string"))
    entries: list[dict[str, Any]] = table.to_pylist()
    for entry in entries:
        entry.update({n: Decimal(entry[n]) for n in fractions if entry[n] is not None})
    return entries
