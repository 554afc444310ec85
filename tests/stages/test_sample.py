"""The sampling stage: interrupted anywhere and resumed, it is as if nothing had happened."""

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path as File

import pytest
from builders import tree
from commands import by_key, paths_in, whole_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stage_helpers import IDENTITY, QUESTIONS, TASK, interrupted, sampled, settled, tear, voted

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Exemplar, Question, Template, Vote
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind
from tests.scripted import ScriptedEngine

TOTAL = 4 * 3  # paths of the helpers' questions at three paths each
SHOWN = [Exemplar(question=f"Template {i}?", rationale="1 + 1 = 2.", answer="2") for i in range(3)]
TEMPLATES = tuple(Template(exemplars=(e,)) for e in SHOWN)
TURNS = {
    "task": replace(TASK, exemplars=(SHOWN[0],), templates=TEMPLATES),
    "config": SampleConfig(paths=3, prompt="cot-few"),
}


@pytest.mark.parametrize("kind", [{}, TURNS], ids=["one prompt", "templates in turn"])
@given(
    lives=st.lists(st.integers(0, TOTAL), max_size=4),
    torn=st.lists(st.integers(0, 200), min_size=4, max_size=4),
)
@settings(max_examples=25)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(kind, lives, torn):
    with tempfile.TemporaryDirectory() as folder:
        root, whole = File(folder) / "lives", File(folder) / "whole"
        file = RunDir(root).paths
        sampled(whole, **kind)
        for fail_after, bytes_lost in zip(lives, torn, strict=False):
            interrupted([fail_after], lambda n: sampled(root, **kind, fail_after=n))
            tear(file, bytes_lost)
        kept = whole_lines(file)
        sampled(root, **kind)
        assert whole_lines(file)[: len(kept)] == kept
        assert by_key(root) == by_key(whole) and len(by_key(root)) == TOTAL


def test_more_paths_or_questions_extend_and_fewer_take_nothing_away(tmp_path):
    sampled(tmp_path, SampleConfig(paths=2, limit=1))
    before = RunDir(tmp_path).paths.read_bytes()
    assert sampled(tmp_path, SampleConfig(paths=3)).new_paths == TOTAL - 2
    assert RunDir(tmp_path).paths.read_bytes().startswith(before)
    for config in (SampleConfig(paths=1), SampleConfig(paths=3)):
        again = sampled(tmp_path, config, fail_after=0)  # asked for a path, it would raise
        assert (again.new_paths, again.paths) == (0, TOTAL)
    sampled(tmp_path / "at once")
    paths = by_key(tmp_path)
    assert paths == by_key(tmp_path / "at once")
    assert [p["seed"] for p in paths.values()] == [path_seed(0, *key) for key in paths]
    sampled(tmp_path, questions=QUESTIONS[3:])  # the folder keeps all questions
    kept = [q.id for q in read_records(RunDir(tmp_path).questions, Question)]
    assert kept == ["q0", "q1", "q2", "q3"]


def test_what_failed_at_first_may_be_corrected_until_it_has_paths(tmp_path):
    """The first call may have failed just because of a setting or of this question's text."""
    mistaken = [Question(id="typo", question="What is 3 minsu 3?")]
    interrupted([0], partial(sampled, tmp_path, SampleConfig(max_tokens=4000), questions=mistaken))
    interrupted([9], partial(sampled, tmp_path, SampleConfig(paths=3)))  # none of q3
    sampled(tmp_path, questions=[*QUESTIONS[:3], Question(id="q3", question="What is 3 plus 3?")])
    assert "typo" not in {q.id for q in read_records(RunDir(tmp_path).questions, Question)}
    before = tree(tmp_path)
    with pytest.raises(LmsiError, match=r"question 'q3' has another text than in .*questions") as e:
        sampled(tmp_path)
    assert "--overwrite" in e.value.hint
    assert tree(tmp_path) == before


def bound(root, **changes):
    own = {k: v for k, v in changes.items() if k in SampleConfig.__struct_fields__}
    bind(RunDir(root), settled(SampleConfig(**{"paths": 3, **own})), {**IDENTITY, **changes})


def test_what_changes_no_path_may_change_and_all_else_is_refused_by_name(tmp_path):
    sampled(tmp_path)
    changes = {"threads": 7, "parallel": 3, "ctx": 512, "gpu_layers": "all", "paths": 9, "limit": 2,
               "model": "moved/a.gguf", "llama_cpp_python": "9.9", "lmsi": "9.9"}  # fmt: skip
    bound(tmp_path, **changes)
    before = RunDir(tmp_path).load_settings()["sample"]
    assert before.items() >= changes.items()
    other = {"seed": 1, "model_sha256": "cc", "adapter": "x", "adapter_sha256": "e"}
    with pytest.raises(LmsiError, match="stop: none in the run folder, window:2 now") as e:
        bound(tmp_path, stop="window:2", **other)
    for told in ("seed: 0 in", "model: moved/a.gguf in", "adapter: none in the run folder, x now"):
        assert told in str(e.value)
    assert "--overwrite" in e.value.hint
    assert RunDir(tmp_path).load_settings()["sample"] == before


