r"""Text files into entries: lines, JSON lines, one JSON value, or a table with tabs.

Knows nothing of what the fields mean; those are in ``readers.py`` and ``published.py``. One entry:

    Row(where="SVAMP.json: entry 1", fields={"ID": "chal-1", "Body": "Each pack ...", ...})
"""

from __future__ import annotations

import codecs
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError

_JSON = msgspec.json.Decoder(float_hook=Decimal)  # keeps a gold answer of 3.50 as it was written
STDIN = "stdin"  # what standard input is called
# Not splitlines(): it also cuts at characters that may stand inside a question (U+2028).
LINE_END = re.compile(r"\r\n?|\n")


class Row(NamedTuple):
    """One entry of a file before it is checked; ``where`` is ``file:line`` or names its number."""

    where: str
    fields: dict[str, Any]


class Missing(NamedTuple):
    """Stands in a row for the answer that an entry lacks; says why."""

    why: str


def decoded(name: str, data: bytes) -> str:
    """Decode UTF-8, with or without the byte order mark that Windows programs write.

    Raises:
        LmsiError: It is another encoding, or holds NUL bytes, which no text does; says where.
    """
    if wide := _wide(data):
        file = "FILE" if name == STDIN else shlex.quote(name)
        hint = f"iconv -f {wide} -t UTF-8 {file} > utf8{Path(name).suffix}"
        raise LmsiError(f"{name}: {wide} text, not UTF-8", hint=hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        where = f"{name}:{_line(data[: e.start])}"
        raise LmsiError(f"{where}: not UTF-8 text", hint="save the file as UTF-8") from None
    if (place := data.find(0)) >= 0:
        hint = "text has none: look with `file` what this is, or delete them with `tr -d '\\0'`"
        raise LmsiError(f"{name}:{_line(data[:place])}: holds a NUL byte", hint=hint)
    return text


def _wide(data: bytes) -> str | None:
    """Name the UTF-16 that a file is in: by its mark, or by zeros at every other byte."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if 0 not in data:
        return None
    for name, low, high in (("UTF-16LE", 0, 1), ("UTF-16BE", 1, 0)):
        zeros = data[high::2].count(0)
        if 2 * zeros > len(data) // 2 and not data[low::2].count(0):
            return name
    return None


def _line(before: bytes) -> int:
    """The number of the line that follows some bytes."""
    return len(re.findall(rb"\r\n?|\n", before)) + 1


def lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each behind its place; a carriage return ends one as well."""
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.strip():
            yield f"{name}:{number}", line


def json_rows(name: str, text: str, hint: str = "") -> Iterator[Row]:
    """Read one JSON object a line.

    Raises:
        LmsiError: A line is none; says which, with the hint.
    """
    for where, line in lines(name, text):
        try:
            value = _decoded(line)
        except ValueError as e:
            raise LmsiError(f"{where}: not valid JSON: {e}", hint=hint) from None
        yield Row(where, _object(where, value, hint))


def text_entries(name: str, text: str) -> Iterator[Row]:
    """Read JSON lines, one JSON value, or a table with tabs, told apart by how they start."""
    if text.lstrip()[:1] not in ("{", "["):
        return _table(name, text)
    try:
        value = _decoded(text)
    except ValueError:  # not one value, so one a line
        return json_rows(name, text)
    return _listed(name, value if isinstance(value, list) else [value])


def named(value: object) -> str:
    """Name the type of a value of a file in words."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)
    number = dict.fromkeys((int, float, Decimal), "a number")
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", **number}
    return names.get(type(value), type(value).__name__)  # a table may hold dates and bytes


def _decoded(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Decode one value; ValueError if it is none.

    NaN and Infinity are no JSON, but pandas and Python write them; they become such a Decimal.
    """
    try:
        return _JSON.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        found = str(e).removeprefix("JSON is malformed: ")
    if "NaN" in text or "Infinity" in text:
        with suppress(ValueError, RecursionError):
            value = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
            json.dumps(value, ensure_ascii=False, default=str).encode()  # no half of a character
            return value
    raise ValueError(found)


def _listed(name: str, values: list[Any]) -> Iterator[Row]:
    for number, value in enumerate(values, 1):
        yield Row(f"{name}: entry {number}", _object(f"{name}: entry {number}", value))


def _object(where: str, value: object, hint: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LmsiError(f"{where}: expected a JSON object, got {named(value)}", hint=hint)
    return value


def _table(name: str, text: str) -> Iterator[Row]:
    """Read a table with tabs and a header, without any quoting, as GLUE publishes them."""
    header: list[str] = []
    for where, line in lines(name, text):
        cells = line.split("\t")
        if not header:
            header = cells
            continue
        if len(cells) != len(header):
            raise LmsiError(f"{where}: {len(cells)} columns, the header has {len(header)}")
        yield Row(where, dict(zip(header, cells, strict=True)))
