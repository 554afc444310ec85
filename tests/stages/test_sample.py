"""The sampling stage: interrupted anywhere and resumed, it is as if nothing had happened."""

import contextlib
import tempfile
from collections import Counter
from pathlib import Path as File

import msgspec
import pytest
from builders import tree
from commands import by_key, paths_in, whole_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import IDENTITY, QUESTIONS, SCRIPT, TASK, formed, sampled, settled, voted

from lmsi_cli.config import EvalConfig, SampleConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Exemplar, Path, Question, Silent, Template, Vote
from lmsi_cli.reporting.grading import Candidate
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.evaluate import Exam, evaluate
from lmsi_cli.stages.sample import bind
from tests.scripted import ScriptedEngine

TOTAL = 4 * 3  # paths of the helpers' questions at three paths each


@given(
    st.lists(st.integers(0, TOTAL), max_size=4),
    st.lists(st.integers(0, 200), min_size=4, max_size=4),
)
@settings(max_examples=40)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives, torn):
    """Each life writes some paths and dies; a tear may then cost the end of the last line."""
    with tempfile.TemporaryDirectory() as folder:
        root, whole = File(folder) / "lives", File(folder) / "whole"
        file = RunDir(root).paths
        sampled(whole)
        for fail_after, tear in zip(lives, torn, strict=False):
            with contextlib.suppress(KeyboardInterrupt):
                sampled(root, fail_after=fail_after)
            data = file.read_bytes()
            last = data[: len(data) - 1].rfind(b"\n") + 1  # a kill tears one line at most
            file.write_bytes(data[: max(last, len(data) - tear)])
        kept = whole_lines(file)
        sampled(root)
        assert whole_lines(file)[: len(kept)] == kept
        assert by_key(root) == by_key(whole) and len(by_key(root)) == TOTAL


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
    assert by_key(tmp_path) == by_key(tmp_path / "at once")
    sampled(tmp_path, questions=QUESTIONS[3:])  # the folder keeps all questions
    kept = list(read_records(RunDir(tmp_path).questions, Question))
    assert [q.id for q in kept] == ["q0", "q1", "q2", "q3"]


def test_every_path_has_its_own_seed_and_answer(tmp_path):
    sampled(tmp_path, SampleConfig(paths=4, seed=5))
    paths = by_key(tmp_path)
    for (question, number), p in paths.items():
        assert p["seed"] == path_seed(5, question, number)
        assert p["text"] == SCRIPT[question][number % len(SCRIPT[question])]
    asked = [("q0", 2), ("q1", 0), ("q1", 1)]
    assert [paths[key]["predicted_answer"] for key in asked] == ["1", "2", None]


def test_another_text_under_an_old_id_is_refused_and_loses_nothing(tmp_path):
    sampled(tmp_path)
    before = tree(tmp_path)
    other = [*QUESTIONS[:3], Question(id="q3", question="What is 3 times 3?")]
    with pytest.raises(LmsiError) as e:
        sampled(tmp_path, questions=other)
    file = tmp_path / "questions.jsonl"
    assert str(e.value) == f"question 'q3' has another text than in {file}"
    assert "--overwrite" in e.value.hint
    assert tree(tmp_path) == before


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
    ({"adapter": "x.gguf", "adapter_sha256": "e"}, "adapter: none in the run folder, x.gguf now"),
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
    assert by_key(tmp_path) == by_key(tmp_path / "others")
    # later stages see no question without paths, and a resumed call tells it again
    assert "long" not in {q.id for q in read_records(RunDir(tmp_path).questions, Question)}
    assert sampled(tmp_path, questions=[LONG, *QUESTIONS], fail_after=0).skipped == ("long",)


def test_if_no_question_fits_nothing_is_written(tmp_path):
    with pytest.raises(LmsiError, match=r"^question 'long' \(.*\): prompt of \d+ tokens and 256"):
        sampled(tmp_path, questions=[LONG])
    assert [f.name for f in tmp_path.iterdir()] == ["run.toml"]


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


@given(st.lists(st.integers(0, 21), max_size=4))
@settings(max_examples=10)
def test_interrupted_anywhere_it_ends_with_the_same_decisions(lives):
    with tempfile.TemporaryDirectory() as folder:
        for fail_after in lives:
            with contextlib.suppress(KeyboardInterrupt):
                sampled(File(folder), STOPPING, fail_after)
        sampled(File(folder), STOPPING)
        assert drawn(folder) == DRAWN
        again = sampled(File(folder), STOPPING, fail_after=0)  # asked for a path, it would raise
        assert (again.new_paths, again.stopped, again.never_drawn) == (0, 3, 0)


def test_a_path_behind_a_missing_one_decides_nothing_and_stays(tmp_path):
    sampled(tmp_path / "full", SampleConfig(paths=12))
    paths = read_records(RunDir(tmp_path / "full").paths, Path)
    run = RunDir(tmp_path)
    bind(run, settled(STOPPING), IDENTITY)
    write_records(run.paths, [p for p in paths if p.question_id == "q0" and p.path in (1, 5)])
    late = paths_in(tmp_path)
    sampled(tmp_path, STOPPING)
    assert paths_in(tmp_path)[:2] == late
    assert drawn(tmp_path) == {**DRAWN, "q0": 3}  # path 0 decides with path 1; path 5 was there


