"""Files of records survive kill -9, a torn line and a full disk."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsi_cli import atomic, jsonl
from lmsi_cli.atomic import write_atomic
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import Appender, appender, read_records, write_records
from lmsi_cli.records import Interval, Path, Question, Vote
from lmsi_cli.run_folder import RunDir

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


def test_append_and_read(file):
    append(file, QUESTIONS[:1])
    append(file, QUESTIONS[1:])
    assert read(file) == QUESTIONS
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert (
        first == '{"answer":null,"family":null,"group":null,"id":"a","question":"Was ist ½ + ½?"}'
    )


def test_a_line_is_on_the_disk_before_the_next_is_written(file):
    with appender(file, Question) as lines:
        for n, question in enumerate(QUESTIONS, 1):
            lines.write(question)
            assert read(file) == QUESTIONS[:n]


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
BAD_LINES = [
    (b"nonsense\n" + GOOD, ":1: not valid JSON"),
    (GOOD + b'{"id":"\xff"}\n' + GOOD, ":2: not valid JSON"),
    (GOOD + b'{"id": "a", "question": "b\n' + GOOD, ":2: not valid JSON"),
    (GOOD * 16 + b'{"id":"a"}\n' + GOOD, ":17: missing field 'question'"),
    (GOOD + b'{"id":"a"}\n', ":2: missing field 'question'"),
    (GOOD + b'{"id":"a"}', ":2: missing field 'question'"),
    (GOOD + b'\n{"id":1,"question":"b"}\n', ":3: field 'id': expected 'str', got 'int'"),
    (b'{"id":"a","question":"b","qestion":1}\n', ":1: unknown field 'qestion'"),
    (b"[1]\n", ":1: expected 'object', got 'array'"),
]


@pytest.mark.parametrize(("content", "message"), BAD_LINES)
def test_bad_lines_are_named_and_kept(file, content, message):
    file.parent.mkdir()
    file.write_bytes(content)
    for use in (lambda: read(file), lambda: append(file, QUESTIONS)):
        with pytest.raises(LmsiError) as e:
            use()
        assert str(e.value).startswith(f"{file}{message}")
    assert file.read_bytes() == content


def test_bad_fields_deep_inside_are_named(file):
    vote = Vote(
        question_id="q",
        predicted_answer="1",
        majority_votes=2,
        runner_up_votes=0,
        total_votes=2,
        num_paths=2,
        no_answer=0,
        truncated=0,
        refuted=0,
        tie=False,
        share=1.0,
        share_of_all=1.0,
        margin=1.0,
        ballots={"1": 2},
        kept=(0, 1),
    )
    append(file, [vote], Vote)
    assert read(file, Vote) == [vote]
    file.write_text(file.read_text().replace("[0,1]", '[0,"x"]'))
    with pytest.raises(LmsiError, match=r":1: field 'kept\[1\]': expected 'int', got 'str'"):
        read(file, Vote)


def test_missing_file_and_folder_in_the_way(file, tmp_path):
    with pytest.raises(LmsiError, match=r"questions.jsonl: cannot be read: No such file"):
        read(file)
    with pytest.raises(LmsiError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(LmsiError, match="cannot be written: Is a directory"):
        append(tmp_path, [])
    (tmp_path / "file").touch()
    with pytest.raises(LmsiError, match="cannot make this folder: File exists"):
        RunDir(tmp_path / "file").create()
    with pytest.raises(LmsiError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "x", "")


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
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
"""


def test_kill_9_while_writing(file):
    rng = random.Random(0)
    seen = 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(file)])
        try:
            deadline = time.monotonic() + 20
            while not (file.exists() and len(read(file)) > seen) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.random() * 0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        found = read(file)
        assert [q.id for q in found] == [str(i) for i in range(len(found))]
        assert len(found) > seen
        seen = len(found)


class FullDisk:
    """A file that takes ``room`` more bytes, a part of a write if need be, then fails."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return self.file.write(part)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 40, 80, 100])
def test_full_disk_leaves_whole_lines(file, room):
    file.parent.mkdir()
    with file.open("ab", buffering=0) as raw:
        lines = Appender(FullDisk(raw, room), file)
        with pytest.raises(LmsiError) as e:
            for question in QUESTIONS * 9:
                lines.write(question)
    assert str(e.value) == (
        f"{file}: cannot be written: No space left on device; what was written before stays"
    )
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
        monkeypatch.setattr(jsonl.os, "fsync", fail)
    assert read(file) == QUESTIONS[:1]


def test_fsync_at_most_once_a_second(file, monkeypatch):
    calls = []
    monkeypatch.setattr(jsonl.os, "fsync", calls.append)
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


def test_write_atomic_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_atomic(path, "½")
    assert path.read_bytes() == "½".encode()

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(atomic.os, "fsync", fail)
        with pytest.raises(LmsiError, match=r"report.html: cannot be written: No space"):
            write_atomic(path, b"new")
    with pytest.raises(KeyError):
        write_records(path, (QUESTIONS[i] if i < 2 else {}["no"] for i in range(3)))
    assert path.read_bytes() == "½".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
