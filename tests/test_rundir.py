"""The run folder survives kill -9, a full disk and a second process."""

import contextlib
import errno
import os
import random
import signal
import string
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsi_cli import lines as line_files
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import Appender, appender, read_records, write_atomic, write_records
from lmsi_cli.records import Interval, Path, Question, Vote
from lmsi_cli.rundir import RunDir, check_same, discard, locked, sha256_file

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
    assert first == '{"answer":null,"family":null,"id":"a","question":"Was ist ½ + ½?"}'


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
from lmsi_cli.lines import appender, read_records
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


HOLDER = """
import sys, time
from lmsi_cli.rundir import RunDir, locked
with locked(RunDir(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_folder(tmp_path):
    run = RunDir(tmp_path / "r")
    child = subprocess.Popen([sys.executable, "-c", HOLDER, run.root], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(LmsiError) as e, locked(run):
            pass
        assert str(e.value) == f"run folder {run.root} is in use by process {child.pid}"
        assert e.value.hint
    finally:
        child.kill()  # as hard as kill -9
        child.wait()
        child.stdout.close()
    with locked(run):
        assert run.lock_owner.read_text() == f"{os.getpid()}\n"
    assert not run.lock_owner.exists()


def test_the_lock_is_freed_by_an_error_and_not_reentrant(tmp_path):
    run = RunDir(tmp_path)
    with contextlib.suppress(KeyError), locked(run):
        raise KeyError
    with locked(run):
        with pytest.raises(LmsiError, match=f"in use by process {os.getpid()}"), locked(run):
            pass
        run.lock_owner.unlink()
        with pytest.raises(LmsiError, match="in use by another process"), locked(run):
            pass


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
        monkeypatch.setattr(line_files.os, "fsync", fail)
    assert read(file) == QUESTIONS[:1]


def test_fsync_at_most_once_a_second(file, monkeypatch):
    calls = []
    monkeypatch.setattr(line_files.os, "fsync", calls.append)
    append(file, QUESTIONS * 50)
    assert len(calls) == 1  # on closing
    monkeypatch.setattr(line_files, "FSYNC_SECONDS", 0.0)
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
        m.setattr(line_files.os, "fsync", fail)
        with pytest.raises(LmsiError, match=r"report.html: cannot be written: No space"):
            write_atomic(path, b"new")
    with pytest.raises(KeyError):
        write_records(path, (QUESTIONS[i] if i < 2 else {}["no"] for i in range(3)))
    assert path.read_bytes() == "½".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_settings_by_section(tmp_path):
    run = RunDir(tmp_path / "r")
    assert run.load_settings() == {}
    run.save_settings("sample", {"temperature": 0.7, "formats": ("a", "b"), "none": None})
    run.save_settings("vote", {"min_share": 0.25, "text": 'a"\n½'})
    run.save_settings("sample", {"temperature": 1.0})
    assert run.load_settings() == {
        "sample": {"temperature": 1.0},
        "vote": {"min_share": 0.25, "text": 'a"\n½'},
    }
    run.run_toml.write_text("sample = [")
    with pytest.raises(LmsiError, match=r"run.toml: "):
        run.load_settings()
    with pytest.raises(LmsiError, match=r"run.toml: "):
        run.save_settings("vote", {})


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | texts
    | st.floats(allow_nan=False)
    | st.tuples(texts, texts)
)


@given(st.dictionaries(texts, scalars, max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saved_settings_are_the_same(tmp_path, values):
    run = RunDir(tmp_path)
    run.save_settings("sample", values)
    check_same(run.load_settings()["sample"], values, "the run")


@pytest.mark.parametrize(
    ("saved", "now", "told"),
    [
        ({"t": 0.7}, {"t": 1.0}, "t: 0.7 in the run folder, 1.0 now"),
        ({"t": 0.7}, {}, "t: 0.7 in the run folder, not set now"),
        ({}, {"t": "x"}, "t: not set in the run folder, x now"),
        (
            {"a": 1, "b": 2, "c": 3},
            {"c": 4, "b": 2, "a": 2},
            "c: 3 in the run folder, 4 now; a: 1 in the run folder, 2 now",
        ),
        ({"f": ["a"]}, {"f": ("b",)}, "f: ['a'] in the run folder, ['b'] now"),
    ],
)
def test_other_settings_are_refused(saved, now, told):
    with pytest.raises(LmsiError) as e:
        check_same(saved, now, "the paths in r")
    assert str(e.value) == f"the paths in r had other settings: {told}"
    assert "--overwrite" in e.value.hint


def test_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_file(path) == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with pytest.raises(LmsiError, match="cannot be read"):
        sha256_file(tmp_path / "y")


def test_discard_leaves_what_is_not_ours(tmp_path):
    run = RunDir(tmp_path)
    ours = [
        run.run_toml,
        run.paths,
        run.adapter_gguf,
        run.train_log,
        run.eval_result("base"),
        run.eval_answers("base"),
        tmp_path / "votes.jsonl.tmp",
    ]
    theirs = [tmp_path / "notes.txt", run.eval_dir / "mine.json", tmp_path / "paths.jsonl.bak"]
    with locked(run):
        for path in ours + theirs:
            write_atomic(path, "x")
        discard(run)
        assert run.lock.exists()
    assert not [p for p in ours if p.exists()]
    assert all(p.exists() for p in theirs)
    assert not run.adapter.exists()
    discard(run)
    discard(RunDir(tmp_path / "none"))


def test_names_are_of_one_folder(tmp_path):
    names = [v for v in vars(RunDir(str(tmp_path))).values()]
    assert all(tmp_path == p or tmp_path in p.parents for p in names)
    assert len(set(names)) == len(names)
    assert set(RunDir("r").eval_result("base-test").name) <= set(string.ascii_letters + ".-")
