"""Files of records survive kill -9, a torn line and a full disk."""

import errno
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_disks import small_disk

from lmsi_cli import jsonl
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import (
    appender,
    read_object,
    read_records,
    shuffled_writer,
    write_records,
)
from lmsi_cli.records import Interval, Question, TrainExample

QUESTIONS = [
    Question(id="a", question="Was ist ½ + ½?"),
    Question(id="b", question='"x"\n{'),
    Question(id="ç", question="7?", answer="7", family="f"),
]


def append(path, records, kind=Question):
    with appender(path, kind) as write:
        for record in records:
            write(record)


def read(path, kind=Question):
    return list(read_records(path, kind))


@pytest.fixture
def file(tmp_path):
    """A records file in a folder that is not there yet."""
    return tmp_path / "run" / "questions.jsonl"


def test_a_line_is_on_the_disk_before_the_next_is_written(file):
    append(file, QUESTIONS[:1])
    with appender(file, Question) as write:
        write(QUESTIONS[1])
        assert read(file) == QUESTIONS[:2]
        write(QUESTIONS[2])
        assert read(file) == QUESTIONS
    first = file.read_text(encoding="utf-8").splitlines()[0]
    line = '{"answer":null,"family":null,"group":null,"id":"a","question":"Was ist ½ + ½?"}'
    assert first == line


def test_torn_at_every_byte_offset(file):
    append(file, QUESTIONS)
    whole = file.read_bytes()
    ends = [i for i in range(len(whole) + 1) if whole[:i].endswith(b"}\n") or not i]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        # A record is complete with its brace; the newline may be missing.
        complete = sum(end - 1 <= cut for end in ends[1:])
        assert read(file) == QUESTIONS[:complete], cut
        append(file, QUESTIONS[complete:])
        assert file.read_bytes() == whole, cut


@pytest.mark.parametrize("tail", [b"\0" * 9, b"\xff\xfe", b"{\xff\n", b'{"id":"\n', b" \n\n"])
def test_rubbish_at_the_end_is_cut_off(file, tail):
    append(file, QUESTIONS[:2])
    file.write_bytes(file.read_bytes() + tail)
    assert read(file) == QUESTIONS[:2]
    append(file, QUESTIONS[2:])
    assert read(file) == QUESTIONS


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
@pytest.mark.parametrize("use", [read, lambda file: append(file, [])], ids=["read", "append"])
def test_bad_lines_are_named_and_kept(file, use, content, line, field):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(LmsiError) as e:
        use(file)
    assert str(e.value).startswith(f"{file}:{line}: ")
    assert field in str(e.value)
    assert file.read_bytes() == content


def test_a_bad_field_deep_inside_is_named(file):
    talk = ({"role": "user", "content": "Q"}, {"role": "nobody", "content": "Q"})
    write_records(
        file,
        [TrainExample(prompt=talk, completion="A", format="cot-zero", question_id="q", path=0)],
    )
    with pytest.raises(LmsiError, match=r":1: field 'prompt\[1\].role'"):
        read(file, TrainExample)


def test_a_missing_file_and_a_folder_in_its_place_are_told(file, tmp_path):
    with pytest.raises(LmsiError, match=r"questions.jsonl: cannot be read"):
        read(file)
    with pytest.raises(LmsiError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(LmsiError, match="cannot be written"):
        append(tmp_path, [])


def test_a_file_of_one_object(file):
    with pytest.raises(LmsiError, match=r"questions.jsonl: cannot be read"):
        read_object(file)
    file.parent.mkdir()
    file.write_text('{"a": [1]}')
    assert read_object(file) == {"a": [1]}
    file.write_text("[1]")
    with pytest.raises(LmsiError, match=r"questions.jsonl: not of this version of lmsi: expected"):
        read_object(file)


def test_a_number_json_cannot_hold_is_a_bug_and_leaves_no_line(file):
    with appender(file, Interval) as write:
        write(Interval(value=0.5, low=0, high=1, n=1))
        with pytest.raises(ValueError, match=r"Interval.low is nan"):
            write(Interval(value=0.5, low=float("nan"), high=1, n=1))
    assert len(read(file, Interval)) == 1


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_whole_lines(file, room):
    with small_disk(room), pytest.raises(LmsiError, match="No space left") as e:
        append(file, QUESTIONS * 9)
    assert str(file) in str(e.value)
    assert "same command again" in e.value.hint
    content = file.read_bytes()
    assert content.endswith(b"\n") or not content
    append(file, QUESTIONS)  # there is room again
    assert read(file)[-3:] == QUESTIONS


def test_fsync_that_fails_is_told(file, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    for fault, told in ((LmsiError, "Input/output error"), (ConnectionError, None)):
        with pytest.raises(fault, match=told), appender(file, Question) as write:
            write(QUESTIONS[0])
            if fault is ConnectionError:  # the caller's own is not blamed on the file
                raise fault
            monkeypatch.setattr(os, "fsync", fail)
        monkeypatch.undo()
    assert read(file) == QUESTIONS[:1] * 2


def test_fsync_at_most_once_a_second(file, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    append(file, QUESTIONS * 50)
    assert len(calls) == 1  # on closing
    monkeypatch.setattr(jsonl, "FSYNC_SECONDS", 0.0)
    append(file, QUESTIONS)
    assert len(calls) == 1 + 3 + 1


@given(st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=30)
def test_a_shuffled_file_is_what_a_shuffled_list_would_be(tmp_path_factory, count, seed):
    long = "?" * 5000  # more than one reading takes
    records = [Question(id=f"q{i}", question=long * (i % 3 == 1)) for i in range(count)]
    path = tmp_path_factory.mktemp("s") / "q.jsonl"
    with shuffled_writer(path, seed) as write:
        write(*records[:3])
        write(*records[3:])
    random.Random(seed).shuffle(records)
    assert read(path) == records


def shuffled(path, records):
    with shuffled_writer(path, 0) as write:
        for record in records:
            write(record)


@pytest.mark.parametrize("write", [write_records, shuffled])
def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path, write):
    def unfinished():
        yield QUESTIONS[1]
        raise KeyError

    path = tmp_path / "q.jsonl"
    write_records(path, QUESTIONS[:1])
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write(path, unfinished())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["q.jsonl"]
    write(path, QUESTIONS[1:2])
    assert read(path) == QUESTIONS[1:2]
