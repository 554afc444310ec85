"""The evaluating stage: pairs of base and adapter, resumed anywhere, never overwritten."""

import tempfile
from collections import Counter
from math import inf
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stage_helpers import TASK, interrupted, settled

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import EvalConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, Silent
from lmsi_cli.reporting.comparison import control_lines, gained, headline, next_step
from lmsi_cli.reporting.grading import Candidate
from lmsi_cli.reporting.results import Answer, Evaluation
from lmsi_cli.run_folder import TEACHER, RunDir, sha256_file
from lmsi_cli.stages.evaluate import Exam, evaluate
from lmsi_cli.stages.measure import again, candidates_of, controls
from tests.scripted import ScriptedEngine

LABELLED = [
    Question(id=f"t{i}", question=f"What is {i} + {i}?", answer=f"{2 * i}.0") for i in range(4)
]
SET = {"test": LABELLED}
WRONG, UNREAD = " The answer is 99.", " Who knows."


def right(i):
    return f" {i} + {i} = {2 * i}. The answer is {2 * i}."


# Path 0 is what the greedy modes hear. In two paths t1 is a tie of the base, and the adapter's t3
# cannot be read.
BASE = {"t0": [right(0)] * 2, "t1": [right(1), WRONG], "t2": [WRONG] * 2, "t3": [WRONG] * 2}
ADAPTED = {"t0": [WRONG] * 2, "t1": [right(1)] * 2, "t2": [right(2)] * 2, "t3": [UNREAD] * 2}


class TwoMinds(ScriptedEngine):
    """Speaks from one script without an adapter and from another with it; remembers requests."""

    def __init__(self, fail_after=inf, base=BASE, adapted=ADAPTED):
        super().__init__(base)
        self.scripts, self.left, self.asked = (base, adapted), fail_after, []

    def use_adapter(self, path, scale=1.0):
        super().use_adapter(path, scale)
        self.script = self.scripts[path is not None]

    def generate(self, requests, sampling, trigger, watch=None):
        self.asked.append((self.adapter, sampling, [r for r in requests if r.wanted]))
        for generated in super().generate(requests, sampling, trigger):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield generated


def variants(adapter_hash="aa"):
    base = Candidate("base", None, {"model_sha256": "mm"})
    return [base, Candidate("adapter", "x.gguf", {**base.identity, "adapter_sha256": adapter_hash})]


SHUFFLED = variants()[1]._replace(name="shuffled votes", null=True)


def examined_all(root, engine=None, models=None, sets=SET, progress=None, **config):
    about, task = config.pop("about", None), config.pop("task", TASK)
    config = settled(EvalConfig(**{"paths": 2, "modes": ("direct", "cot", "sc"), **config}))
    exams = [Exam(name, questions, task, config) for name, questions in sets.items()]
    engine, progress = engine or TwoMinds(), progress or Silent()
    return evaluate(exams, models or variants(), engine, RunDir(root), progress, about)


def examined(root, *args, **kwargs):
    return examined_all(root, *args, **kwargs)[0]


def timeless(result):
    """An evaluation without its seconds, which no two runs share."""
    told = msgspec.to_builtins(result)
    for variant in told["variants"]:
        for figure in variant["figures"]:
            figure.pop("seconds")
    return told


def stored(root):
    """Which answers lie in the folder."""
    files = RunDir(root).eval_dir.glob("*.answers.jsonl")
    found = ((f.name, a) for f in files for a in read_records(f, Answer))
    return [(name, a.mode, a.question_id, a.path) for name, a in found]