def test_more_paths_go_on_where_it_is_not_decided(tmp_path):
    few = sampled(tmp_path, SampleConfig(paths=3, stop="window:2"))
    assert (few.stopped, few.new_paths) == (1, 11)  # q2 had all that was asked for
    more = sampled(tmp_path, STOPPING)
    assert (more.stopped, more.new_paths) == (3, 10)
    assert drawn(tmp_path) == DRAWN


def test_an_interrupted_question_is_not_a_stopped_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path, STOPPING, fail_after=3)  # one of q1
    voted(tmp_path)
    assert (drawn(tmp_path), marked(tmp_path)) == ({"q0": 2, "q1": 1}, {"q0"})


@pytest.mark.parametrize("paths", [2, 5, 12])
@pytest.mark.parametrize("stop", ["beta:0.8", "window:2", "window:3"])
def test_the_sampler_and_the_vote_agree_on_what_was_stopped(tmp_path, stop, paths):
    summary = sampled(tmp_path, SampleConfig(paths=paths, stop=stop))
    assert voted(tmp_path).stopped == summary.stopped == len(marked(tmp_path))
    assert marked(tmp_path) <= {q for q, n in drawn(tmp_path).items() if n < paths}


# -- templates in turn -----------------------------------------------------------------------------


TALES = {q.id: [f" Let me see. {i} + {i} = {2 * i}.", " It is", " So what"]
          for i, q in enumerate(QUESTIONS)}  # fmt: skip
FEW = SampleConfig(paths=4, prompt="cot-few")
SHOWN = [Exemplar(question=f"Template {i}?", rationale="1 + 1 = 2.", answer="2") for i in range(3)]
TURNS = msgspec.structs.replace(
    TASK, exemplars=(SHOWN[0],), templates=tuple(Template(exemplars=(e,)) for e in SHOWN)
)


class Noting(ScriptedEngine):
    """Remembers which template each path was shown, call by call."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shown, self.calls = {}, []

    def generate(self, requests, sampling, trigger, watch=None):
        self.calls.append([r.block for r in requests if r.wanted])
        for r in requests:
            template = bytes(r.prompt).decode().partition("Template ")[2][:1]
            self.shown |= {(r.question_id, w.path): template for w in r.wanted}
        yield from super().generate(requests, sampling, trigger, watch)


def in_turn(root, config=FEW, fail_after=None, script=TALES):
    engine = Noting(script, fail_after)
    return engine, sampled(root, config, engine=engine, task=TURNS)


@pytest.mark.parametrize("paths", [1, 2, 3, 7])
def test_path_k_is_shown_template_k_modulo_their_number(tmp_path, paths):
    engine, _ = in_turn(tmp_path, SampleConfig(paths=paths, prompt="cot-few"))
    assert engine.shown == {(q.id, k): str(k % 3) for q in QUESTIONS for k in range(paths)}
    # a call holds one template's prompts, which have a long prefix in common
    assert [set(call) for call in engine.calls if call] == [{t} for t in range(min(paths, 3))]
    assert len(by_key(tmp_path)) == 4 * paths


def test_interrupted_between_templates_nothing_is_lost_or_twice(tmp_path):
    for fail_after in (3, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            in_turn(tmp_path / "lives", fail_after=fail_after)
    in_turn(tmp_path / "lives")
    in_turn(tmp_path / "whole")
    assert by_key(tmp_path / "lives") == by_key(tmp_path / "whole")
    assert len(by_key(tmp_path / "lives")) == 4 * FEW.paths


def test_with_an_early_stop_the_paths_come_in_their_order(tmp_path):
    config = SampleConfig(paths=6, prompt="cot-few", stop="window:2")
    same = {q.id: [" The answer is 4."] for q in QUESTIONS}
    engine, summary = in_turn(tmp_path, config, script=same)
    assert {path for _, path in by_key(tmp_path)} == {0, 1}
    assert (summary.stopped, summary.never_drawn + summary.cancelled) == (4, 16)
    assert [set(call) for call in engine.calls if call] == [{0}, {1}]


LABELLED = [Question(id=q.id, question=q.question, answer=str(2 * i))
            for i, q in enumerate(QUESTIONS)]  # fmt: skip


def test_in_an_evaluation_greedy_answers_see_the_first_template_and_paths_all(tmp_path):
    """Another set of templates is another sitting."""
    engine, run = Noting(TALES), RunDir(tmp_path)
    config = settled(EvalConfig(paths=3, modes=("cot", "sc"), prompt="cot-few"))
    base = [Candidate("base", None, {"model_sha256": "mm"})]
    fewer = msgspec.structs.replace(TURNS, templates=TURNS.templates[:2])
    for task, files in ((TURNS, 2), (fewer, 4)):
        exam = Exam("test", LABELLED, formed(task, config), config)
        evaluate([exam], base, engine, run, Silent())
        assert len(list(run.eval_dir.glob("*.answers.jsonl"))) == files
        if task is TURNS:
            assert [set(call) for call in engine.calls if call] == [{0}, {0}, {1}, {2}]