def test_a_question_that_does_not_fit_is_told_and_skipped(tmp_path, watcher):
    long = Question(id="long", question="How many? " * 1000)  # the context is 4096
    summary = sampled(tmp_path, questions=[long, *QUESTIONS], progress=watcher)
    assert (summary.skipped, summary.questions, summary.paths) == (("long",), 5, TOTAL)
    assert watcher.labels == [("sampling", TOTAL)] and watcher.done[-1] == TOTAL
    assert ["'long'" in told for told in watcher.said] == [True]
    sampled(tmp_path / "others")
    assert by_key(tmp_path) == by_key(tmp_path / "others")
    # later stages see no question without paths, and a resumed call tells it again
    assert "long" not in {q.id for q in read_records(RunDir(tmp_path).questions, Question)}
    assert sampled(tmp_path, questions=[long, *QUESTIONS], fail_after=0).skipped == ("long",)
    with pytest.raises(LmsiError, match=r"^question 'long' \(.*\): prompt of \d+ tokens and 256"):
        sampled(tmp_path / "none", questions=[long])


# -- stopping early --------------------------------------------------------------------------------


# The helpers' script: q0 says 0, 0; q1 says 2, nothing, something cut off, 2; q2 says 4, a false
# equation, 4; q3 says 6 and 7 by turns and is never decided.
STOPPING = SampleConfig(paths=12, stop="window:2")
DRAWN = {"q0": 2, "q1": 4, "q2": 3, "q3": 12}


def drawn(root):
    return dict(Counter(p["question_id"] for p in paths_in(root)))


def marked(root):
    return {v.question_id for v in read_records(RunDir(root).votes, Vote) if v.stopped}


def test_a_decided_question_draws_no_more(tmp_path):
    summary = sampled(tmp_path, STOPPING)
    assert drawn(tmp_path) == DRAWN
    assert (summary.new_paths, summary.stopped) == (21, 3)
    # beside each deciding path one more runs in the script, a token long
    assert (summary.cancelled, summary.cancelled_tokens, summary.never_drawn) == (3, 3, 24)
    assert summary.tokens == 3 + sum(p["num_generated_tokens"] for p in paths_in(tmp_path))


@given(st.lists(st.tuples(st.sampled_from([3, 12]), st.integers(0, 21)), max_size=4))
@settings(max_examples=15)
def test_interrupted_anywhere_and_given_more_paths_it_ends_with_the_same_decisions(lives):
    with tempfile.TemporaryDirectory() as folder:
        for paths, fail_after in lives:
            config = replace(STOPPING, paths=paths)
            interrupted([fail_after], partial(sampled, folder, config))
        sampled(folder, STOPPING)
        assert drawn(folder) == DRAWN
        again = sampled(folder, STOPPING, fail_after=0)  # asked for a path, it would raise
        assert (again.new_paths, again.stopped, again.never_drawn) == (0, 3, 0)


@pytest.mark.parametrize("paths", [2, 5, 12])
@pytest.mark.parametrize("stop", ["beta:0.8", "window:2", "window:3"])
def test_the_sampler_and_the_vote_agree_on_what_was_stopped(tmp_path, stop, paths):
    config = SampleConfig(paths=paths, stop=stop)
    interrupted([3], partial(sampled, tmp_path, config))  # one of q1, or of q0 at most
    voted(tmp_path)
    assert marked(tmp_path) <= {"q0"}
    summary = sampled(tmp_path, config)
    assert voted(tmp_path).stopped == summary.stopped == len(marked(tmp_path))
    assert marked(tmp_path) <= {q for q, n in drawn(tmp_path).items() if n < paths}


# -- templates in turn -----------------------------------------------------------------------------


@pytest.mark.parametrize("paths", [1, 2, 3, 7])
def test_path_k_is_shown_template_k_modulo_their_number(tmp_path, paths):
    engine = ScriptedEngine({q.id: [" The answer is 4."] for q in QUESTIONS})
    shown, calls = {}, []

    def noting(requests, *given, says=engine.generate):
        calls.append({r.block for r in requests if r.wanted})
        for r in requests:
            template = bytes(r.prompt).decode().partition("Template ")[2][:1]
            shown.update({(r.question_id, w.path): template for w in r.wanted})
        return says(requests, *given)

    engine.generate = noting
    sampled(tmp_path, replace(TURNS["config"], paths=paths), engine=engine, task=TURNS["task"])
    assert shown == {(q.id, k): str(k % 3) for q in QUESTIONS for k in range(paths)}
    # a call holds one template's prompts, which have a long prefix in common
    assert [call for call in calls if call] == [{t} for t in range(min(paths, 3))]
    assert len(by_key(tmp_path)) == 4 * paths