def test_base_and_adapter_are_compared_on_the_same_questions_in_each_mode(tmp_path):
    engine = TwoMinds()
    result = examined(tmp_path, engine, max_tokens=100)
    asked = [(a, s.temperature, s.max_tokens, len(r[0].wanted)) for a, s, r in engine.asked]
    modes = ((0.0, 32, 1), (0.0, 100, 1), (0.7, 100, 2))
    assert asked == [(adapter, *mode) for adapter in (None, "x.gguf") for mode in modes]
    direct, cot, sc = (bytes(r[0].prompt).decode() for _, _, r in engine.asked[:3])
    assert direct.endswith("Q: What is 0 + 0?\nA:") and "What is 6 * 7?" in direct
    assert cot == sc == "Q: What is 0 + 0?\nA: Let's think step by step."
    lines = ["direct", "CoT greedy", "one sampled path", "majority of 2", "any of 2"]
    assert [[f.name for f in v.figures] for v in result.variants] == [lines, lines]
    assert [p.line for p in result.pairs] == lines
    base, adapter = (v.figure("CoT greedy") for v in result.mains)
    assert (base.scores, adapter.scores) == ((1, 1, 0, 0), (0, 1, 1, 0))
    assert (base.parsed, adapter.parsed) == (1.0, 0.75)
    change = result.pair("CoT greedy", "adapter").change
    assert (change.gained, change.lost, change.n, change.difference) == (1, 1, 4, 0)
    drawn = [result.mains[0].figure(line).scores for line in lines[2:]]  # a tie counts half
    assert drawn == [(1, 0.5, 0, 0), (1, 0.5, 0, 0), (1, 1, 0, 0)]
    curve = [(c.k, c.majority.value, c.any.value) for c in result.variants[0].curve]
    assert curve == [(1, 1.5 / 4, 1.5 / 4), (2, 1.5 / 4, 2 / 4)]  # over all subsets
    file = next((tmp_path / "eval").glob("test-*.result.json"))
    assert msgspec.json.decode(file.read_bytes(), type=Evaluation) == result


def test_controls_are_asked_too_and_count_as_no_candidate(tmp_path):
    """Here the one that learned from shuffled votes says what the adapter says."""
    engine, who = TwoMinds(), variants()
    result = examined(tmp_path, engine, [*who, again(who[0]), SHUFFLED], seed=(3, 5))
    assert [v.model for v in result.mains] == ["base", "adapter"]
    assert result.pairs == examined(tmp_path / "without", models=who, seed=(3, 5)).pairs
    told = Counter(n.after for n in result.nulls)
    assert told == {"base again": 3, "shuffled votes": 5}  # greedy, the base repeats itself
    seeds = {s.seed for a, s, _ in engine.asked if s.temperature and a is None}
    assert len(seeds) == 4 and {3, 5} < seeds  # the base's own, and two others
    assert any("adapter +1 -1" in x and "shuffled votes +1 -1" in x for x in control_lines(result))


def test_a_gain_of_form_is_told_from_a_gain(tmp_path):
    """The adapter is right wherever the base had no answer, and nowhere else; so is a control."""
    labelled = [Question(id=f"t{i}", question="What is 1 + 1?", answer="2") for i in range(24)]
    silent = {f"t{i}": [UNREAD if i < 8 else WRONG if i < 16 else right(1)] for i in range(24)}
    spoken = {q: [right(1)] if texts == [UNREAD] else texts for q, texts in silent.items()}
    asked = {"engine": TwoMinds(inf, silent, spoken), "sets": {"test": labelled}, "modes": ("cot",)}
    result = examined(tmp_path, **asked)
    [pair] = result.pairs
    assert (pair.change.gained, pair.change.lost) == (8, 0) and pair.p_holm < 0.05
    assert (pair.whole.n, pair.whole.gained, pair.whole.lost) == (16, 0, 0)
    assert ["gained form" in line for line in control_lines(result)] == [True]
    assert "clear" in next_step([result], "r").why
    result = examined(tmp_path, models=[*variants(), SHUFFLED], **asked)
    assert next_step([result], "r").why.startswith("a control")
    assert any("no gain by the vote" in note for note in headline([result])[1])


