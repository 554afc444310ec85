"""Question files into questions: JSONL, CSV or TSV, plain text, standard input.

Knows nothing of answer kinds or prompts: a gold answer stays the text it was in the file. Every
complaint names the file and the line. One line of a JSONL file, and what becomes of it:

    {"question": "What is 84 / 2?", "answer": 42, "source": "book 3"}
    Question(id="q-38dc46698984", question="What is 84 / 2?", answer="42")
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.tasks.entries import PARQUET, Row, parquet_rows, text_entries
from lmsi_cli.tasks.published import LAYOUTS, plain_rows

HINT = (
    'a question file is JSONL ({"question": "..."} a line), CSV with a `question` column, '
    "or text with one question a line"
)
DELIMITERS = ",;\t"  # as spreadsheets export, by country
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text"}


class Placed(NamedTuple):
    """A question and where it was written."""

    where: str
    question: Question


def read_questions(source: str) -> list[Question]:
    """Read the questions of a file, in its order.

    An entry without an id gets one made from its text, so it is the same in every file. An entry
    repeated word for word counts once. Blank lines and unknown fields are passed over.

    Args:
        source: A file name, or ``-`` for standard input. ``.jsonl``, ``.csv``, ``.tsv`` and
            ``.txt`` are what they say; anything else is told by its first line. ``gsm8k:FILE``
            is a file of GSM8K as its authors publish it; see ``published.py`` for the others.

    Raises:
        LmsiError: The file is missing, empty or not UTF-8; or a line is no question, or has the
            id of another one. Says which line.
    """
    return [placed.question for placed in _read(source)]


def read_labelled(source: str) -> list[Question]:
    """Read questions that each carry a gold answer.

    Raises:
        LmsiError: As ``read_questions``, or answers are missing: names the first line and how
            many there are.
    """
    placed = _read(source)
    bare = [p.where for p in placed if p.question.answer is None]
    if bare:
        raise LmsiError(
            f"{bare[0]}: no 'answer' ({len(bare)} of {len(placed)} questions have none)",
            hint="every question needs its right answer here",
        )
    return [p.question for p in placed]


def _read(source: str) -> list[Placed]:
    layout, source = split_source(source)
    name = "stdin" if source == "-" else source
    data = _load(source)
    rows = _published(layout, name, data) if layout else _own(source, name, data)
    found = _unique(Placed(row.where, _question(row)) for row in rows)
    if not found:
        raise LmsiError(f"{name}: no questions in it", hint=HINT)
    return found


def split_source(source: str) -> tuple[str | None, str]:
    """Part ``gsm8k:test.jsonl`` in two; a name before the colon that is no set is a drive's."""
    layout, colon, file = source.partition(":")
    return (layout, file) if colon and layout in LAYOUTS else (None, source)


def set_name(source: str) -> str:
    """What results of a file are called: ``gsm8k-test`` for ``gsm8k:data/test.jsonl``."""
    layout, file = split_source(source)
    return "-".join(filter(None, [layout, Path(file).stem]))


def _own(source: str, name: str, data: bytes) -> Iterator[Row]:
    text = _decode(name, data)
    return ROWS[_kind(source, text)](name, text)


def _published(layout: str, name: str, data: bytes) -> Iterator[Row]:
    if data.startswith(PARQUET):
        return plain_rows(layout, parquet_rows(name, data))
    return plain_rows(layout, text_entries(name, _decode(name, data)))


