"""The run folder: one process at a time, its settings, and what may be discarded."""

import contextlib
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsi_cli.atomic import write_atomic
from lmsi_cli.errors import LmsiError
from lmsi_cli.resume import check_same
from lmsi_cli.run_folder import RunDir, discard, locked, open_run, sha256_file

HOLDER = """
import sys, time
from lmsi_cli.run_folder import RunDir, locked
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


texts = st.text(st.characters(exclude_categories=["Cs"]))
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
    check_same(run.load_settings()["sample"], values, "the run")  # raises where one is another


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
    names = [v for v in vars(RunDir(str(tmp_path))).values() if isinstance(v, os.PathLike)]
    assert all(tmp_path == p or tmp_path in p.parents for p in names)
    assert len(set(names)) == len(names)
    assert set(RunDir("r").eval_result("base-test").name) <= set(string.ascii_letters + ".-")


@pytest.mark.parametrize("shard", ["part-000000.parquet", "_open-000000.jsonl"])
def test_parquet_shards_of_an_earlier_version_are_refused(tmp_path, shard):
    (tmp_path / "paths").mkdir()
    (tmp_path / "paths" / shard).touch()
    with pytest.raises(LmsiError, match="Parquet shards") as e:
        open_run(tmp_path)
    assert "lmsi convert" in e.value.hint
    with pytest.raises(LmsiError, match="Parquet shards"), locked(RunDir(tmp_path)):
        pass


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/run", Path("s3://bucket/run")])
def test_a_run_folder_has_no_address(address):
    with pytest.raises(LmsiError, match="s3://") as e:
        open_run(address)
    assert "lmsi export" in e.value.hint
    assert "secret" not in str(e.value)
