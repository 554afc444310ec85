"""Records of a file by their key, in memory that does not grow with the file."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import JsonlIndex, write_records
from lmsi_cli.records import Question


def question(key, number, text=""):
    return Question(id=key, question=text, answer=str(number))


def indexed(path):
    return JsonlIndex(path, Question, lambda q: (q.id, int(q.answer)), "{key} {number}")


ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
rows = st.lists(st.tuples(ids, st.integers(0, 99)), unique=True, max_size=30)


@given(rows)
@settings(max_examples=25)
def test_groups_come_in_order_whole_and_once(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("i") / "q.jsonl"
    write_records(path, [question(*row) for row in rows])
    with indexed(path) as found:
        groups = [(key, [int(q.answer) for q in group]) for key, group in found]
        assert [(key, n) for key, numbers in groups for n in numbers] == sorted(rows)
        assert [key for key, _ in groups] == sorted({key for key, _ in rows})
        assert len(found) == len(groups)
        assert found.largest == max((n for _, n in rows), default=-1)
        assert [(k, [int(q.answer) for q in found.get(k)]) for k, _ in groups] == groups
        assert found.get("no such key") == []


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "q.jsonl"
    text = "x" * 4_000
    write_records(path, (question(f"q{i % 500}", i // 500, text) for i in range(5_000)))
    tracemalloc.start()
    with indexed(path) as found:
        assert sum(len(group) for _, group in found) == 5_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 20


def test_a_key_that_is_there_twice_is_named(tmp_path):
    path = tmp_path / "q.jsonl"
    write_records(path, [question("a", 1), question("b", 2), question("a", 1)])
    with pytest.raises(LmsiError, match=r"q.jsonl: a 1 is there twice"):
        indexed(path)


def test_a_bad_line_is_named_by_its_number_and_a_torn_one_left_out(tmp_path):
    path = tmp_path / "q.jsonl"
    write_records(path, [question("a", 1), question("b", 2)])
    path.write_bytes(path.read_bytes() + b"\n" + b'{"id": "c"')
    with indexed(path) as found:
        assert [key for key, _ in found] == ["a", "b"]
    path.write_bytes(path.read_bytes() + b"}\n")
    with pytest.raises(LmsiError, match=r"q.jsonl:4: missing field 'question'"):
        indexed(path)
    with pytest.raises(LmsiError, match="cannot be read"):
        indexed(tmp_path / "none.jsonl")


def test_a_file_that_changes_meanwhile_is_told(tmp_path):
    path = tmp_path / "q.jsonl"
    write_records(path, [question("a", 1)])
    with indexed(path) as found:
        path.write_bytes(b"x" * 9)
        with pytest.raises(LmsiError, match="was changed while it was read"):
            found.get("a")
