r"""Read questions from JSONL, CSV or TSV, plain text, Arrow tables and standard input.

Knows nothing of answer kinds or prompts: a gold answer stays the text it was in the file, but true
and false become yes and no. A ``passage`` or ``context`` is put above its question. Every error
names the file and the line. One line of a JSONL file, and the question it becomes:

    {"passage": "Iron rusts.", "question": "Does iron rust?", "answer": true, "source": "book 3"}
    -> Question(id="q-1d4e...", question="Iron rusts.\n\nDoes iron rust?", answer="yes")
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import bounded_lines, read_records
from lmsi_cli.parquet import is_address, read_remote
from lmsi_cli.records import Preference, Question, TrainExample
from lmsi_cli.resume import trained_file
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.entries import (
    LINE_END,
    SHOWN,
    STDIN,
    Row,
    cells,
    decoded,
    is_table,
    json_rows,
    lines,
    saved_files,
    table_rows,
    text_entries,
)
from lmsi_cli.tasks.published import LAYOUTS, plain_rows

DELIMITERS = ",;\t"  # as spreadsheets export, depending on the country
HINT = (
    'a question file is JSONL ({"question": "..."} a line), CSV with a `question` column, '
    "or text with one question a line"
)
PASSAGES = ("passage", "context")  # what a question is about
FIELDS = ("id", *PASSAGES, "question", "answer", "family", "group")
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text"}


def read_questions(source: str) -> list[Question]:
    """Read the questions of a file, in its order.

    An entry without an id gets one made from its text, so it is the same in every file. An entry
    repeated word for word counts once. Blank lines and unknown fields are ignored.

    Args:
        source: A file name, an address (``s3://...``), or ``-`` for standard input. ``.jsonl``,
            ``.csv``, ``.tsv`` and ``.txt`` are read as such; other formats are recognised by how
            the file begins. A folder is a data set saved by ``datasets``. ``gsm8k:FILE`` is a
            file of GSM8K as its authors publish it; see ``published.py`` for the other sets.

    Raises:
        LmsiError: The file is missing, empty or not UTF-8; or a line is not a question, or
            has the id of another one. Names the line.
    """
    return [question for _, question in _read(source)]


def read_labelled(source: str) -> list[Question]:
    """Read questions that each carry a gold answer.

    None is left out for lack of an answer: figures of a part are not those of the whole set.
    LmsiError: as ``read_questions``, or answers are missing: names the first line without one, and
    says how many there are.
    """
    found = _read(source)
    bare = [where for where, question in found if question.answer is None]
    if bare:
        raise LmsiError(
            f"{bare[0]}: no 'answer' ({len(bare)} of {len(found)} questions have none)",
            hint="every question needs its right answer here",
        )
    return [question for _, question in found]


def _read(source: str) -> list[tuple[str, Question]]:
    """Each question after its place; refuses one id for two questions or two answers."""
    layout, source = split_source(source)
    rows = (row for name, data in _files(source) for row in _rows(layout, name, data))
    first: dict[str, tuple[str, Question]] = {}
    for row in rows:
        new = _question(row)
        where, seen = first.setdefault(new.id, (row.where, new))
        for field in ("question", "answer"):
            if getattr(seen, field) != getattr(new, field):
                raise LmsiError(
                    f"{row.where}: id {new.id!r} is also at {where}, with another {field}",
                    hint="give each question its own id, or none at all",
                )
    if not first:
        raise LmsiError(f"{_name(source)}: no questions in it", hint=HINT)
    return list(first.values())


def trained_on(adapter: Path) -> list[Question]:
    """The questions that an adapter was trained on: those of its run with a kept path.

    If the run's examples are gone, or a later vote has replaced them, all its questions count. None
    of an adapter outside a run folder: nothing is known about it.
    """
    run = RunDir(adapter.absolute().parent.parent)
    if run.adapter_gguf != adapter.absolute() or not run.questions.exists():
        return []
    asked = list(read_records(run.questions, Question))
    if (file := trained_file(run)) is None:
        return asked
    kind: Any = Preference if file == run.pairs else TrainExample
    kept = {e.question_id for e in read_records(file, kind)}
    return [q for q in asked if q.id in kept]


def json_lines(file: str) -> Iterator[Row]:
    """The objects of a JSONL file; LmsiError: it is missing, or a line is not a JSON object."""
    return json_rows(file, decoded(file, _load(file)), HINT)


def question_of(row: Row, layout: str | None) -> Question:
    """Turn one entry into a question, as reading a file of such entries does.

    LmsiError: it is not an entry of the layout, or holds several questions.
    """
    rows = list(plain_rows(layout, [row]))
    if len(rows) != 1:
        raise LmsiError(f"{row.where}: {len(rows)} questions in one entry of {layout}")
    return _question(rows[0])


def split_source(source: str) -> tuple[str | None, str]:
    """Split ``gsm8k:test.jsonl`` at its colon; a name before it that is not a set is a drive."""
    layout, colon, file = source.partition(":")
    return (layout, file) if colon and layout in LAYOUTS else (None, source)


def set_name(source: str) -> str:
    """The name of a file's results: ``gsm8k-test`` for ``gsm8k:data/test.jsonl``."""
    layout, file = split_source(source)
    return "-".join(filter(None, [layout, Path(file).stem]))


def _rows(layout: str | None, name: str, data: bytes) -> Iterator[Row]:
    """The entries of one file, in our own fields."""
    if is_table(name, data):
        return plain_rows(layout, table_rows(name, data, None if layout else FIELDS))
    text = decoded(name, data)
    return plain_rows(layout, text_entries(name, text)) if layout else _own(name, text)


def _own(name: str, text: str) -> Iterator[Row]:
    """Tell a file's format by its name, else by how it starts; stdin is JSONL or text."""
    kind = KINDS.get(Path(name).suffix.lower())
    start = text.lstrip()[:1]
    if kind == "jsonl" or (kind is None and start in ("{", "[")):
        array = "one JSON object a line, not an array: jq -c '.[]' FILE > FILE.jsonl"
        return json_rows(name, text, array if start == "[" else HINT)
    delimiter = _delimiter(text)
    if kind != "csv" and (kind or name == STDIN or not delimiter):
        return (Row(where, {"question": line}) for where, line in lines(name, text))
    if delimiter is None and text.strip():
        raise LmsiError(f"{name}:1: no column 'question' in the header", hint=HINT)
    return (
        Row(row.where, {column.strip().lower(): v for column, v in row.fields.items()})
        for row in cells(name, text, delimiter or ",")
    )


def _name(source: str) -> str:
    return STDIN if source == "-" else source


def _files(source: str) -> Iterator[tuple[str, bytes]]:
    """The files of a source, each with its name: one, or those of a saved data set."""
    folder = source != "-" and os.path.isdir(source)  # noqa: PTH112 - Path's raises at a long name
    for file in map(str, saved_files(Path(source))) if folder else [source]:
        yield _name(file), _load(file)


def _load(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    if is_address(source):
        return read_remote(source)
    try:
        with Path(source).open("rb") as file:
            table = is_table(source, file.peek())
            return file.read() if table else b"".join(bounded_lines(file, source))
    except FileNotFoundError:
        raise LmsiError(f"{source}: no such file", hint=_missing(source)) from None
    except IsADirectoryError:
        raise LmsiError(f"{source}: is a folder", hint="name a file in it") from None
    except OSError as e:
        raise LmsiError(f"{source}: cannot be read: {e.strerror}") from e


def _missing(source: str) -> str:
    """Suggest what to type instead: the set meant by ``gms8k:FILE``, or a file."""
    name, colon, file = source.partition(":")
    near = difflib.get_close_matches(name.lower(), LAYOUTS, 1) if colon else []
    return f"did you mean {near[0]}:{file}?" if near else "give a question file, or `-`"


def _delimiter(text: str) -> str | None:
    """Find what separates the columns of the first line; None if none of them is `question`."""
    # csv refuses cells of more than 131,072 characters
    first = LINE_END.split(text[:10_000], maxsplit=1)[0]
    for delimiter in DELIMITERS:
        header = next(csv.reader([first], delimiter=delimiter), [])
        if any(cell.strip().lower() == "question" for cell in header):
            return delimiter
    return None


def _question(row: Row) -> Question:
    """Check one entry and make it a question.

    LmsiError: a field is missing or malformed; says which, and where.
    """
    where, fields = row
    if "question" not in fields:
        raise LmsiError(f"{where}: missing field 'question'", hint=HINT)
    asked = _words(where, "question", fields["question"])
    if not asked:
        raise LmsiError(f"{where}: field 'question': is blank", hint="fill it in, or delete it")
    passages = [_words(where, p, fields[p]) for p in PASSAGES if _filled(fields.get(p))]
    text = "\n\n".join(filter(None, [*passages, asked]))
    answer = fields.get("answer")
    if isinstance(answer, bool):
        answer = "yes" if answer else "no"
    return Question(
        id=_id(where, fields.get("id")) or f"q-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        question=text,
        answer=_text(where, "answer", answer),
        family=_text(where, "family", fields.get("family")),
        group=_text(where, "group", fields.get("group")),
    )


def _filled(value: object) -> bool:
    """Say whether a field holds something; pandas writes NaN where it does not."""
    return value is not None and not (isinstance(value, Decimal) and value.is_nan())


def _words(where: str, field: str, value: object) -> str:
    """Take text, without its outer blanks, its lines ended as everywhere."""
    if not isinstance(value, str):
        raise _misfit(where, field, "text", value)
    if "\0" in value:
        raise LmsiError(f"{where}: field '{field}': holds a NUL character", hint="take it out")
    return value.replace("\r\n", "\n").replace("\r", "\n").strip()


def _id(where: str, value: object) -> str | None:
    if _is_plain(value) and value == value.to_integral_value():
        value = int(value)  # pandas turns 1 into 1.0 if another id is missing
    if isinstance(value, bool | Decimal):
        raise _misfit(where, "id", "text or a whole number", value)
    return _text(where, "id", value)


def _text(where: str, field: str, value: object) -> str | None:
    """Take text or a number as text; blank is None."""
    if not _filled(value):
        return None
    if isinstance(value, str):
        return _words(where, field, value) or None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _misfit(where, field, "text or a number", value)
    return f"{value:f}" if _is_plain(value) else str(value)  # 1e3 as 1000


def _is_plain(value: object) -> TypeGuard[Decimal]:
    """Say whether a fraction can be written without an exponent."""
    return isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 30


def _misfit(where: str, field: str, expected: str, value: object) -> LmsiError:
    got = str(value)[:SHOWN]
    return LmsiError(f"{where}: field '{field}': expected {expected}, got {got}")
