"""The run folder: one process at a time, its settings, what may be discarded, what is refused."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmsi_cli.atomic import write_atomic
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir, discard, in_use, locked, sha256_file

HOLDER = """
import errno, fcntl, sys
def none(fd, how):
    raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2:]:
    fcntl.flock = none
from lmsi_cli.run_folder import RunDir, locked
with locked(RunDir(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holding(*told):
    """Another process that holds a folder."""
    command = [sys.executable, "-c", HOLDER, *told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


@pytest.fixture
def holder(tmp_path):
    with holding(tmp_path / "r") as child:
        yield child


def test_a_file_system_without_locks_keeps_two_processes_apart_as_well(tmp_path, monkeypatch):
    def none(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    run = RunDir(tmp_path / "r")
    with holding(run.root, "without locks") as child:
        with pytest.raises(LmsiError, match=f"in use by process {child.pid}"), locked(run):
            pass
        assert in_use(run)
        child.kill()
        child.wait()
    with locked(run):  # what a killed holder has left is in nobody's way
        assert run.lock_owner.read_text() == f"{os.getpid()}\n"
    assert not in_use(run)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path, holder):
    run = RunDir(tmp_path / "r")
    with pytest.raises(LmsiError, match=f"in use by process {holder.pid}") as e, locked(run):
        pass
    assert str(run.root) in str(e.value) and e.value.hint
    assert in_use(run)
    holder.kill()  # as hard as kill -9
    holder.wait()
    with locked(run):
        assert run.lock_owner.read_text() == f"{os.getpid()}\n"
    assert not run.lock_owner.exists()
    assert not in_use(run)


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


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path):
    run = RunDir(tmp_path / "file")
    run.root.touch()
    with pytest.raises(LmsiError, match="cannot make this folder"), locked(run):
        pass


def test_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(LmsiError, match="cannot be read"):
        sha256_file(tmp_path / "y")


def test_discard_takes_what_lmsi_wrote_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir(".")  # a root that is its own parent
    ours = [
        run.run_toml,
        run.paths,
        run.status,
        Path("votes.jsonl.tmp"),
        run.adapter_gguf,
        run.train_log,
        run.adapter / "adapter_config.json",
        run.eval_result("base"),
        run.eval_answers("base"),
    ]
    theirs = [Path("notes.txt"), run.eval_dir / "mine.json", Path("paths.jsonl.bak")]
    with locked(run):
        for path in ours + theirs:
            write_atomic(path, "x")
        discard(run)
        assert run.lock.exists() and run.lock_owner.exists()
    assert not [p for p in ours if p.exists()]
    assert not [p for p in theirs if not p.exists()]
    assert not run.adapter.exists()
    discard(run)
    discard(RunDir("none"))


def test_each_file_has_a_name_of_its_own_in_the_folder(tmp_path):
    names = list(vars(RunDir(str(tmp_path))).values())
    assert len(set(names)) == len(names) > 20
    assert not [p for p in names if p != tmp_path and tmp_path not in p.parents]


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/run", Path("s3://bucket/run")])
def test_a_run_folder_has_no_address(address):
    with pytest.raises(LmsiError, match="s3://") as e:
        RunDir(address)
    assert "lmsi export" in e.value.hint
    assert "secret" not in str(e.value)
