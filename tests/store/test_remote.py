"""Run folders in stores: one writer, whole files, what a crash may lose, and clocks that jump.

On fsspec's memory store; a real S3-compatible server is in ``tests/cli/test_stores.py``.
"""

import datetime
import threading
import time

import fsspec
import pytest
from shard_paths import sampled

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.records import Path
from lmsi_cli.rundir import RunDir, in_use, locked, opened
from lmsi_cli.store import lease as lease_module
from lmsi_cli.store import place_of, remote

URL = "memory://bucket/runs/a"
MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    """An empty store, and a way to be another machine."""
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]

    def machine(name):
        monkeypatch.setenv("LMSI_WORK", str(tmp_path / name))
        return RunDir(URL)

    machine("first")
    yield machine
    MEMORY.store.clear()


def names():
    return sorted(n.removeprefix("/bucket/runs/a/") for n in MEMORY.find("/bucket"))


def write(run, numbers, form="parquet"):
    with locked(run), run.sampled.appending(form) as lines:
        for n in numbers:
            lines.write(sampled(n))


def drawn(run):
    return sorted(p.path for p in run.sampled.read())


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("s3://bucket/runs/a", "s3://bucket/runs/a"),
        ("s3://bucket/runs/a/", "s3://bucket/runs/a"),
        ("s3:/bucket/a", "s3://bucket/a"),
        ("runs/a", None),
        ("C:/runs/a", None),
        ("/tmp/a:b", None),
    ],
)
def test_which_names_are_stores(name, url):
    from pathlib import Path as File

    for given in (name, File(name)):
        place = place_of(given)
        assert (place and place.url) == url


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("s3://key:secret@bucket/a", "must not hold a password"),
        ("sftp://me:secret@host/a", "must not hold a password"),
        ("s3://", "not a folder of a store"),
        ("file:///tmp/a", "not a folder of a store"),
        ("s3://bucket/../a", "not a folder of a store"),
    ],
)
def test_names_that_are_refused(name, told):
    with pytest.raises(LmsiError, match=told) as e:
        RunDir(name)
    assert "secret" not in str(e.value)


def test_an_unknown_store():
    with pytest.raises(LmsiError, match="no store is known by nosuch://"):
        opened("nosuch://bucket/a")


def test_a_run_goes_there_and_comes_back(stores):
    run = stores("first")
    write(run, range(3))
    run_there = names()
    assert run_there == ["paths/part-000000.parquet"]
    with locked(run):
        run.save_settings("sample", {"paths": 3})
    second = stores("second")
    assert drawn(opened(URL)) == [0, 1, 2]
    write(second, [3])
    assert names() == ["paths/part-000000.parquet", "paths/part-000001.parquet", "run.toml"]
    stores("first")
    assert drawn(opened(URL)) == [0, 1, 2, 3]


def test_a_run_within_a_run_goes_with_it(stores):
    run = stores("first")
    with locked(run), locked(run.round(2)):
        run.round(2).save_settings("sample", {"paths": 3})
    with locked(opened(URL).round(2)):
        run.round(2).save_settings("vote", {"seed": 3})
    assert names() == ["round-2/run.toml"]
    stores("second")
    assert set(opened(URL).round(2).load_settings()) == {"sample", "vote"}


def test_nothing_is_there():
    with pytest.raises(LmsiError, match="memory://bucket/runs/a: no run is there"):
        opened(URL)


def test_one_writer_and_its_place_is_named(stores):
    first = stores("first")
    with locked(first):
        second = stores("second")
        with (
            pytest.raises(LmsiError, match=r"in use by process \d+ on .*, seen 0 s ago"),
            locked(second),
        ):
            raise AssertionError
        assert in_use(second)
    assert not in_use(second)
    write(second, [0])


def test_a_crash_loses_nothing_on_its_machine(stores, monkeypatch):
    """What was not uploaded is in the copy; the marker that it leaves is its own."""
    run = stores("first")
    write(run, [0])

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(remote.Remote, "_finish", lambda *_: None)  # neither upload nor release
        with pytest.raises(KeyboardInterrupt), locked(run), run.sampled.appending("parquet") as f:
            f.write(sampled(1))
            killed()
    assert names() == ["paths/part-000000.parquet", "run.lease"]
    with pytest.raises(LmsiError, match="in use"):
        write(stores("second"), [1])
    again = stores("first")
    assert drawn(again) == [0, 1]
    write(again, [2])
    stores("second")
    assert drawn(opened(URL)) == [0, 1, 2]


def test_who_was_overtaken_keeps_its_paths_aside(stores, monkeypatch):
    run = stores("first")
    write(run, [0])
    with monkeypatch.context() as m:
        m.setattr(remote.Remote, "_finish", lambda *_: None)
        write(run, [1])  # sealed here, not uploaded
    pass_time(lease_module.SECONDS + 1)
    second = stores("second")
    write(second, [1, 2])
    first = stores("first")
    write(first, [3])
    assert drawn(first) == [0, 1, 2, 3]
    aside = first.shards / "part-000001.parquet.unsent"
    assert aside.exists()
    assert not any("unsent" in n for n in names())


