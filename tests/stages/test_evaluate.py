"""The evaluating stage: pairs of base and adapter, resumed anywhere, never overwritten."""

import contextlib
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import TASK, Silent

from lmsi_cli.config import EvalConfig
from lmsi_cli.engine.scripted import ScriptedEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records
from lmsi_cli.records import Question
from lmsi_cli.report.comparison import Answer, Comparison
from lmsi_cli.rundir import RunDir, sha256_file
from lmsi_cli.stages.evaluate import Exam, Variant, evaluate, gold_answers, variants_of

LABELLED = [
    Question(id=f"t{i}", question=f"What is {i} + {i}?", answer=f"{2 * i}.0") for i in range(4)
]
WRONG, UNREAD = " The answer is 99.", " Who knows."


def right(i):
    return f" {i} + {i} = {2 * i}. The answer is {2 * i}."


# Path 0 is what the greedy modes hear. In two paths t1 is a tie of the base, and the adapter's t3
# cannot be read.
BASE = {"t0": [right(0)] * 2, "t1": [right(1), WRONG], "t2": [WRONG] * 2, "t3": [WRONG] * 2}
ADAPTED = {"t0": [WRONG] * 2, "t1": [right(1)] * 2, "t2": [right(2)] * 2, "t3": [UNREAD] * 2}


class TwoMinds(ScriptedEngine):
    """Speaks from one script without an adapter and from another with it; remembers requests."""

    def __init__(self, fail_after=None):
        super().__init__(BASE)
        self.left, self.asked = fail_after, []

    def use_adapter(self, path, scale=1.0):
        super().use_adapter(path, scale)
        self.script = BASE if path is None else ADAPTED

    def generate(self, requests, sampling, trigger):
        self.asked.append((self.adapter, sampling, [r for r in requests if r.wanted]))
        for generated in super().generate(requests, sampling, trigger):
            if self.left is not None:
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
            yield generated


def variants(adapter_hash="aa"):
    base = Variant("base", None, {"model_sha256": "mm"})
    return [base, Variant("adapter", "x.gguf", {**base.identity, "adapter_sha256": adapter_hash})]


def examined(root, engine=None, adapter_hash="aa", progress=None, **config):
    exam = Exam("test", LABELLED, TASK, EvalConfig(**{"paths": 2, **config}))
    return evaluate(exam, variants(adapter_hash), engine or TwoMinds(), RunDir(root),
                    progress or Silent())  # fmt: skip


def timeless(result):
    """A comparison without its seconds, which no two runs share."""
    told = msgspec.to_builtins(result)
    for line in told["lines"]:
        for name in ("base", "adapter"):
            line[name].pop("seconds")
    for answers in told["answers"].values():
        for answer in answers:
            answer.pop("seconds")
    return told


def lines_of(result):
    return {line.name: line for line in result.lines}


def test_base_and_adapter_are_compared_on_the_same_questions(tmp_path):
    lines = lines_of(examined(tmp_path))
    assert list(lines) == ["direct", "CoT greedy", "one sampled path", "majority of 2", "any of 2"]
    greedy = lines["CoT greedy"]
    assert (greedy.base.accuracy.value, greedy.adapter.accuracy.value) == (0.5, 0.5)
    assert (greedy.change.gained, greedy.change.lost, greedy.change.n) == (1, 1, 4)
    assert (greedy.base.parsed, greedy.adapter.parsed) == (1.0, 0.75)


def test_a_tie_counts_half(tmp_path):
    lines = lines_of(examined(tmp_path))
    assert lines["majority of 2"].base.accuracy.value == (1 + 0.5 + 0 + 0) / 4
    assert lines["one sampled path"].base.accuracy.value == (1 + 0.5 + 0 + 0) / 4
    assert lines["any of 2"].base.accuracy.value == 2 / 4


def test_the_result_is_a_file_with_every_answer(tmp_path):
    result = examined(tmp_path)
    file = next((tmp_path / "eval").glob("test-*.result.json"))
    assert msgspec.json.decode(file.read_bytes(), type=Comparison) == result
    assert {name: len(answers) for name, answers in result.answers.items()} == {
        "base": 16, "adapter": 16,
    }  # fmt: skip
    assert result.gold == {"t0": "0", "t1": "2", "t2": "4", "t3": "6"}


