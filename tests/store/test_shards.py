"""Journals and shards: nothing lost, nothing twice wherever the writer dies; what is refused."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_paths import PATHS, sampled

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import encode_line
from lmsi_cli.records import Path
from lmsi_cli.store import Shards, Shelf, shard_appender
from lmsi_cli.store import shards as module
from lmsi_cli.store.schema import read_rows, schema_of, write_rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def written(folder, records, rows=4):
    shards = Shards(folder, Path)
    with shard_appender(shards, rows) as lines:
        for record in records:
            lines.write(record)
    return shards


def shelf(root):
    return Shelf(root / "paths.jsonl", root / "paths", Path)


@given(st.lists(PATHS, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_row_is_its_record(tmp_path_factory, records):
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    with file.open("wb") as out:
        assert write_rows(out, records, Path) == len(records)
    assert list(read_rows(file, Path)) == records


def test_full_journals_become_shards_and_the_end_makes_the_last(tmp_path):
    records = [sampled(n) for n in range(10)]
    shards = Shards(tmp_path / "paths", Path)
    with shard_appender(shards, 4) as lines:
        for record in records:
            lines.write(record)
        assert [s.name for s in shards.shards()] == ["part-000000.parquet", "part-000001.parquet"]
        assert [j.name for j in shards.journals()] == ["_open-000002.jsonl"]
        assert list(shards.read()) == records
        assert shards.count() == 10
    assert [p.name for p in sorted(shards.folder.iterdir())] == [
        f"part-00000{n}.parquet" for n in range(3)
    ]
    assert list(shards.read()) == records


class Dead(BaseException):
    """The writer is killed here: nothing behind this line happens."""


STEPS = ("write_rows", "_sync_folder", "unlink", "replace")


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(STEPS), st.integers(0, 40)), max_size=4
    ),
    rows=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_killed_anywhere_it_goes_on(tmp_path_factory, lives, rows):
    """Each life writes what it finds missing and dies at a step of sealing, or in a line."""
    folder = tmp_path_factory.mktemp("run") / "paths"
    records = {n: sampled(n) for n in range(14)}
    for after, step, torn in lives:
        with pytest.MonkeyPatch.context() as m:
            die_at(m, step, after)
            try:
                resume(folder, records, rows)
            except Dead:
                tear(folder, torn)
        there = [p.path for p in Shards(folder, Path).read()]
        assert len(there) == len(set(there))
    resume(folder, records, rows)
    found = list(Shards(folder, Path).read())
    assert sorted(p.path for p in found) == list(records)
    assert all(records[p.path] == p for p in found)
    assert not list(folder.glob("_open*")) and not list(folder.glob("*.tmp"))


def resume(folder, records, rows):
    have = {p.path for p in Shards(folder, Path).read()}
    written(folder, [r for n, r in records.items() if n not in have], rows)


def die_at(m, step, after):
    """Let the call number ``after`` of a step die, before it does anything."""
    import pathlib

    owner = module if step in ("write_rows", "_sync_folder") else pathlib.Path
    real, calls = getattr(owner, step), [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] > after:
            raise Dead
        return real(*args, **kwargs)

    m.setattr(owner, step, call)


def tear(folder, length):
    """What a kill leaves in the middle of a line."""
    for journal in Shards(folder, Path).journals():
        with journal.open("ab") as file:
            file.write(encode_line(sampled(99))[:length])


def test_a_journal_that_another_machine_overtook_is_kept_aside(tmp_path):
    shards = written(tmp_path / "paths", [sampled(n) for n in range(3)], rows=10)
    stale = shards.folder / "_open-000000.jsonl"
    stale.write_bytes(encode_line(sampled(50)))
    written(shards.folder, [sampled(3)], rows=10)
    assert [p.path for p in shards.read()] == [0, 1, 2, 3]
    assert stale.with_name(stale.name + ".unsent").read_bytes() == encode_line(sampled(50))


def test_schema_is_as_documented():
    """docs/storage.md shows these lines."""
    from pathlib import Path as File

    doc = (File(__file__).parents[2] / "docs" / "storage.md").read_text()
    for line in str(schema_of(Path)).splitlines():
        name, told = line.split(": ")
        assert f"| `{name}` | {told.removesuffix(' not null')} " in doc


def test_shards_of_an_older_version_lack_a_column(tmp_path):
    folder = tmp_path / "paths"
    shards = written(folder, [sampled(n) for n in range(3)])
    file = folder / "part-000000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["mean_logprob"]), file)
    assert [p.mean_logprob for p in shards.read()] == [None] * 3
    grouped = shelf(tmp_path).grouped("question_id", "path", "path")
    with grouped:
        assert [len(g) for _, g in grouped] == [3]


def spoil_cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def spoil_byte(file):
    data = bytearray(file.read_bytes())
    data[30] ^= 0xFF
    file.write_bytes(data)


def spoil_text(file):
    file.write_text("not parquet at all")


def spoil_column(file):
    table = pq.read_table(file)
    pq.write_table(table.rename_columns(["id", *table.schema.names[1:]]), file)


def spoil_type(file):
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "path", table["path"].cast(pa.string())), file)


def spoil_extra(file):
    table = pq.read_table(file)
    pq.write_table(table.append_column("gold", table["text"]), file)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_cut, "part-000000.parquet: not a whole Parquet file"),
        (spoil_byte, "part-000000.parquet: not a whole Parquet file"),
        (spoil_text, "part-000000.parquet: not a whole Parquet file"),
        (spoil_column, "holds no Path records of lmsi: column 'question_id' is missing"),
        (spoil_type, "column 'path' is string, not int64"),
        (spoil_extra, "column 'gold' is unknown"),
    ],
)
def test_a_broken_or_foreign_shard_is_named(tmp_path, spoil, told):
    shards = written(tmp_path / "paths", [sampled(n) for n in range(4)], rows=10)
    spoil(shards.folder / "part-000000.parquet")
    with pytest.raises(LmsiError, match=told):
        list(shards.read())
    with pytest.raises(LmsiError, match=told), shelf(tmp_path).grouped("question_id", "path", "p"):
        pass


def test_a_row_that_is_no_record(tmp_path):
    shards = written(tmp_path / "paths", [sampled(0)])
    file = shards.folder / "part-000000.parquet"
    table = pq.read_table(file)
    index = table.schema.get_field_index("stop_reason")
    pq.write_table(table.set_column(index, "stop_reason", pa.array(["tired"])), file)
    with pytest.raises(LmsiError, match=r"a row is no Path: .*tired"):
        list(shards.read())


def test_two_formats_in_one_folder(tmp_path):
    written(tmp_path / "paths", [sampled(0)])
    (tmp_path / "paths.jsonl").write_bytes(encode_line(sampled(1)))
    with pytest.raises(LmsiError, match="two formats") as e:
        shelf(tmp_path).read()
    assert "lmsi convert" in e.value.hint


def test_another_format_than_there_is(tmp_path):
    written(tmp_path / "paths", [sampled(0)])
    assert shelf(tmp_path).settle("auto") == "parquet"
    with pytest.raises(LmsiError, match="has Parquet shards, and --format jsonl was given"):
        shelf(tmp_path).settle("jsonl")


def test_without_pyarrow_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(LmsiError) as e:
        shelf(tmp_path).settle("parquet")
    assert e.value.hint == "pip install 'lmsi[parquet]'"


def test_a_full_disk_while_sealing_keeps_the_journal(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_rows", full)
    with pytest.raises(LmsiError, match=r"part-000000\.parquet: cannot be written: No space"):
        written(tmp_path / "paths", [sampled(n) for n in range(4)])
    monkeypatch.undo()
    shards = Shards(tmp_path / "paths", Path)
    assert [p.path for p in shards.read()] == [0, 1, 2, 3]
    written(shards.folder, [sampled(4)])
    assert [p.path for p in shards.read()] == [0, 1, 2, 3, 4]


READERS = {
    "datasets": lambda d, f: sorted(
        (r["question_id"], r["path"], r["text"])
        for r in d.load_dataset("parquet", data_files=f, split="train", cache_dir=f"{f[:-10]}/.c")
    ),
    "polars": lambda p, f: sorted(p.read_parquet(f)["question_id", "path", "text"].rows()),
    "duckdb": lambda d, f: sorted(d.sql(f"SELECT question_id, path, text FROM '{f}'").fetchall()),
}


@pytest.mark.parametrize("library", READERS)
def test_readable_without_lmsi(tmp_path, library, monkeypatch):
    """While a journal is open, too: its name hides it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module_ = pytest.importorskip(library)
    records = [sampled(n) for n in range(9)]
    shards = written(tmp_path / "paths", records[:8])
    (shards.folder / "_open-000002.jsonl").write_bytes(encode_line(records[8]))
    found = READERS[library](module_, f"{shards.folder}/*.parquet")
    assert [tuple(r) for r in found] == [(p.question_id, p.path, p.text) for p in records[:8]]
    shutil.rmtree(shards.folder)
