"""JSON lines, Parquet shards and a folder in a store: the same paths, votes and examples."""

import fsspec
import pytest
from stage_helpers import IDENTITY, QUESTIONS, SCRIPT, TASK, Silent, sampled, voted

from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.engine.scripted import ScriptedEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.rundir import RunDir, discard, locked, opened
from lmsi_cli.stages.convert import convert
from lmsi_cli.stages.report import _questions
from lmsi_cli.stages.sample import bind, sample
from lmsi_cli.stages.vote import vote_run

pytest.importorskip("pyarrow")
LOOSE = {"min_votes": 1, "min_share": 0.0}


def ordered(run):
    return sorted(run.sampled.read(), key=lambda p: (p.question_id, p.path))


@pytest.fixture
def lines(tmp_path):
    sampled(tmp_path / "lines")
    voted(tmp_path / "lines", **LOOSE)
    return RunDir(tmp_path / "lines")


def same(one, other):
    assert ordered(one) == ordered(other)
    for file in ("votes", "train", "vote_summary"):
        assert getattr(one, file).read_bytes() == getattr(other, file).read_bytes()


@pytest.mark.parametrize("stop", range(0, 12, 3))
def test_interrupted_shards_end_as_uninterrupted_lines(lines, tmp_path, stop):
    config, root = SampleConfig(paths=3, format="parquet"), tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        sampled(root, config, fail_after=stop)
    assert sampled(root, config).new_paths == 12 - stop
    voted(root, **LOOSE)
    same(lines, RunDir(root))
    assert not lines.shards.exists() and not RunDir(root).paths.exists()
    browsed, _ = _questions(RunDir(root), TASK, 10)
    assert browsed == _questions(lines, TASK, 10)[0]


def test_sampled_and_voted_in_a_store(lines, tmp_path, monkeypatch):
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("LMSI_WORK", str(tmp_path / "here"))
    run, config = RunDir("memory://b/run"), SampleConfig(paths=3)
    with locked(run):
        bind(run, config, IDENTITY)
        sample(QUESTIONS, ScriptedEngine(SCRIPT, None), TASK, config, run, Silent())
    monkeypatch.setenv("LMSI_WORK", str(tmp_path / "there"))
    run = opened("memory://b/run")
    with locked(run):
        vote_run(run, TASK, VoteConfig(**LOOSE))
    same(lines, run)
    monkeypatch.setenv("LMSI_WORK", str(tmp_path / "third"))
    run = opened("memory://b/run")
    same(lines, run)
    with locked(run):
        discard(run)
    assert fsspec.filesystem("memory").find("/b") == []


def test_converted_there_and_back(lines):
    before = lines.paths.read_bytes()
    assert convert(lines, "parquet").kept == str(lines.paths) + ".old"
    voted(lines.root, **LOOSE)
    assert convert(lines, "jsonl", remove=True).paths == 12
    assert lines.paths.read_bytes() == before
    with pytest.raises(LmsiError, match="jsonl already"):
        convert(lines, "jsonl")
    with pytest.raises(LmsiError, match=r"paths.jsonl.old: is there already"):
        convert(lines, "parquet")


def test_a_folder_of_something_else_is_left_alone(lines):
    lines.shards.mkdir()
    (lines.shards / "mine.txt").write_text("x")
    with pytest.raises(LmsiError, match="holds files that lmsi did not write"):
        convert(lines, "parquet")
    assert (lines.shards / "mine.txt").read_text() == "x"
    assert lines.paths.exists()


def test_overwrite_takes_the_shards_and_nothing_else(tmp_path):
    sampled(tmp_path, SampleConfig(paths=3, format="parquet"))
    run = RunDir(tmp_path)
    (run.shards / "mine.txt").write_text("x")
    discard(run)
    assert [p.name for p in run.shards.iterdir()] == ["mine.txt"]
    assert not run.sampled.exists()
