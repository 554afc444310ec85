"""Files of records survive kill -9, a torn line and a full disk."""

import errno
import os
import random
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
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
from lmsi_cli.records import Interval, Path, Question, TrainExample

QUESTIONS = [
    Question(id="a", question="Was ist ½ + ½?"),
    Question(id="b", question='"x"\n{'),
    Question(id="ç", question="7?", answer="7", family="f"),
]


def append(path, records, kind=Question):
    with appender(path, kind) as lines:
        for record in records:
            lines.write(record)


def read(path, kind=Question):
    return list(read_records(path, kind))


@pytest.fixture
def file(tmp_path):
    """A records file in a folder that is not there yet."""
    return tmp_path / "run" / "questions.jsonl"


def test_a_line_is_on_the_disk_before_the_next_is_written(file):
    append(file, QUESTIONS[:1])
    with appender(file, Question) as lines:
        lines.write(QUESTIONS[1])
        assert read(file) == QUESTIONS[:2]
        lines.write(QUESTIONS[2])
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
    "in the last line": (GOOD + b'{"id":"a"}\n', 2, "'question'"),
    "in a last line without its end": (GOOD + b'{"id":"a"}', 2, "'question'"),
    "another type": (GOOD + b'\n{"id":1,"question":"b"}\n', 3, "'id': expected 'str', got 'int'"),
    "an unknown field": (b'{"id":"a","question":"b","qestion":1}\n', 1, "'qestion'"),
    "no object": (b"[1]\n", 1, "expected 'object', got 'array'"),
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


texts = st.text(st.characters(exclude_categories=["Cs"]))
paths = st.builds(
    Path,
    question_id=texts,
    path=st.integers(0, 2**31),
    seed=st.integers(0, 2**64 - 1),
    text=texts,
    num_generated_tokens=st.integers(0, 9999),
    logprob=st.floats(-1e9, 0),
    stop_reason=st.sampled_from(["answer", "next_question", "eos", "length"]),
    predicted_answer=st.none() | texts,
    extract_rule=st.none() | texts,
)


@given(st.lists(paths, max_size=5), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_and_tear(file, records, data):
    write_records(file, records)
    assert read(file, Path) == records
    size = file.stat().st_size
    os.truncate(file, data.draw(st.integers(0, size)))
    left = read(file, Path)
    assert left == records[: len(left)]
    append(file, records[len(left) :], Path)
    assert read(file, Path) == records
    assert file.stat().st_size == size


def test_a_number_json_cannot_hold_is_a_bug_and_leaves_no_line(file):
    with appender(file, Interval) as lines:
        lines.write(Interval(value=0.5, low=0, high=1, n=1))
        with pytest.raises(ValueError, match=r"Interval.low is nan"):
            lines.write(Interval(value=0.5, low=float("nan"), high=1, n=1))
    assert len(read(file, Interval)) == 1


WRITER = """
import sys, pathlib
from lmsi_cli.records import Question
from lmsi_cli.jsonl import appender, read_records
path = pathlib.Path(sys.argv[1])
done = sum(1 for _ in read_records(path, Question)) if path.exists() else 0
with appender(path, Question) as lines:
    for i in range(done, 10**7):
        lines.write(Question(id=str(i), question="x" * (i * 7919 % 3000)))
        print(i, flush=True)
"""


def test_kill_9_while_writing(file):
    rng = random.Random(0)
    command = [sys.executable, "-c", WRITER, str(file)]
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            written = [int(child.stdout.readline()) for _ in range(rng.randrange(1, 200))]
            child.send_signal(signal.SIGKILL)
        found = [int(q.id) for q in read(file)]
        assert found == list(range(len(found)))
        assert len(found) > written[-1]


@pytest.mark.parametrize("room", [0, 1, 40, 80, 100])
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

    with pytest.raises(LmsiError, match="Input/output error"), appender(file, Question) as lines:
        lines.write(QUESTIONS[0])
        monkeypatch.setattr(os, "fsync", fail)
    assert read(file) == QUESTIONS[:1]


def test_fsync_at_most_once_a_second(file, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    append(file, QUESTIONS * 50)
    assert len(calls) == 1  # on closing
    monkeypatch.setattr(jsonl, "FSYNC_SECONDS", 0.0)
    append(file, QUESTIONS)
    assert len(calls) == 1 + 3 + 1


def test_an_error_of_the_caller_is_not_blamed_on_the_file(file):
    with pytest.raises(ConnectionError), appender(file, Question) as lines:
        lines.write(QUESTIONS[0])
        raise ConnectionError
    assert read(file) == QUESTIONS[:1]


@given(st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=30)
def test_a_shuffled_file_is_what_a_shuffled_list_would_be(tmp_path_factory, count, seed):
    long = "?" * 5000  # more than one reading takes
    records = [Question(id=f"q{i}", question=long * (i % 3 == 1)) for i in range(count)]
    path = tmp_path_factory.mktemp("s") / "q.jsonl"
    with shuffled_writer(path, seed) as file:
        file.write(*records[:3])
        file.write(*records[3:])
    random.Random(seed).shuffle(records)
    assert read(path) == records


def shuffled(path, records):
    with shuffled_writer(path, 0) as file:
        for record in records:
            file.write(record)


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