def _load(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise LmsiError(f"{source}: no such file", hint=_missing(source)) from None
    except IsADirectoryError:
        raise LmsiError(f"{source}: is a folder", hint="name a file in it") from None
    except OSError as e:
        raise LmsiError(f"{source}: cannot be read: {e.strerror}") from e


def _missing(source: str) -> str:
    """What to type instead: the set that was meant by ``gms8k:FILE``, or a file."""
    name, colon, file = source.partition(":")
    near = difflib.get_close_matches(name.lower(), LAYOUTS, 1) if colon else []
    return f"did you mean {near[0]}:{file}?" if near else "give a question file, or `-`"


def _decode(name: str, data: bytes) -> str:
    """Decode UTF-8, with or without the byte order mark that Windows programs write."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise LmsiError(f"{name}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None


def _kind(source: str, text: str) -> str:
    """Tell the kind of file by its name, else by how it starts; stdin is JSONL or text."""
    if source != "-" and (known := KINDS.get(Path(source).suffix.lower())):
        return known
    if text.lstrip()[:1] in ("{", "["):
        return "jsonl"
    return "csv" if source != "-" and _delimiter(text) else "text"


def _text_rows(name: str, text: str) -> Iterator[Row]:
    # Not splitlines(): it also cuts at characters that may stand inside a question (U+2028).
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Row(f"{name}:{number}", {"question": line})


def _jsonl_rows(name: str, text: str) -> Iterator[Row]:
    # Decimal keeps a gold answer of 3.50 as it was written.
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    for where, fields in _text_rows(name, text):
        try:
            value = decoder.decode(fields["question"])
        except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
            found = str(e).removeprefix("JSON is malformed: ")
            raise LmsiError(f"{where}: not valid JSON: {found}", hint=_array_hint(text)) from None
        if not isinstance(value, dict):
            raise LmsiError(
                f"{where}: expected a JSON object, got {_named(value)}", hint=_array_hint(text)
            )
        yield Row(where, value)


def _csv_rows(name: str, text: str) -> Iterator[Row]:
    delimiter = _delimiter(text)
    if delimiter is None:
        if not text.strip():
            return
        raise LmsiError(f"{name}:1: no column 'question' in the header", hint=HINT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 0
    try:
        header, line = _names(next(reader)), reader.line_num
        for cells in reader:
            where, line = f"{name}:{line + 1}", reader.line_num
            if len(cells) not in (0, len(header)):
                raise LmsiError(
                    f"{where}: {len(cells)} columns, the header has {len(header)}",
                    hint='text with a comma or a line break needs quotes: "..."',
                )
            if any(cells):
                yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as e:
        raise LmsiError(f"{name}:{line + 1}: not valid CSV: {e}") from None


ROWS = {"jsonl": _jsonl_rows, "csv": _csv_rows, "text": _text_rows}


def _delimiter(text: str) -> str | None:
    """Find what separates the columns of the first line; None if none of them is `question`."""
    first = text.split("\n", 1)[0][:10_000]  # csv refuses cells of 131,072 characters
    for delimiter in DELIMITERS:
        if "question" in _names(next(csv.reader([first], delimiter=delimiter), [])):
            return delimiter
    return None


def _names(header: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in header]


def _array_hint(text: str) -> str:
    if text.lstrip().startswith("["):
        return "one JSON object a line, not an array: jq -c '.[]' FILE > FILE.jsonl"
    return HINT


def _question(row: Row) -> Question:
    """Check one entry and make it a question."""
    where, fields = row
    if "question" not in fields:
        raise LmsiError(f"{where}: missing field 'question'", hint=HINT)
    text = fields["question"]
    if not isinstance(text, str):
        raise LmsiError(f"{where}: field 'question': expected text, got {_named(text)}")
    if not (text := text.strip()):
        raise LmsiError(f"{where}: field 'question': is blank", hint="fill it in, or delete it")
    return Question(
        id=_id(where, fields.get("id")) or _derived_id(text),
        question=text,
        answer=_text(where, "answer", fields.get("answer")),
        family=_text(where, "family", fields.get("family")),
        group=_text(where, "group", fields.get("group")),
    )


def _id(where: str, value: object) -> str | None:
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return str(value).strip() if value is not None else None
    raise LmsiError(f"{where}: field 'id': expected text or a whole number, got {_named(value)}")


def _derived_id(text: str) -> str:
    return "q-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _text(where: str, field: str, value: object) -> str | None:
    """Take text or a number as text; blank is None."""
    if isinstance(value, Decimal) and abs(value.adjusted()) < 30:
        return f"{value:f}"  # 1e3 as 1000
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal | None):
        raise LmsiError(f"{where}: field '{field}': expected text or a number, got {_named(value)}")
    return (str(value).strip() or None) if value is not None else None


def _named(value: object) -> str:
    """Name a JSON value's type in words."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number")


def _unique(found: Iterator[Placed]) -> list[Placed]:
    """Drop entries that say the same again; refuse one id for two questions or two answers."""
    first: dict[str, Placed] = {}
    for placed in found:
        seen = first.setdefault(placed.question.id, placed)
        for field in ("question", "answer"):
            if getattr(seen.question, field) != getattr(placed.question, field):
                raise LmsiError(
                    f"{placed.where}: id {placed.question.id!r} is also at {seen.where}, "
                    f"with another {field}",
                    hint="give each question its own id, or none at all",
                )
    return list(first.values())