@given(st.lists(st.integers(0, 33), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives):
    with tempfile.TemporaryDirectory() as folder:
        for fail_after in lives:
            with contextlib.suppress(KeyboardInterrupt):
                examined(folder, TwoMinds(fail_after))
        engine = TwoMinds()
        result = examined(folder, engine)
        whole = examined(Path(folder) / "whole")
        assert timeless(result) == timeless(whole)
        files = list(RunDir(folder).eval_dir.glob("*.answers.jsonl"))
        keys = [
            (f.name, a.mode, a.question_id, a.path) for f in files for a in read_records(f, Answer)
        ]
        assert len(keys) == len(set(keys)) == 32


def test_a_finished_evaluation_asks_nothing(tmp_path):
    examined(tmp_path)
    engine = TwoMinds(fail_after=0)
    examined(tmp_path, engine)
    assert not any(requests for _, _, requests in engine.asked)


def test_more_paths_and_modes_extend(tmp_path):
    examined(tmp_path, modes=("cot",))
    engine = TwoMinds()
    examined(tmp_path, engine, modes=("cot", "sc"), paths=1)
    assert sum(len(r.wanted) for _, _, rs in engine.asked for r in rs) == 8
    engine = TwoMinds()
    result = examined(tmp_path, engine, modes=("cot", "sc"))
    assert sum(len(r.wanted) for _, _, rs in engine.asked for r in rs) == 8
    assert timeless(result) == timeless(examined(tmp_path / "whole", modes=("cot", "sc")))


def test_a_mode_named_twice_counts_once(tmp_path):
    assert "majority of 2" in lines_of(examined(tmp_path, modes=("sc", "sc")))


@pytest.mark.parametrize(
    "change",
    [
        {"adapter_hash": "bb"},
        {"temperature": 1.0},
        {"seed": 1},
        {"prompt": "cot-few"},
        {"scale": 2},
    ],
    ids=lambda c: next(iter(c)),
)
def test_older_answers_stay_beside_those_of_another_adapter_or_setting(tmp_path, change):
    examined(tmp_path)
    before = {f: f.read_bytes() for f in (tmp_path / "eval").iterdir()}
    examined(tmp_path, **change)
    after = {f: f.read_bytes() for f in (tmp_path / "eval").iterdir()}
    assert after.items() >= before.items()
    new = [f.name for f in after.keys() - before.keys()]
    # the base does not depend on the adapter; its answers are not asked for again
    shared = change.keys() & {"adapter_hash", "scale"}
    assert len([n for n in new if n.startswith("base-")]) == (0 if shared else 1)
    assert len([n for n in new if n.startswith("adapter-")]) == 1
    assert len([n for n in new if n.startswith("test-")]) == 1


def test_what_changes_no_answer_asks_nothing_again(tmp_path):
    examined(tmp_path)
    names = {f.name for f in (tmp_path / "eval").iterdir()}
    examined(tmp_path, TwoMinds(fail_after=0), threads=3, parallel=2)
    assert {f.name for f in (tmp_path / "eval").iterdir()} == names


def test_each_mode_asks_in_its_own_way(tmp_path):
    engine = TwoMinds()
    examined(tmp_path, engine, temperature=0.7, max_tokens=100)
    asked = {
        (adapter, sampling.temperature, sampling.max_tokens, len(requests[0].wanted))
        for adapter, sampling, requests in engine.asked
    }
    assert asked == {(a, *rest) for a in (None, "x.gguf")
                     for rest in ((0.0, 32, 1), (0.0, 100, 1), (0.7, 100, 2))}  # fmt: skip
    prompts = [bytes(requests[0].prompt).decode() for _, _, requests in engine.asked[:3]]
    assert prompts[0].endswith("Q: What is 0 + 0?\nA:") and "What is 6 * 7?" in prompts[0]
    assert prompts[1] == prompts[2] == "Q: What is 0 + 0?\nA: Let's think step by step."


def test_a_question_that_does_not_fit_counts_as_unanswered_for_both(tmp_path, watcher):
    long = Question(id="long", question="How many? " * 500, answer="3")  # the context is 4096
    exam = Exam("test", [*LABELLED, long], TASK, EvalConfig(paths=2))
    for _ in range(2):  # the second call finds all other answers, and tells it again
        result = evaluate(exam, variants(), TwoMinds(), RunDir(tmp_path), watcher)
        assert result.skipped == ("long",)
        assert (result.n, len(result.answers["base"])) == (5, 20)
        greedy = lines_of(result)["CoT greedy"]
        assert (greedy.base.accuracy.value, greedy.base.parsed) == (2 / 5, 4 / 5)
        assert greedy.adapter.accuracy.value == 2 / 5
        assert lines_of(result)["majority of 2"].base.accuracy.value == (1 + 0.5) / 5
    stored = [
        a for f in (tmp_path / "eval").glob("*.answers.jsonl") for a in read_records(f, Answer)
    ]
    assert {a.question_id for a in stored} == set(BASE)
    assert len(watcher.said) == 2 * 2 * 3 and watcher.said[0].startswith("skipped: question 'long'")


def test_the_base_alone_has_no_change(tmp_path):
    exam = Exam("test", LABELLED, TASK, EvalConfig(modes=("cot",)))
    result = evaluate(exam, variants()[:1], TwoMinds(), RunDir(tmp_path), Silent())
    assert result.lines[0].change is None


def test_a_gold_answer_of_another_kind_is_named():
    bad = [*LABELLED, Question(id="t9", question="Who?", answer="Anna")]
    told = rf"question 't9': its answer 'Anna' is not a number \(1 of {len(bad)} questions\)"
    with pytest.raises(LmsiError, match=told):
        gold_answers(bad, TASK)


@pytest.fixture
def trained(tmp_path):
    """A run folder with an adapter, and a model file."""
    run, model = RunDir(tmp_path / "run"), tmp_path / "m.gguf"
    run.adapter.mkdir(parents=True)
    run.adapter_gguf.write_bytes(b"adapter")
    model.write_bytes(b"model")
    return run, model


def test_variants_are_named_by_their_bytes(trained, tmp_path):
    run, model = trained
    origin = {"base_sha256": sha256_file(model), "base_file": "m.gguf"}
    for told in (None, origin):  # an adapter from elsewhere, and one of our own
        if told:
            run.adapter_origin.write_bytes(msgspec.json.encode(told))
        base, adapter = variants_of(run, model)
        assert adapter.identity == {
            **base.identity,
            "adapter_sha256": sha256_file(run.adapter_gguf),
        }
    assert len(variants_of(RunDir(tmp_path / "other"), model)) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"base_sha256": "ff", "base_file": "o.gguf"}', "was trained on another model, o.gguf"),
        (b'{"base_sha', "lmsi.json: not a JSON object: Input data was truncated"),
        (b"[]", "lmsi.json: not a JSON object"),
    ],
    ids=["base", "torn", "list"],
)
def test_an_adapter_of_another_base_is_refused(trained, content, told):
    run, model = trained
    run.adapter_origin.write_bytes(content)
    with pytest.raises(LmsiError) as e:
        variants_of(run, model)
    assert told in str(e.value)