def test_temperatures_and_seeds_are_variants_and_only_the_first_is_greedy(tmp_path):
    result = examined(tmp_path, modes=("sc", "cot"), temperature=(0.7, 1.2), seed=(3, 4))
    assert result.primary == "majority of 2"
    ways = [("", 0.7, 3), (" t0.7-s4", 0.7, 4), (" t1.2-s3", 1.2, 3), (" t1.2-s4", 1.2, 4)]
    told = [(v.name, v.temperature, v.seed) for v in result.variants]
    assert told == [(m + name, t, s) for m in ("base", "adapter") for name, t, s in ways]
    assert [bool(v.figure("CoT greedy")) for v in result.variants] == [True, *[False] * 3] * 2
    voted = [(p.temperature, p.primary) for p in result.pairs if p.line == "majority of 2"]
    assert voted == [(0.7, True), (1.2, False)]


UP, DOWN, VAGUE = ("x", 0.1, 0.01), ("x", -0.1, 0.01), ("x", 0.3, 0.06)


def test_holm_counts_all_sets_and_a_gain_is_clear_somewhere_and_no_loss_anywhere(tmp_path):
    results = examined_all(tmp_path, sets={"one": LABELLED, "two": LABELLED}, modes=("cot",))
    assert [(e.data, p.p_holm) for e in results for p in e.pairs] == [("one", 1.0), ("two", 1.0)]
    files = (tmp_path / "eval").glob("*.result.json")
    assert sorted(f.name.partition("-")[0] for f in files) == ["one", "two"]
    [like] = results[0].pairs

    def told(*changes):
        changed = [(who, replace(like.change, difference=d), p) for who, d, p in changes]
        pairs = [replace(like, after=who, change=c, p_holm=p) for who, c, p in changed]
        return replace(results[0], pairs=pairs)

    assert gained([told(UP)]) == gained([told(UP), told(VAGUE)]) == "x"
    assert gained([told(VAGUE)]) is gained([told(UP), told(DOWN)]) is gained(results) is None
    assert gained([told(DOWN, ("y", 0.2, 0.04))]) == "y"


def test_answers_are_marked_anew_and_clusters_widen_the_interval(tmp_path):
    def first(labelled, engine=None):
        return examined(tmp_path, engine, sets={"test": labelled}, modes=("cot",)).variants[0]

    narrow = first(LABELLED).figures[0].accuracy
    wide = first([replace(q, group="g") for q in LABELLED[:3]] + LABELLED[3:]).figures[0].accuracy
    assert wide.value == narrow.value and wide.high - wide.low > narrow.high - narrow.low
    engine = TwoMinds()
    corrected = first([replace(q, answer="99") for q in LABELLED], engine)
    assert corrected.figures[0].scores == (0, 0, 1, 1)
    assert not any(requests for _, _, requests in engine.asked)


@given(st.lists(st.integers(0, 33), min_size=1, max_size=4))
@settings(max_examples=10)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives):
    with tempfile.TemporaryDirectory() as folder:
        interrupted(lives, lambda n: examined(folder, TwoMinds(n)))
        whole = examined(Path(folder) / "whole")
        assert timeless(examined(folder)) == timeless(whole)
        assert len(stored(folder)) == len(set(stored(folder))) == 32


@pytest.mark.parametrize(
    ("before", "after", "of_base", "of_adapter"),
    [
        ({"modes": ("cot",)}, {"modes": ("cot", "sc"), "paths": 1}, 4, 4),
        ({"paths": 1}, {}, 4, 4),
        ({"modes": ("cot",), "limit": 2}, {"modes": ("cot",)}, 2, 2),
        ({}, {"threads": 3, "parallel": 2}, 0, 0),
        # the base does not depend on the adapter, nor a greedy answer on a temperature or a seed
        ({}, {"models": variants("bb")}, 0, 16),
        ({}, {"temperature": (1.0,)}, 8, 8),
        ({"temperature": (0.7, 1.2)}, {"temperature": (1.0, 0.7, 1.2)}, 8, 8),
        ({}, {"seed": (1,)}, 8, 8),
        ({}, {"prompt": "cot-few"}, 16, 16),
        ({}, {"max_tokens": 99}, 16, 16),
        ({}, {"task": replace(TASK, exemplars=TASK.exemplars * 2)}, 16, 16),
    ],
)
def test_only_what_may_be_another_is_asked_again(tmp_path, before, after, of_base, of_adapter):
    examined(tmp_path, **before)
    older = {f: f.read_bytes() for f in (tmp_path / "eval").iterdir()}
    engine = TwoMinds()
    result = examined(tmp_path, engine, **after)
    asked = Counter(a for a, _, requests in engine.asked for r in requests for _ in r.wanted)
    assert (asked[None], asked["x.gguf"]) == (of_base, of_adapter)
    kept = [f for f in older if of_adapter or f.suffix == ".jsonl"]  # results stay, answers grow
    assert kept and all(f.read_bytes().startswith(older[f]) for f in kept)
    assert of_adapter or older.keys() == set((tmp_path / "eval").iterdir())
    assert timeless(result) == timeless(examined(tmp_path / "whole", **after))


