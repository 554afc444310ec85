"""The sampling stage: interrupted anywhere and resumed, it is as if nothing had happened."""

import contextlib
import tempfile
from pathlib import Path as File

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import IDENTITY, QUESTIONS, SCRIPT, sampled, settled

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind

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


def test_more_paths_or_questions_extend_and_fewer_take_nothing_away(tmp_path):
    sampled(tmp_path, SampleConfig(paths=2, limit=1))
    sampled(tmp_path, SampleConfig(paths=2))
    before = RunDir(tmp_path).paths.read_bytes()
    assert sampled(tmp_path, SampleConfig(paths=3)).new_paths == 4
    assert RunDir(tmp_path).paths.read_bytes().startswith(before)
    for config in (SampleConfig(paths=1), SampleConfig(paths=3)):
        again = sampled(tmp_path, config, fail_after=0)  # asked for a path, it would raise
        assert (again.new_paths, again.paths) == (0, TOTAL)
    sampled(tmp_path / "at once")
    assert by_key(paths_of(tmp_path)) == by_key(paths_of(tmp_path / "at once"))
    sampled(tmp_path, questions=QUESTIONS[3:])  # the folder keeps all questions
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
    (
        {"seed": 1, "prompt": "cot-few", "stop": "beta:0.95"},
        "seed: 0 in the run folder, 1 now; prompt: cot-zero in the run folder, cot-few now; "
        "stop: none in the run folder, beta:0.95 now",
    ),
    ({"model_sha256": "cc"}, "model: a.gguf has changed since"),
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
    assert all(part in str(e.value) for part in told.split("; "))
    assert "--overwrite" in e.value.hint
    assert RunDir(tmp_path).run_toml.read_bytes() == before


def test_what_changes_no_path_may_change(tmp_path):
    sampled(tmp_path)
    changes = {"threads": 7, "parallel": 3, "ctx": 512, "gpu_layers": "all", "paths": 9, "limit": 2,
               "model": "moved/a.gguf", "llama_cpp_python": "9.9", "lmsi": "9.9"}  # fmt: skip
    bound(tmp_path, changes)
    assert RunDir(tmp_path).load_settings()["sample"].items() >= changes.items()


def test_a_folder_without_paths_belongs_to_nobody(tmp_path):
    """A first call that failed over a setting must not forbid the corrected one."""
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path, SampleConfig(max_tokens=4000), fail_after=0)
    sampled(tmp_path, SampleConfig(max_tokens=100))
    assert RunDir(tmp_path).load_settings()["sample"]["max_tokens"] == 100


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
