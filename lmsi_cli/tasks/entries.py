r"""Files as authors publish them into entries: a JSON list or object, JSON lines, TSV, parquet.

Knows nothing of what the fields mean; those are in ``published.py``. One entry:

    Row(where="SVAMP.json: entry 1", fields={"ID": "chal-1", "Body": "Each pack ...", ...})
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError

_JSON = msgspec.json.Decoder(float_hook=Decimal)  # keeps a gold answer of 3.50 as it was written
PARQUET = b"PAR1"


class Row(NamedTuple):
    """One entry of a file before it is checked; ``where`` is ``file:line`` or names its number."""

    where: str
    fields: dict[str, Any]


def parquet_rows(name: str, data: bytes) -> Iterator[Row]:
    """Read a hub's parquet file.

    Raises:
        LmsiError: pyarrow is not installed, or cannot read the file.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        hint = "pip install 'lmsi[hub]', or give the authors' own file"
        raise LmsiError(f"{name}: reading parquet needs pyarrow", hint=hint) from None
    try:
        entries = parquet.read_table(io.BytesIO(data)).to_pylist()
    except arrow.ArrowException as e:
        reason = str(e).partition("\n")[0]
        raise LmsiError(f"{name}: not a parquet file: {reason}") from None
    yield from (Row(f"{name}: entry {i}", fields) for i, fields in enumerate(entries, 1))


def text_entries(name: str, text: str) -> Iterator[Row]:
    """Read JSON lines, one JSON value, or a table with tabs, told apart by how they start."""
    if text.lstrip()[:1] not in ("{", "["):
        return _table(name, text)
    try:
        value = _JSON.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # not one value, so one a line
        return _lines(name, text)
    return _listed(name, value if isinstance(value, list) else [value])


def _listed(name: str, values: list[Any]) -> Iterator[Row]:
    for number, value in enumerate(values, 1):
        yield Row(f"{name}: entry {number}", _object(f"{name}: entry {number}", value))


def _lines(name: str, text: str) -> Iterator[Row]:
    # Not splitlines(): it also cuts at characters that may stand inside a question (U+2028).
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{name}:{number}"
            try:
                value = _JSON.decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
                found = str(e).removeprefix("JSON is malformed: ")
                raise LmsiError(f"{where}: not valid JSON: {found}") from None
            yield Row(where, _object(where, value))


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LmsiError(f"{where}: expected a JSON object")
    return value


def _table(name: str, text: str) -> Iterator[Row]:
    """Read a table with tabs and a header, without any quoting, as GLUE publishes them."""
    reader = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(reader, [])
    for cells in reader:
        where = f"{name}:{reader.line_num}"
        if len(cells) != len(header):
            raise LmsiError(f"{where}: {len(cells)} columns, the header has {len(header)}")
        yield Row(where, dict(zip(header, cells, strict=True)))
