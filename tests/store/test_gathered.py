"""Grouping on disk gives what a sort in memory gives, however small its parts are."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_paths import TEXT, sampled

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import encode_line
from lmsi_cli.records import Path
from lmsi_cli.store import Shards, shard_appender
from lmsi_cli.store.gathered import Gathered

pytest.importorskip("pyarrow")


def gathered(shards, part=1 << 20):
    return Gathered(shards, "question_id", "path", "path {number} of {key!r}", part=part)


def write(folder, records, rows=7):
    with shard_appender(Shards(folder, Path), rows) as lines:
        for record in records:
            lines.write(record)
    return Shards(folder, Path)


@given(
    ids=st.lists(TEXT, min_size=1, max_size=12, unique=True),
    each=st.integers(1, 5),
    part=st.sampled_from([1, 300, 1 << 20]),
    seed=st.integers(0, 9),
)
@settings(max_examples=12, deadline=None)
def test_as_sorted_in_memory(tmp_path_factory, ids, each, part, seed):
    records = [sampled(n, i) for i in ids for n in range(each)]
    random.Random(seed).shuffle(records)
    shards = write(tmp_path_factory.mktemp("run") / "paths", records)
    with gathered(shards, part) as found:
        groups = list(found)
        assert [key for key, _ in groups] == sorted(ids)
        assert all([p.path for p in group] == list(range(each)) for _, group in groups)
        assert {p for _, group in groups for p in group} == set(records)
        assert len(found) == len(ids)
        assert found.most == each - 1
        for key, group in random.Random(seed).sample(groups, len(groups)):
            assert found.get(key) == group
        assert found.get("no such question at all") == []


def test_an_open_journal_is_read_too(tmp_path):
    shards = write(tmp_path, [sampled(n) for n in range(7)])
    (tmp_path / "_open-000001.jsonl").write_bytes(b"".join(encode_line(sampled(n)) for n in (7, 8)))
    with gathered(shards) as found:
        assert [p.path for _, group in found for p in group] == list(range(9))


def test_no_records(tmp_path):
    with gathered(Shards(tmp_path, Path)) as found:
        assert (list(found), len(found), found.most, found.get("q")) == ([], 0, -1, [])


def test_twice_is_told(tmp_path):
    shards = write(tmp_path, [sampled(1), sampled(2), sampled(1)])
    with gathered(shards) as found, pytest.raises(LmsiError, match="path 1 of 'q' is there twice"):
        list(found)


def test_a_full_temporary_folder(tmp_path, monkeypatch):
    shards = write(tmp_path, [sampled(1)])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Gathered, "_runs", full)
    with pytest.raises(LmsiError, match=r"cannot be sorted.*No space") as e:
        gathered(shards)
    assert "TMPDIR" in e.value.hint
