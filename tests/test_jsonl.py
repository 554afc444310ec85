"""Files of records survive kill -9, a torn line and a full disk, and are read by key."""

import errno
import io
import os
import random
import tracemalloc

import pytest

from lmsi_cli import jsonl
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import appender, read_object, read_records, shuffled_writer, write_records
from lmsi_cli.records import Interval, Question, TrainExample

QUESTIONS = [
    Question(id="a", question="Was ist ½ + ½?"),
    Question(id="b", question='"x"\n{'),
    Question(id="ç", question="7?", answer="7", family="f"),
]


def append(path, records=()):
    with appender(path, Question) as write:
        for record in records:
            write(record)


def read(path, kind=Question):
    return list(read_records(path, kind))


@pytest.fixture
def file(tmp_path):
    """A records file in a folder that is not there yet."""
    return tmp_path / "run" / "questions.jsonl"


def test_a_line_is_on_the_disk_before_the_next_is_written(file):
    with appender(file, Question) as write:
        write(QUESTIONS[0])
        line = '{"answer":null,"family":null,"group":null,"id":"a","question":"Was ist ½ + ½?"}\n'
        assert file.read_bytes() == line.encode()
        write(QUESTIONS[1])
        assert read(file) == QUESTIONS[:2]


def test_torn_at_every_byte_offset_and_rubbish_at_the_end_is_cut_off(file):
    append(file, QUESTIONS)
    whole = file.read_bytes()
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        complete = (whole[:cut] + b"\n").count(b"}\n")  # with its brace; a newline may be missing
        assert read(file) == QUESTIONS[:complete], cut
        append(file, QUESTIONS[complete:])
        assert file.read_bytes() == whole, cut
    for rubbish in (b"\0" * 9, b"\xff\xfe", b"{\xff\n", b'{"id":"\n', b" \n\n"):
        file.write_bytes(whole + rubbish)
        assert read(file) == QUESTIONS, rubbish
        append(file, QUESTIONS[:1])
        assert read(file) == [*QUESTIONS, QUESTIONS[0]], rubbish


GOOD = b'{"id":"a","question":"b"}\n'
BAD_LINES = {
    "no JSON": (b"nonsense\n" + GOOD, 1, "not valid JSON"),
    "not UTF-8": (GOOD + b'{"id":"\xff"}\n' + GOOD, 2, "not valid JSON"),
    "torn in the middle": (GOOD + b'{"id": "a", "question": "b\n' + GOOD, 2, "not valid JSON"),
    "a field is missing": (GOOD * 16 + b'{"id":"a"}\n' + GOOD, 17, "'question'"),
    "in a last line without its end": (GOOD + b'{"id":"a"}', 2, "'question'"),
    "another type": (GOOD + b'\n{"id":1,"question":"b"}\n', 3, "'id': expected 'str', got 'int'"),
    "an unknown field": (b'{"id":"a","question":"b","qestion":1}\n', 1, "'qestion'"),
}


@pytest.mark.parametrize(("content", "line", "field"), BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("use", [read, append])
def test_bad_lines_are_named_and_kept(file, use, content, line, field):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(LmsiError) as e:
        use(file)
    assert str(e.value).startswith(f"{file}:{line}: ")
    assert field in str(e.value)
    assert file.read_bytes() == content


def test_what_cannot_be_used_is_named(tmp_path):
    file, folder = tmp_path / "questions.jsonl", tmp_path
    for use, place, told in (
        (read, file, "cannot be read"),
        (read, folder, "cannot be read"),
        (append, folder, "cannot be written"),
        (read_object, file, "cannot be read"),
    ):
        with pytest.raises(LmsiError, match=f"{place.name}: {told}"):
            use(place)
    file.write_text('{"prompt": [{"role": "nobody"}]}')
    assert read_object(file) == {"prompt": [{"role": "nobody"}]}
    with pytest.raises(LmsiError, match=r"jsonl:1: field 'prompt\[0\].role'"):
        read(file, TrainExample)
    file.write_text("[1]")
    with pytest.raises(LmsiError, match=r"jsonl: not of this version of lmsi: expected"):
        read_object(file)


def test_a_number_json_cannot_hold_is_a_bug_and_leaves_no_line(file):
    with appender(file, Interval) as write:
        write(Interval(value=0.5, low=0, high=1, n=1))
        with pytest.raises(ValueError, match=r"Interval.low is nan"):
            write(Interval(value=0.5, low=float("nan"), high=1, n=1))
    assert len(read(file, Interval)) == 1


class SmallDisk(io.FileIO):
    """On a disk that takes ``room`` more bytes and is full then."""

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data)[: self.room]
        self.room -= len(part)
        return super().write(part)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_whole_lines(file, monkeypatch, room):
    append(file)
    disk = SmallDisk(file, "ab")
    disk.room = room
    with monkeypatch.context() as m, pytest.raises(LmsiError, match="No space left") as e:
        m.setattr(jsonl, "open_mended", lambda *_: disk)
        append(file, QUESTIONS * 9)
    assert str(file) in str(e.value)
    assert "same command again" in e.value.hint
    content = file.read_bytes()
    assert content.endswith(b"\n") or not content
    append(file, QUESTIONS)  # there is room again
    assert read(file)[-3:] == QUESTIONS


