"""Parquet, Arrow and folders that `datasets` saved: the same questions as in JSONL."""

import datetime
import json
import sys

import pytest
from builders import refused
from task_helpers import put, table

from lmsi_cli.tasks.readers import read_questions

pa = pytest.importorskip("pyarrow", reason="tables need the extra `parquet`")
DAY = datetime.date(2026, 1, 2)
ROWS = {"id": ["a", "b"], "question": ["1+1?", "2+2?"], "answer": ["2", None], "more": [[1.5], []]}
ARROW = {"q.arrow": "new_file", "s.arrow": "new_stream", "q": "new_stream"}


@pytest.mark.parametrize("name", ["q.parquet", *ARROW, "-"])
def test_a_table_holds_the_fields_of_jsonl(given_file, name):
    file = given_file(name, table(ROWS, ARROW.get(name, "")))
    found = [(q.id, q.question, q.answer) for q in read_questions(file)]
    assert found == [("a", "1+1?", "2"), ("b", "2+2?", None)]


def test_values_are_taken_as_they_were_written():
    columns = {
        "id": [1.0, 2.0, 3.0, 4.0],  # whole numbers, as pandas keeps them
        "question": ["a", "b", "c", "d"],
        "answer": pa.array([0.1, 3.0, None, float("nan")], pa.float32()),
        "family": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "passage": ["P.", "", None, None],
        "when": pa.array([1, 2, 3, 4], pa.timestamp("ns")),  # a column of no meaning here
    }
    found = read_questions(put("q.parquet", table(columns)))
    assert [(q.id, q.question, q.answer, q.family) for q in found] == [
        ("1", "P.\n\na", "0.1", "x"), ("2", "b", "3", "y"), ("3", "c", None, "x"),
        ("4", "d", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"question": ["x", None]}, "row 2: field 'question': ... got None"),
        ({"question": ["x\0"]}, "row 1: field 'question': holds a NUL"),
        ({"prompt": ["x"]}, "row 1: missing field 'question'"),
        ({"question": ["x"], "answer": [DAY]}, "row 1: field 'answer': ... text or a number"),
    ],
)
def test_a_bad_row_is_named(columns, told):
    refused(read_questions, put("q.parquet", table(columns)), told=f"q.parquet: {told}")


@pytest.mark.parametrize("source", ["q.parquet", "gsm8k:q.parquet"])
def test_without_pyarrow_the_extra_is_named(monkeypatch, source):
    put("q.parquet", table(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    hint = "pip install '.[parquet]' in lmsi's folder"
    refused(read_questions, source, told="q.parquet: ... needs pyarrow", hint=hint)


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1....PAR1", b"ARROW1\0\0zzzz", b"\xff\xff\xff\xffzzzz", b"version https://git-lfs"],
)
def test_what_is_only_called_a_table_is_refused(data):
    told = "q.parquet: not a Parquet or Arrow table"
    refused(read_questions, put("q.parquet", data), told=told)


BOMBS = {"rows": pa.nulls(3_000_000, pa.string()), "text": pa.array(["x" * (65 << 20)])}


@pytest.mark.parametrize("column", BOMBS.values(), ids=BOMBS)
def test_a_small_table_that_unpacks_without_end_is_refused(column):
    file = put("q.parquet", table({"question": column}, compression="zstd"))
    refused(read_questions, file, told="q.parquet: ... bytes would unpack to")


def saved(*files):
    """The state of a folder that `datasets` saved."""
    put("state.json", json.dumps({"_data_files": [{"filename": f} for f in files]}))


def test_a_saved_folder_s_files_are_read_in_their_order_and_what_is_not_whole_is_refused():
    for name, question in (("data-1", "a"), ("data-0", "b"), ("cache-12ab", "")):
        put(f"{name}.arrow", table({"question": [question]}, "new_stream"))
    saved("data-1.arrow", "data-0.arrow")
    assert [q.question for q in read_questions(".")] == ["a", "b"]
    saved("cache-12ab.arrow")
    refused(read_questions, ".", told="cache-12ab.arrow: row 1: ")
    saved("gone.arrow")
    refused(read_questions, ".", told="gone.arrow: no such file")
    saved()
    refused(read_questions, ".", told=".: no questions in it")
    put("state.json", "{")
    refused(read_questions, ".", told="state.json: cannot be read")