def test_a_question_that_does_not_fit_counts_as_unanswered_for_both(tmp_path, watcher):
    long = Question(id="long", question="How many? " * 500, answer="3")  # the context is 4096
    for _ in range(2):  # the second call finds all other answers, and tells it again
        result = examined(tmp_path, progress=watcher, sets={"test": [*LABELLED, long]})
        assert (result.skipped, result.n) == (("long",), 5)
        greedy = [v.figure("CoT greedy") for v in result.mains]
        assert [(f.parsed, f.accuracy.value) for f in greedy] == [(4 / 5, 2 / 5), (3 / 5, 2 / 5)]
    assert {question for _, _, question, _ in stored(tmp_path)} == set(BASE)
    assert [said[:23] for said in watcher.said] == ["skipped: question 'long"] * 12


@pytest.fixture
def trained(tmp_path):
    """A run folder with an adapter, and a model file."""
    run, model = RunDir(tmp_path / "run"), tmp_path / "m.gguf"
    write_atomic(run.adapter_gguf, b"adapter")
    model.write_bytes(b"model")
    return run, model


@pytest.mark.parametrize(
    ("own", "votes", "words"),
    [({}, b"v", ""), ({"lr": 0.1}, b"v", "lr"), ({"device": "x"}, b"v", ""), ({}, b"w", "votes")],
)
def test_a_control_differs_from_the_adapter_by_the_shuffling_alone(trained, own, votes, words):
    run, model = trained
    origin = {"base_sha256": sha256_file(model), "base_file": "m.gguf", "lr": 0.2}
    run.votes.write_bytes(b"v")
    write_atomic(run.null.adapter_gguf, b"control")
    whose = {"run": "r", "model": "m.gguf", "model_sha256": "aa"}
    run.null.save_settings(TEACHER, {**whose, "votes_sha256": sha256_file(run.votes)})
    run.null.adapter_origin.write_bytes(msgspec.json.encode(origin))
    run.adapter_origin.write_bytes(msgspec.json.encode(origin | own))
    run.votes.write_bytes(votes)
    base = candidates_of(run, model)[0]
    if words:
        with pytest.raises(LmsiError, match=f"has other {words} than") as refused:
            controls(run, base)
        assert "--null --overwrite" in refused.value.hint
        return
    once_more, control = controls(run, base, (0.5, 1.0))
    assert once_more.adapter is None and once_more.null
    assert control.adapter == str(run.null.adapter_gguf) and control.null and control.scale == 0.5


def test_more_adapters_and_scales_are_named_apart(trained, tmp_path):
    run, model = trained
    other, third = RunDir(tmp_path / "other").adapter_gguf, tmp_path / "base.gguf"
    for file in (other, third):
        write_atomic(file, b"another")
    found = candidates_of(run, model, [other, other, third])
    assert [v.name for v in found] == ["base", "adapter", "other", "other-2", "base-2"]
    found = candidates_of(run, model, [], (0.5, 1))
    named = [("base", 1), ("adapter x0.5", 0.5), ("adapter x1", 1)]
    assert [(v.name, v.scale) for v in found] == named
