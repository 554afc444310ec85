"""Files in the order of a key, and files that appear when they are whole."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, record_writer, shuffled_writer, write_records
from lmsi_cli.jsonl_index import JsonlIndex
from lmsi_cli.records import Question


def question(key, number):
    return Question(id=key, question=f"What is {number}?", answer=str(number))


def indexed(path):
    return JsonlIndex(path, Question, lambda q: (q.id, int(q.answer)), "{key} {number}")


ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
rows = st.lists(st.tuples(ids, st.integers(0, 99)), unique=True, max_size=30)


@given(rows)
@settings(max_examples=40, deadline=None)
def test_groups_come_in_order_whole_and_once(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("i") / "q.jsonl"
    write_records(path, [question(*row) for row in rows])
    with indexed(path) as found:
        groups = [(key, [int(q.answer) for q in group]) for key, group in found]
        assert [(key, n) for key, numbers in groups for n in numbers] == sorted(rows)
        assert [key for key, _ in groups] == sorted({key for key, _ in rows})
        assert found.largest == max((n for _, n in rows), default=-1)
        for key, numbers in groups:
            assert [int(q.answer) for q in found.get(key)] == numbers
        assert found.get("no such key") == []


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


@given(st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_shuffled_file_is_what_a_shuffled_list_would_be(tmp_path_factory, count, seed):
    long = "?" * 5000  # more than one reading takes
    records = [question(f"q{i}" + long * (i % 3 == 1), i) for i in range(count)]
    path = tmp_path_factory.mktemp("s") / "q.jsonl"
    with shuffled_writer(path, seed) as file:
        for record in records[::2]:
            file.write(record)
        file.write(*records[1::2])
    records = records[::2] + records[1::2]
    random.Random(seed).shuffle(records)
    assert list(read_records(path, Question)) == records


@pytest.mark.parametrize("opened", [record_writer, lambda path: shuffled_writer(path, 0)])
def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path, opened):
    path = tmp_path / "q.jsonl"
    write_records(path, [question("old", 1)])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), opened(path) as file:
        file.write(question("new", 2))
        1 / 0  # noqa: B018 - any exception
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["q.jsonl"]
    with opened(path) as file:
        file.write(question("new", 2))
    assert [q.id for q in read_records(path, Question)] == ["new"]
