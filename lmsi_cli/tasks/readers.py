"""Question files into questions: JSONL, CSV or TSV, plain text, tables of Arrow, standard input.

Knows nothing of answer kinds or prompts: a gold answer stays the text it was in the file. Every
complaint names the file and the line. One line of a JSONL file, and what becomes of it:

    {"question": "What is 84 / 2?", "answer": 42, "source": "book 3"}
    Question(id="q-38dc46698984", question="What is 84 / 2?", answer="42")
"""

from __future__ import annotations

import csv
import difflib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import bounded_lines, read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.remote_files import is_address, read_remote
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.entries import (
    LINE_END,
    STDIN,
    Row,
    decoded,
    is_table,
    json_rows,
    lines,
    saved_files,
    table_rows,
    text_entries,
)
from lmsi_cli.tasks.fields import FIELDS, HINT, Placed, placed
from lmsi_cli.tasks.published import LAYOUTS, plain_rows

DELIMITERS = ",;\t"  # as spreadsheets export, by country
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text"}


def read_questions(source: str, tell: Callable[[str], object] | None = None) -> list[Question]:
    """Read the questions of a file, in its order.

    An entry without an id gets one made from its text, so it is the same in every file. An entry
    repeated word for word counts once. Blank lines and unknown fields are passed over.

    Args:
        source: A file name, an address (``s3://...``), or ``-`` for standard input. ``.jsonl``,
            ``.csv``, ``.tsv`` and ``.txt`` are what they say; anything else is told by how it
            begins. A folder is a data set that ``datasets`` saved. ``gsm8k:FILE`` is a file of
            GSM8K as its authors publish it; see ``published.py`` for the others.
        tell: Is told in a line of answers that were meant to be there and are not.

    Raises:
        LmsiError: The file is missing, empty or not UTF-8; or a line is no question, or has the
            id of another one. Says which line.
    """
    found = _read(source)
    gaps = [p for p in found if p.gap]
    if gaps and tell:
        first, count = gaps[0], f"{len(gaps)} of {len(found)} questions"
        tell(f"{first.where}: read without an answer: {first.gap} ({count})")
    return [p.question for p in found]


def read_labelled(source: str) -> list[Question]:
    """Read questions that each carry a gold answer.

    None is left out for the lack of one: figures of a part are not those of the set.

    Raises:
        LmsiError: As ``read_questions``, or answers are missing: names the first line and how
            many there are.
    """
    found = _read(source)
    bare = [p for p in found if p.question.answer is None]
    if bare:
        first, count = bare[0], f"{len(bare)} of {len(found)} questions have none"
        why = f": {first.gap}" if first.gap else ""
        raise LmsiError(
            f"{first.where}: no 'answer'{why} ({count})",
            hint="every question needs its right answer here",
        )
    return [p.question for p in found]


def _read(source: str) -> list[Placed]:
    layout, source = split_source(source)
    rows = (row for name, data in _files(source) for row in _rows(layout, name, data))
    found = _unique(map(placed, rows))
    if not found:
        raise LmsiError(f"{_name(source)}: no questions in it", hint=HINT)
    return found


def trained_on(adapter: Path) -> list[Question]:
    """Questions of the run that made an adapter and of which it kept a path.

    Where the examples are gone, all questions of the run count.

    Returns:
        Empty for an adapter that lies in no run folder: nothing is known of it.
    """
    run = RunDir(adapter.absolute().parent.parent)
    if run.adapter_gguf != adapter.absolute() or not run.questions.exists():
        return []
    asked = list(read_records(run.questions, Question))
    if not run.train.exists():
        return asked
    kept = {e.question_id for e in read_records(run.train, TrainExample)}
    return [q for q in asked if q.id in kept]


def json_lines(file: str) -> Iterator[Row]:
    """The objects of a JSONL file, whatever they hold.

    Raises:
        LmsiError: The file is missing, or a line is no JSON object.
    """
    return json_rows(file, decoded(file, _load(file)), HINT)


def question_of(row: Row, layout: str | None) -> Question:
    """Make one entry a question, as reading a file of such entries does.

    Raises:
        LmsiError: It is no entry of the layout, or holds several questions.
    """
    rows = list(plain_rows(layout, [row])) if layout else [row]
    if len(rows) != 1:
        raise LmsiError(f"{row.where}: {len(rows)} questions in one entry of {layout}")
    return placed(rows[0]).question


def split_source(source: str) -> tuple[str | None, str]:
    """Part ``gsm8k:test.jsonl`` in two; a name before the colon that is no set is a drive's."""
    layout, colon, file = source.partition(":")
    return (layout, file) if colon and layout in LAYOUTS else (None, source)


def set_name(source: str) -> str:
    """What results of a file are called: ``gsm8k-test`` for ``gsm8k:data/test.jsonl``."""
    layout, file = split_source(source)
    return "-".join(filter(None, [layout, Path(file).stem]))


def _rows(layout: str | None, name: str, data: bytes) -> Iterator[Row]:
    """The entries of one file, in our own fields."""
    if is_table(name, data):
        rows = table_rows(name, data, None if layout else FIELDS)
        return plain_rows(layout, rows) if layout else rows
    text = decoded(name, data)
    return plain_rows(layout, text_entries(name, text)) if layout else _own(name, text)


def _own(name: str, text: str) -> Iterator[Row]:
    """Tell the kind of file by its name, else by how it starts; stdin is JSONL or text."""
    kind = KINDS.get(Path(name).suffix.lower())
    start = text.lstrip()[:1]
    if kind == "jsonl" or (kind is None and start in ("{", "[")):
        array = "one JSON object a line, not an array: jq -c '.[]' FILE > FILE.jsonl"
        return json_rows(name, text, array if start == "[" else HINT)
    if kind == "csv" or (kind is None and name != STDIN and _delimiter(text)):
        return _csv_rows(name, text)
    return (Row(where, {"question": line}) for where, line in lines(name, text))


def _name(source: str) -> str:
    return STDIN if source == "-" else source


def _files(source: str) -> Iterator[tuple[str, bytes]]:
    """The files of a source, each with its name: one, or those of a saved data set."""
    try:
        folder = source != "-" and Path(source).is_dir()
    except OSError:  # too long a name; reading it tells
        folder = False
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
    """What to type instead: the set that was meant by ``gms8k:FILE``, or a file."""
    name, colon, file = source.partition(":")
    near = difflib.get_close_matches(name.lower(), LAYOUTS, 1) if colon else []
    return f"did you mean {near[0]}:{file}?" if near else "give a question file, or `-`"


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


def _delimiter(text: str) -> str | None:
    """Find what separates the columns of the first line; None if none of them is `question`."""
    # csv refuses cells of 131,072 characters
    first = LINE_END.split(text[:10_000], maxsplit=1)[0]
    for delimiter in DELIMITERS:
        if "question" in _names(next(csv.reader([first], delimiter=delimiter), [])):
            return delimiter
    return None


def _names(header: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in header]


def _unique(found: Iterator[Placed]) -> list[Placed]:
    """Drop entries that say the same again; refuse one id for two questions or two answers."""
    first: dict[str, Placed] = {}
    for new in found:
        seen = first.setdefault(new.question.id, new)
        for field in ("question", "answer"):
            if getattr(seen.question, field) != getattr(new.question, field):
                raise LmsiError(
                    f"{new.where}: id {new.question.id!r} is also at {seen.where}, "
                    f"with another {field}",
                    hint="give each question its own id, or none at all",
                )
    return list(first.values())
