"""The run folder: one process at a time, its settings, what may be discarded, what is refused."""

import contextlib
import errno
import os
from pathlib import Path

import forked
import pytest

from lmsi_cli.atomic import write_atomic
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir, discard, in_use, locked

HOLDER = """
import sys, test_run_folder as t
with t.locked(t.RunDir(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
LOCKLESS = "import fcntl, test_run_folder as t; fcntl.flock = t.lockless"


def lockless(fd, how):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("before", ["", LOCKLESS], ids=["locks", "a file system without locks"])
def test_a_second_process_is_told_who_holds_the_folder(tmp_path, monkeypatch, before):
    if before:
        monkeypatch.setattr("fcntl.flock", lockless)
    run = RunDir(tmp_path / "r")
    with forked.python("-c", before + HOLDER, run.root) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LmsiError, match=f"in use by process {child.pid}") as e, locked(run):
            pass
        assert str(run.root) in str(e.value) and e.value.hint
        assert in_use(run)
        child.kill()  # as hard as kill -9
    with locked(run):  # what a killed holder has left is in nobody's way
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
    run.save_settings("sample", {"temperature": 0.7})
    run.save_settings("vote", {"min_share": 0.25})
    run.save_settings("sample", {"temperature": 1.0})
    assert run.load_settings() == {"sample": {"temperature": 1.0}, "vote": {"min_share": 0.25}}
    run.run_toml.write_text("sample = [")
    with pytest.raises(LmsiError, match=r"run.toml: "):
        run.save_settings("vote", {})


def test_discard_takes_what_lmsi_wrote_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir(".")  # a root that is its own parent
    ours = [run.run_toml, run.paths, Path("votes.jsonl.tmp"), run.eval_result("base")]
    ours += [run.eval_answers("base"), run.adapter_gguf, run.adapter / "adapter_config.json"]
    theirs = [Path("notes.txt"), run.eval_dir / "mine.json", Path("paths.jsonl.bak")]
    with locked(run):
        for path in ours + theirs:
            write_atomic(path, "x")
        discard(run)
        assert run.lock.exists() and run.lock_owner.exists()
    assert not [p for p in ours if p.exists()]
    assert not [p for p in theirs if not p.exists()]
    assert not run.adapter.exists()
    discard(RunDir("none"))


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/run", Path("s3://bucket/run")])
def test_a_run_folder_has_no_address(address):
    with pytest.raises(LmsiError, match="s3://") as e:
        RunDir(address)
    assert "lmsi export" in e.value.hint
    assert "secret" not in str(e.value)
