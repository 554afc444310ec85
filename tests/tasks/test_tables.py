"""Parquet, Arrow and folders that `datasets` saved: the same questions as in JSONL."""

import datetime
import io
import json
import sys

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.readers import read_questions

pa = pytest.importorskip("pyarrow", reason="tables need the extra `parquet`")
DAY = datetime.date(2026, 1, 2)
ROWS = [
    {"id": "a", "question": "1+1?", "answer": "2", "more": [1.5]},
    {"id": "b", "question": "2+2?", "answer": None, "more": []},
]


def parquet(table, **how):
    from pyarrow.parquet import write_table

    write_table(table, target := io.BytesIO(), **how)
    return target.getvalue()


def arrow(table, writer=pa.ipc.new_file):
    with writer(target := io.BytesIO(), table.schema) as file:
        file.write_table(table)
    return target.getvalue()


def stream(table):
    return arrow(table, pa.ipc.new_stream)


FORMATS = {
    "q.parquet": parquet, "q.arrow": arrow, "q.feather": arrow, "s.arrow": stream, "q": stream,
}  # fmt: skip


def put(folder, table, name="q.parquet"):
    table = pa.table(table) if isinstance(table, dict) else pa.Table.from_pylist(table)
    (folder / name).write_bytes(FORMATS.get(name, stream)(table))
    return str(folder / name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_holds_the_fields_of_jsonl(tmp_path, name):
    found = read_questions(put(tmp_path, ROWS, name))
    assert [(q.id, q.question, q.answer) for q in found] == [
        ("a", "1+1?", "2"),
        ("b", "2+2?", None),
    ]


def test_standard_input_may_be_a_table(tmp_path, monkeypatch):
    data = io.BytesIO(parquet(pa.Table.from_pylist(ROWS)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    assert [q.id for q in read_questions("-")] == ["a", "b"]


def test_values_are_taken_as_they_were_written(tmp_path):
    table = {
        "id": [1.0, 2.0, 3.0, 4.0],  # whole numbers, as pandas keeps them
        "question": ["a", "b", "c", "d"],
        "answer": pa.array([0.1, 3.0, None, float("nan")], pa.float32()),
        "family": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "passage": ["P.", "", None, None],
        "when": pa.array([1, 2, 3, 4], pa.timestamp("ns")),  # a column of no meaning here
    }
    found = read_questions(put(tmp_path, table))
    assert [q.id for q in found] == ["1", "2", "3", "4"]
    assert [q.answer for q in found] == ["0.1", "3", None, None]
    assert [q.family for q in found] == ["x", "y", "x", None]
    assert [q.question for q in found] == ["P.\n\na", "b", "c", "d"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"question": ["x", None]}, "row 2: field 'question': expected text, got None"),
        ({"question": ["x\0"]}, "row 1: field 'question': holds a NUL"),
        ({"prompt": ["x"]}, "row 1: missing field 'question'"),
        ({"question": ["x"], "answer": [DAY]}, "row 1: field 'answer': expected text or a number"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path, table, message):
    file = put(tmp_path, table)
    with pytest.raises(LmsiError) as e:
        read_questions(file)
    assert str(e.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize("source", ["{}", "gsm8k:{}"])
def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch, source):
    file = put(tmp_path, ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LmsiError, match="needs pyarrow") as e:
        read_questions(source.format(file))
    assert "pip install '.[parquet]' in lmsi's folder" in e.value.hint


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1....PAR1", b"ARROW1\0\0zzzz", b"\xff\xff\xff\xffzzzz", b"version https://git-lfs"],
)
def test_what_is_only_called_a_table_is_refused(tmp_path, data):
    file = tmp_path / "q.parquet"
    file.write_bytes(data)
    with pytest.raises(LmsiError) as e:
        read_questions(str(file))
    assert str(e.value).startswith(f"{file}: not a Parquet or Arrow table")
    assert "\n" not in str(e.value)


BOMBS = {"rows": pa.nulls(3_000_000, pa.string()), "text": pa.array(["x" * (65 << 20)])}


@pytest.mark.parametrize("column", BOMBS.values(), ids=BOMBS)
def test_a_small_table_that_unpacks_without_end_is_refused(tmp_path, column):
    file = tmp_path / "q.parquet"
    file.write_bytes(parquet(pa.table({"question": column}), compression="zstd"))
    with pytest.raises(LmsiError, match=r"q.parquet: .* bytes would unpack to"):
        read_questions(str(file))


def test_a_saved_folder_s_files_are_read_in_their_order_and_others_are_not(tmp_path):
    put(tmp_path, ROWS[:1], "data-1.arrow")
    put(tmp_path, ROWS[1:], "data-0.arrow")
    file = put(tmp_path, [{"question": ""}], "cache-12ab.arrow")
    files = [{"filename": "data-1.arrow"}, {"filename": "data-0.arrow"}]
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"_data_files": files, "_split": None}))
    assert [q.id for q in read_questions(str(tmp_path))] == ["a", "b"]
    state.write_text(json.dumps({"_data_files": [{"filename": "cache-12ab.arrow"}]}))
    with pytest.raises(LmsiError) as e:
        read_questions(str(tmp_path))
    assert str(e.value).startswith(f"{file}: row 1: ")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{", "state.json: cannot be read"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow: no such file"),
        ('{"_data_files": []}', "no questions in it"),
    ],
)
def test_a_folder_that_is_not_whole(tmp_path, state, message):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(LmsiError, match=message):
        read_questions(str(tmp_path))
