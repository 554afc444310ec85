"""The run folder: one process at a time, the paths and settings it goes on with, its limits."""

import contextlib
import errno
import os
import tracemalloc
from pathlib import Path

import forked
import pytest

from lmsi_cli.atomic import write_atomic
from lmsi_cli.errors import LmsiError
from lmsi_cli.resume import MOST, DrawnPaths, check_same
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


def test_settings_are_kept_by_section_as_they_were(tmp_path):
    run = RunDir(tmp_path / "r")
    assert run.load_settings() == {}
    odd = {"t": 0.1 + 0.2, "n": -(2**60), "f": ("a", "b"), "none": None, "empty": (), "on": True}
    odd |= {'key "½"': '"""\n\\ \x7f½', "": "\r\n'''"}
    for section, settings in (("sample", {"t": 1}), ("vote", {"min_share": 0.25}), ("sample", odd)):
        run.save_settings(section, settings)
    saved = run.load_settings()
    assert saved.keys() == {"sample", "vote"} and saved["vote"] == {"min_share": 0.25}
    moved = ({"model": "a.gguf", "model_sha256": "1"}, {"model": "b.gguf", "model_sha256": "1"})
    for same in ((saved["sample"], odd), ({}, {"f": ()}), ({"f": []}, {}), moved):
        check_same(*same, "the paths in r")  # raises if not
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


# -- what a run goes on from -----------------------------------------------------------------------


def test_each_path_counts_once_and_lacks_no_more():
    drawn = DrawnPaths()
    for question, path in (("a", 0), ("a", 5), ("a", 5), ("b", 39), ("c", -1), ("c", MOST)):
        drawn.add(question, path, parsed=path != 5)
    assert (drawn.paths, drawn.parsed) == (3, 2)  # no run uses the numbers of c,
    assert drawn.questions == {"a", "b", "c"}  # but it is known
    assert drawn.lacks("a", 7) == (1, 2, 3, 4, 6)
    assert drawn.lacks("a", 2) == (1,)
    assert drawn.lacks("b", 2) == drawn.lacks("c", 2) == drawn.lacks("other", 2) == (0, 1)


def test_a_path_costs_a_few_bytes_at_most():
    tracemalloc.start()
    drawn = DrawnPaths()
    for number in range(500 * 32):
        drawn.add(f"q-{number // 32:012x}", number % 32, parsed=True)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8 * drawn.paths == 8 * 16_000  # tuples in a dict: some 160


@pytest.mark.parametrize(
    ("saved", "now", "told"),
    [
        ({"t": 0.7}, {}, "t: 0.7 in the run folder, not set now"),
        ({}, {"t": "x"}, "t: not set in the run folder, x now"),
        ({"f": ["a"]}, {"f": ("b",)}, "f: ['a'] in the run folder, ['b'] now"),
        ({"f": ["a"]}, {"f": ()}, "f: ['a'] in the run folder, not set now"),
    ],
)
def test_other_settings_are_refused_with_their_names(saved, now, told):
    with pytest.raises(LmsiError, match="the paths in r had other settings") as e:
        check_same(saved, now, "the paths in r")
    assert told in str(e.value)
    assert "--overwrite" in e.value.hint