def pass_time(seconds):
    """Make everything in the store older."""
    for file in MEMORY.store.values():
        file.modified -= datetime.timedelta(seconds=seconds)


def test_a_lost_claim_uploads_nothing_more(stores):
    first = stores("first")
    with pytest.raises(LmsiError, match=r"was taken over by process \d+"), locked(first):
        pass_time(lease_module.SECONDS + 1)
        second = stores("second")
        with locked(second):
            second.save_settings("sample", {"paths": 1})
            first.save_settings("sample", {"paths": 9})
            with pytest.raises(LmsiError, match="taken over"):
                first.remote._lease().renew()
        with locked(second):
            pass
        MEMORY.pipe(URL + "/run.lease", b'{"owner": "x", "host": "gpu-9", "pid": 4}')
    MEMORY.rm_file(URL + "/run.lease")
    stores("third")
    assert opened(URL).load_settings() == {"sample": {"paths": 1}}


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_this_machines_clock_may_jump(stores, monkeypatch, jump):
    first = stores("first")
    real = time.time
    with locked(first):
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        with pytest.raises(LmsiError, match="in use"), locked(stores("second")):
            raise AssertionError
        first.remote._lease().renew()
    write(stores("second"), [0])


def test_a_store_whose_clock_was_set_back_keeps_the_claim(stores):
    with locked(stores("first")):
        pass_time(-3600)
        with pytest.raises(LmsiError, match="seen 0 s ago"), locked(stores("second")):
            raise AssertionError


def test_a_store_without_times_gives_no_claim_away(stores, monkeypatch):
    with locked(stores("first")):

        def no(*_):
            raise NotImplementedError

        monkeypatch.setattr(type(MEMORY), "modified", no)
        with pytest.raises(LmsiError, match="in use") as e, locked(stores("second")):
            raise AssertionError
        assert e.value.hint.startswith("delete memory://bucket/runs/a/run.lease if nobody")


def test_shards_are_sent_while_the_command_works(stores, monkeypatch):
    monkeypatch.setattr(remote, "EVERY", 0.02)
    run = stores("first")
    with locked(run):
        with run.sampled.appending("parquet") as lines:
            lines.write(sampled(0))
        run.save_settings("sample", {"paths": 1})
        write_records(run.questions, [])
        for _ in range(200):
            if "paths/part-000000.parquet" in names() and "run.toml" in names():
                break
            time.sleep(0.02)
        assert names() == ["paths/part-000000.parquet", "run.lease", "run.toml"]
    assert threading.active_count() == 1 or "lmsi-store" not in {
        t.name for t in threading.enumerate()
    }
    assert names() == ["paths/part-000000.parquet", "questions.jsonl", "run.toml"]


def test_an_interrupt_uploads_the_journal(stores):
    run = stores("first")
    with pytest.raises(KeyboardInterrupt), locked(run), run.sampled.appending("parquet") as lines:
        lines.write(sampled(0))
        raise KeyboardInterrupt
    assert names() == ["paths/_open-000000.jsonl"]
    write(stores("second"), [1])
    assert names() == ["paths/part-000000.parquet"]
    assert drawn(stores("second")) == [0, 1]


def test_lines_are_sent_whole_at_the_end(stores):
    run = stores("first")
    write(run, [0], "jsonl")
    write(run, [1], "jsonl")
    assert names() == ["paths.jsonl"]
    stores("second")
    assert [p.path for p in read_records(opened(URL).paths, Path)] == [0, 1]


def test_names_that_leave_the_folder_are_not_taken(stores, tmp_path):
    write(stores("first"), [0])
    MEMORY.store["/bucket/runs/a/../../evil"] = MEMORY.store[
        "/bucket/runs/a/paths/part-000000.parquet"
    ]
    stores("second")
    assert drawn(opened(URL)) == [0]
    assert not list(tmp_path.rglob("evil"))


def test_the_store_refuses(stores, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(MEMORY), "pipe_file", refuse)
    with pytest.raises(LmsiError, match=r"cannot be written: access denied \(Forbidden\)"):
        write(stores("first"), [0])


def test_an_upload_that_fails_at_the_end_keeps_the_copy(stores, monkeypatch):
    def broken(*_, **__):
        raise ConnectionError("reset by peer")

    run = stores("first")
    with monkeypatch.context() as m:
        m.setattr(type(MEMORY), "put_file", broken)
        with pytest.raises(LmsiError, match="cannot be written: reset by peer") as e:
            write(run, [0])
    assert "kept on this machine" in e.value.hint
    assert drawn(run) == [0]
    write(run, [1])
    assert names() == ["paths/part-000000.parquet", "paths/part-000001.parquet"]


def test_no_room_for_the_copy(stores, monkeypatch):
    write(stores("first"), [0])
    stores("second")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("lmsi_cli.store.sync.shutil.disk_usage", lambda _: usage)
    with pytest.raises(LmsiError, match="0 MiB free; memory://bucket/runs/a needs") as e:
        opened(URL)
    assert "LMSI_WORK" in e.value.hint
