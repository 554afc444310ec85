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
from lmsi_cli.run_folder import RunDir, discard, in_use, locked

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


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "a file system without locks"])
def test_a_second_process_is_told_who_holds_the_folder(tmp_path, monkeypatch, locks):
    def none(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr("fcntl.flock", none)
    run = RunDir(tmp_path / "r")
    with holding(run.root, *([] if locks else ["without locks"])) as child:
        with pytest.raises(LmsiError, match=f"in use by process {child.pid}") as e, locked(run):
            pass
        assert str(run.root) in str(e.value) and e.value.hint
        assert in_use(run)
        child.kill()  # as hard as kill -9
        child.wait()
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


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/run", Path("s3://bucket/run")])
def test_a_run_folder_has_no_address(address):
    with pytest.raises(LmsiError, match="s3://") as e:
        RunDir(address)
    assert "lmsi export" in e.value.hint
    assert "secret" not in str(e.value)
