"""The sampling stage: interrupted anywhere and resumed, it is as if nothing had happened."""

import contextlib
import tempfile
from pathlib import Path as File

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import IDENTITY, QUESTIONS, SCRIPT, sampled, settled

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.engine.pinned_settings import as_begun
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind, drawn_by

TOTAL = 4 * 3  # paths of the helpers' questions at three paths each


def paths_of(root):
    return list(read_records(RunDir(root).paths, Path))


def by_key(paths):
    return sorted(paths, key=lambda p: (p.question_id, p.path))


@given(
    st.lists(st.integers(0, TOTAL), max_size=4),
    st.lists(st.integers(0, 200), min_size=4, max_size=4),
)
@settings(max_examples=40)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives, torn):
    """Each life writes some paths and dies; a tear may then cost the end of the last line."""
    with tempfile.TemporaryDirectory() as folder:
        root, whole = File(folder) / "lives", File(folder) / "whole"
        sampled(whole)
        for fail_after, tear in zip(lives, torn, strict=False):
            with contextlib.suppress(KeyboardInterrupt):
                sampled(root, fail_after=fail_after)
            file = RunDir(root).paths
            data = file.read_bytes()
            last = data[: len(data) - 1].rfind(b"\n") + 1  # a kill tears one line at most
            file.write_bytes(data[: max(last, len(data) - tear)])
        kept = paths_of(root) if lives else []
        sampled(root)
        assert paths_of(root)[: len(kept)] == kept
        assert by_key(paths_of(root)) == by_key(paths_of(whole))
        assert len(paths_of(root)) == TOTAL


def test_a_finished_run_draws_nothing(tmp_path):
    first = sampled(tmp_path)
    before = RunDir(tmp_path).paths.read_bytes()
    again = sampled(tmp_path, fail_after=0)  # asked for a single path, it would raise
    assert (first.new_paths, again.new_paths, again.paths) == (TOTAL, 0, TOTAL)
    assert RunDir(tmp_path).paths.read_bytes() == before


def test_more_paths_extend_and_fewer_take_nothing_away(tmp_path):
    sampled(tmp_path, SampleConfig(paths=2))
    before = RunDir(tmp_path).paths.read_bytes()
    assert sampled(tmp_path, SampleConfig(paths=3)).new_paths == 4
    assert RunDir(tmp_path).paths.read_bytes().startswith(before)
    assert sampled(tmp_path, SampleConfig(paths=1)).new_paths == 0
    sampled(tmp_path / "at once")
    assert by_key(paths_of(tmp_path)) == by_key(paths_of(tmp_path / "at once"))


def test_more_questions_extend_and_the_folder_keeps_them_all(tmp_path):
    sampled(tmp_path, SampleConfig(paths=3, limit=1))
    summary = sampled(tmp_path)
    assert (summary.new_paths, summary.questions) == (9, 4)
    sampled(tmp_path, questions=QUESTIONS[3:])
    kept = list(read_records(RunDir(tmp_path).questions, Question))
    assert [q.id for q in kept] == ["q0", "q1", "q2", "q3"]


def test_every_path_has_its_own_seed_and_answer(tmp_path):
    sampled(tmp_path, SampleConfig(paths=4, seed=5))
    for p in paths_of(tmp_path):
        assert p.seed == path_seed(5, p.question_id, p.path)
        texts = SCRIPT[p.question_id]
        assert p.text == texts[p.path % len(texts)]
    answers = {(p.question_id, p.path): p.predicted_answer for p in paths_of(tmp_path)}
    assert (answers["q0", 2], answers["q1", 0], answers["q1", 1]) == ("1", "2", None)


def test_gold_answers_stay_outside(tmp_path):
    sampled(tmp_path)
    everything = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"What is 1 + 1?" in everything
    assert b"g0ld" not in everything


def test_another_text_under_an_old_id_is_refused_and_loses_nothing(tmp_path):
    sampled(tmp_path)
    before = {f: f.read_bytes() for f in tmp_path.iterdir()}
    other = [*QUESTIONS[:3], Question(id="q3", question="What is 3 times 3?")]
    with pytest.raises(LmsiError) as e:
        sampled(tmp_path, questions=other)
    file = tmp_path / "questions.jsonl"
    assert str(e.value) == f"question 'q3' has another text than in {file}"
    assert "--overwrite" in e.value.hint
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_question_without_paths_may_be_corrected(tmp_path):
    """The first call may have failed just because of this question's text."""
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path, fail_after=9)  # none of q3
    other = [*QUESTIONS[:3], Question(id="q3", question="What is 3 plus 3?")]
    sampled(tmp_path, questions=other)
    kept = {q.id: q.question for q in read_records(RunDir(tmp_path).questions, Question)}
    assert kept["q3"] == "What is 3 plus 3?"