def test_fsync_that_fails_is_told_and_the_callers_own_error_is_not_blamed_on_it(file, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(ConnectionError), appender(file, Question) as write:
        write(QUESTIONS[0])
        raise ConnectionError
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LmsiError, match="Input/output error"):
        append(file, QUESTIONS[1:])
    assert read(file) == QUESTIONS


def test_fsync_at_most_once_a_second(file, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    append(file, QUESTIONS * 50)
    assert len(calls) == 1  # on closing
    monkeypatch.setattr(jsonl, "FSYNC_SECONDS", 0.0)
    append(file, QUESTIONS)
    assert len(calls) == 1 + 3 + 1


def shuffled(path, records, seed=0):
    with shuffled_writer(path, seed) as write:
        for record in records:
            write(record)


def test_a_shuffled_file_is_what_a_shuffled_list_would_be(file):
    long = "?" * 5000  # more than one reading takes
    records = [Question(id=f"q{i}", question=long * (i % 3 == 1)) for i in range(40)]
    shuffled(file, records, 3)
    random.Random(3).shuffle(records)
    assert read(file) == records


@pytest.mark.parametrize("write", [write_records, shuffled])
def test_a_file_that_is_not_finished_leaves_the_old_one(file, write):
    def unfinished():
        yield QUESTIONS[1]
        raise KeyError

    write_records(file, QUESTIONS[:1])
    with pytest.raises(KeyError):
        write(file, unfinished())
    assert read(file) == QUESTIONS[:1]
    assert [*file.parent.iterdir()] == [file]


# -- by key, in memory that does not grow with the file --------------------------------------------


def numbered(path, *rows, text=""):
    write_records(path, (Question(id=key, question=text, answer=str(n)) for key, n in rows))


def indexed(path):
    return jsonl.JsonlIndex(path, Question, lambda q: (q.id, int(q.answer)), "{key} {number}")


def test_groups_come_in_order_whole_and_once(file):
    rows = ("b", 7), ("a", 1), ("\U0001f600", 0), ("b", 0), ("\uffee", 4), ("", 2), ("\0", 3)
    numbered(file, *rows)
    groups = {"": [2], "\0": [3], "a": [1], "b": [0, 7], "\uffee": [4], "\U0001f600": [0]}
    with indexed(file) as found:
        assert [(key, [int(q.answer) for q in group]) for key, group in found] == [*groups.items()]
        assert {key: [int(q.answer) for q in found.get(key)] for key in groups} == groups
        assert (found.get("no such key"), len(found), found.largest) == ([], 6, 7)
    numbered(file)
    with indexed(file) as found:
        assert ([*found], len(found), found.largest) == ([], 0, -1)


def test_memory_does_not_grow_with_the_file(file):
    numbered(file, *((f"q{i % 500}", i // 500) for i in range(5_000)), text="x" * 4_000)
    tracemalloc.start()
    with indexed(file) as found:
        assert sum(len(group) for _, group in found) == 5_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < file.stat().st_size / 20


def test_what_cannot_be_indexed_or_is_changed_meanwhile_is_told_and_a_torn_line_left_out(file):
    for number, told in ((1, "a 1 is there twice"), (1 << 64, f"a {1 << 64}: no such number")):
        numbered(file, ("a", 1), ("b", 2), ("a", number))
        with pytest.raises(LmsiError, match=f"{file.name}: {told}"):
            indexed(file)
    numbered(file, ("a", 1))
    torn = file.read_bytes() + b'\n{"id": "c"'
    file.write_bytes(torn)
    with indexed(file) as found:
        assert [key for key, _ in found] == ["a"]
    with indexed(file) as found:
        file.write_bytes(b"x" * 9)
        with pytest.raises(LmsiError, match="was changed while it was read"):
            found.get("a")
    file.write_bytes(torn + b"}\n")
    with pytest.raises(LmsiError, match=f"{file.name}:3: missing field 'question'"):
        indexed(file)
