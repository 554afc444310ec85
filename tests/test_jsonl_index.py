"""Records of a file by their key, in memory that does not grow with the file."""

import tracemalloc

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import JsonlIndex, write_records
from lmsi_cli.records import Question


def write(path, *rows, text=""):
    write_records(path, (Question(id=key, question=text, answer=str(n)) for key, n in rows))


def indexed(path):
    return JsonlIndex(path, Question, lambda q: (q.id, int(q.answer)), "{key} {number}")


def test_groups_come_in_order_whole_and_once(tmp_path):
    path = tmp_path / "q.jsonl"
    write(path, ("b", 7), ("a", 1), ("\U0001f600", 0), ("b", 0), ("\uffee", 4), ("", 2), ("\0", 3))
    groups = {"": [2], "\0": [3], "a": [1], "b": [0, 7], "\uffee": [4], "\U0001f600": [0]}
    with indexed(path) as found:
        assert [(key, [int(q.answer) for q in group]) for key, group in found] == [*groups.items()]
        assert {key: [int(q.answer) for q in found.get(key)] for key in groups} == groups
        assert (found.get("no such key"), len(found), found.largest) == ([], 6, 7)
    write(path)
    with indexed(path) as found:
        assert ([*found], len(found), found.largest) == ([], 0, -1)


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "q.jsonl"
    write(path, *((f"q{i % 500}", i // 500) for i in range(5_000)), text="x" * 4_000)
    tracemalloc.start()
    with indexed(path) as found:
        assert sum(len(group) for _, group in found) == 5_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 20


def test_lines_that_cannot_be_indexed_are_named_and_a_torn_one_is_left_out(tmp_path):
    path = tmp_path / "q.jsonl"
    for rows, told in (
        ([("a", 1), ("b", 2), ("a", 1)], "a 1 is there twice"),
        ([("a", 1 << 64)], f"a {1 << 64}: no such number"),
    ):
        write(path, *rows)
        with pytest.raises(LmsiError, match=f"q.jsonl: {told}"):
            indexed(path)
    write(path, ("a", 1))
    path.write_bytes(path.read_bytes() + b'\n{"id": "c"')
    with indexed(path) as found:
        assert [key for key, _ in found] == ["a"]
    path.write_bytes(path.read_bytes() + b"}\n")
    with pytest.raises(LmsiError, match=r"q.jsonl:3: missing field 'question'"):
        indexed(path)


def test_a_file_that_changes_meanwhile_is_told(tmp_path):
    path = tmp_path / "q.jsonl"
    write(path, ("a", 1))
    with indexed(path) as found:
        path.write_bytes(b"x" * 9)
        with pytest.raises(LmsiError, match="was changed while it was read"):
            found.get("a")