OTHERS = [
    ({"temperature": 1.0}, "temperature: 0.7 in the run folder, 1.0 now"),
    ({"prompt": "cot-few"}, "prompt: cot-zero in the run folder, cot-few now"),
    (
        {"seed": 1, "max_tokens": 9},
        "max_tokens: 256 in the run folder, 9 now; seed: 0 in the run folder, 1 now",
    ),
    ({"stop": "beta:0.95"}, "stop: none in the run folder, beta:0.95 now"),
    ({"model": "b.gguf", "model_sha256": "cc"}, "model: a.gguf in the run folder, b.gguf now"),
    ({"model_sha256": "cc"}, "model: a.gguf has changed since"),
    ({"task_name": "dates", "task_sha256": "dd"}, "task: number in the run folder, dates now"),
    (
        {"adapter": "x.gguf", "adapter_sha256": "ee"},
        "adapter: none in the run folder, x.gguf now",
    ),
]


def bound(root, changes):
    own = {k: v for k, v in changes.items() if k in SampleConfig.__struct_fields__}
    bind(RunDir(root), settled(SampleConfig(**{"paths": 3, **own})), {**IDENTITY, **changes})


@pytest.mark.parametrize(("changes", "told"), OTHERS, ids=lambda x: str(x)[:24])
def test_other_settings_are_refused_each_by_name(tmp_path, changes, told):
    sampled(tmp_path)
    before = RunDir(tmp_path).run_toml.read_bytes()
    with pytest.raises(LmsiError) as e:
        bound(tmp_path, changes)
    assert str(e.value) == f"the paths in {tmp_path} had other settings: {told}"
    assert "--overwrite" in e.value.hint
    assert RunDir(tmp_path).run_toml.read_bytes() == before


FREE = [
    {"threads": 7}, {"parallel": 3}, {"ctx": 512}, {"gpu_layers": "all"}, {"paths": 9},
    {"limit": 2}, {"model": "moved/a.gguf"}, {"llama_cpp_python": "9.9"}, {"lmsi": "9.9"},
]  # fmt: skip


@pytest.mark.parametrize("changes", FREE, ids=lambda c: next(iter(c)))
def test_what_changes_no_path_may_change(tmp_path, changes):
    sampled(tmp_path)
    bound(tmp_path, changes)
    saved = RunDir(tmp_path).load_settings()["sample"]
    assert saved.items() >= changes.items()


def test_a_folder_without_paths_belongs_to_nobody(tmp_path):
    """A first call that failed over a setting must not forbid the corrected one."""
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path, SampleConfig(max_tokens=4000), fail_after=0)
    sampled(tmp_path, SampleConfig(max_tokens=100))
    assert RunDir(tmp_path).load_settings()["sample"]["max_tokens"] == 100


def test_an_adapter_of_another_base_draws_nothing(tmp_path):
    model, adapter = tmp_path / "m.gguf", tmp_path / "adapter.gguf"
    model.write_bytes(b"model")
    adapter.write_bytes(b"adapter")
    assert drawn_by("", model) == {}
    assert drawn_by(str(adapter), model).keys() == {"adapter", "adapter_sha256"}
    told = {"base_sha256": "no such hash", "base_file": "other.gguf"}
    (tmp_path / "lmsi.json").write_bytes(msgspec.json.encode(told))
    with pytest.raises(LmsiError, match=r"trained on another model, other\.gguf"):
        drawn_by(str(adapter), model)


LONG = Question(id="long", question="How many? " * 1000)  # ScriptedEngine's context is 4096


def test_a_question_that_does_not_fit_is_told_and_skipped(tmp_path, watcher):
    summary = sampled(tmp_path, questions=[LONG, *QUESTIONS], progress=watcher)
    assert summary.skipped == ("long",)
    assert (summary.questions, summary.paths) == (5, TOTAL)
    assert watcher.labels == [("sampling", TOTAL)] and watcher.done[-1] == TOTAL
    (told,) = watcher.said
    assert told.startswith("skipped: question 'long' (\"How many? How many?")
    assert told.endswith(" and 256 for the path do not fit the model's context of 4096")
    sampled(tmp_path / "others")
    assert by_key(paths_of(tmp_path)) == by_key(paths_of(tmp_path / "others"))
    # later stages see no question without paths, and a resumed call tells it again
    assert "long" not in {q.id for q in read_records(RunDir(tmp_path).questions, Question)}
    assert sampled(tmp_path, questions=[LONG, *QUESTIONS], fail_after=0).skipped == ("long",)


def test_if_no_question_fits_nothing_is_written(tmp_path):
    with pytest.raises(LmsiError, match=r"^question 'long' \(.*\): prompt of \d+ tokens and 256"):
        sampled(tmp_path, questions=[LONG])
    assert [f.name for f in tmp_path.iterdir()] == ["run.toml"]


def test_a_resumed_run_keeps_the_kind_of_cache_that_it_began_with(tmp_path):
    run = RunDir(tmp_path)
    sampled(tmp_path)
    run.save_settings("engine", {"parallel": 8, "kv": "unified", "flash_attn": "off", "cells": 512})
    begun = as_begun(run, SampleConfig())
    assert (begun.kv, begun.flash_attn, begun.parallel) == ("unified", "off", 0)
    by_hand = as_begun(run, SampleConfig(kv="split", flash_attn="on"))
    assert (by_hand.kv, by_hand.flash_attn) == ("split", "on")
