"""Generated questions and exemplars: nothing drawn twice, nothing unseen read, sound files."""

import hashlib
import tempfile
from collections import defaultdict
from pathlib import Path as File

import msgspec
import pytest
from builders import path, tree
from commands import by_key
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace
from stage_helpers import IDENTITY, TASK, examples_of, interrupted, invented, tear, voted

from lmsi_cli.cli.questions import next_step
from lmsi_cli.config import ExemplarsConfig, SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.generation import Draft
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, Silent
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages import questions as stage
from lmsi_cli.stages import sample as sampling
from lmsi_cli.stages.asking import Asking
from lmsi_cli.stages.exemplars import choose, write_exemplars
from lmsi_cli.stages.pipeline import Drawing
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_questions
from lmsi_cli.tasks.wording import Wording
from tests.scripted import ScriptedEngine

SEEDS = [
    Question(id=f"s{n}", question=f"{name} has {n + 2} pens and finds {n}. How many pens?")
    for n, name in enumerate(["Tom", "Ida", "Max"])
]
CONFIG = stage.QuestionsConfig(seeds=3, paths=4, number=6)
SURE, UNSURE = [" The answer is 5."] * 4, [f" The answer is {n}." for n in range(4)]


def number_of(text, below):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % below


class Author(dict):
    """Writes a question for every prompt, now and then a bad one, and is sure of some answers."""

    def __init__(self, doubts=False):
        super().__init__()
        self.doubts = doubts

    def __missing__(self, key):
        if not key.isdigit():  # a question: one in three is voted on with confidence
            return UNSURE if self.doubts or number_of(key, 3) else SURE
        first = number_of(key, 100)
        bad = [" Tom has 3 pens and", " Because.\nA: 3."][number_of(key, 2)]
        good = [f" {invented((first + more) % 100)}\nA: no." for more in (0, 37, 59, 83)]
        return [*good[:3], bad] if number_of(key, 3) == 0 else good


def written(root, config=CONFIG, fail_after=None, **given):
    """One call of the stage, as the command makes it; an interrupt is let out."""
    run, task, exams = RunDir(root), given.get("task", TASK), given.get("exams", {})
    engine = ScriptedEngine(given.get("author", Author()), fail_after)
    config = stage.bind(run, config, IDENTITY)
    paths = SampleConfig(paths=config.paths)
    sampling.bind(run, paths, IDENTITY)
    asking = Asking(task, paths, Wording(name="plain", chat=False))
    drawing = Drawing(engine, asking, IDENTITY, run, Silent())
    return stage.Generator(given.get("seeds", SEEDS), exams, config, drawing).generate()


def drafts_of(root):
    return {(d.prompt, d.path): d for d in read_records(RunDir(root).drafts, Draft)}


def figures(told):
    """All of a record that does not depend on how the work was cut up."""
    return replace(told, seconds=0.0, tokens=0, new_drafts=0)


def test_a_finished_generation_adds_up_and_draws_nothing_and_its_vote_keeps_the_same(tmp_path):
    told, run = written(tmp_path), RunDir(tmp_path)
    assert (told.kept, told.ended) == (6, "enough")
    assert told.drafts == len(drafts_of(tmp_path)) == told.candidates + sum(told.dropped.values())
    assert told.sampled == told.kept + sum(told.rejected.values())
    assert len(by_key(tmp_path)) == 4 * told.sampled
    assert told.dropped.keys() & {"truncated", "short"}
    assert msgspec.json.decode(run.generation.read_bytes(), type=type(told)) == told
    again = written(tmp_path, fail_after=0)  # asked for a single path, it would raise
    assert (again.new_drafts, again.tokens) == (0, 0)
    assert figures(again) == figures(told)
    # the result is an ordinary question file, whose vote keeps the same
    found = read_questions(str(run.generated))
    assert len(found) == 6
    assert all(q.answer is None and q.id.startswith("gen-") for q in found)
    first = {q.question for q in found}
    assert first <= {invented(n) for n in range(100)}
    voted(tmp_path, min_share=told.min_share, min_votes=told.min_votes)
    assert {e.question_id for e in examples_of(run)} == {q.id for q in found}
    assert f"--min-share {told.min_share:g} --min-votes {told.min_votes}" in next_step(told, "r")
    written(tmp_path / "b", exams={"test.jsonl": found})  # nothing like those is kept
    second = {q.question for q in read_questions(str(RunDir(tmp_path / "b").generated))}
    assert second and not first & second


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 120))
@hypothesis(max_examples=10)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives, torn):
    with tempfile.TemporaryDirectory() as folder:
        root, whole = File(folder) / "lives", File(folder) / "whole"
        expected = written(whole)
        for fail_after in lives:
            interrupted([fail_after], lambda n: written(root, fail_after=n))
            tear(RunDir(root).drafts, torn)
        assert figures(written(root)) == figures(expected)
        assert drafts_of(root) == drafts_of(whole)
        assert by_key(root) == by_key(whole)
        for name in ("generated.jsonl", "questions.jsonl", "seeds.jsonl"):
            assert (root / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("first", [{}, {"number": 2, "min_share": 0.25, "threads": 3}])
def test_more_questions_extend_and_fewer_take_nothing_away(tmp_path, first):
    many, (whole, parts) = replace(CONFIG, number=14), (tmp_path / "whole", tmp_path / "parts")
    written(whole, many)
    written(parts, replace(CONFIG, **first))
    written(parts, many)
    assert RunDir(parts).generated.read_bytes() == RunDir(whole).generated.read_bytes()
    kept = drafts_of(parts)
    assert written(parts, replace(CONFIG, number=2)).kept == 14
    written(parts, replace(CONFIG, paths=6))
    assert drafts_of(parts).items() >= kept.items()


def test_only_the_seeds_are_read_and_their_answers_stay_outside(tmp_path):
    """What else the file holds decides nothing and is written nowhere."""
    unseen = [
        Question(id=f"u{n}", question=f"Unseen {n}: what is 3 * {n}?", answer="g0ld")
        for n in range(40)
    ]
    configs = [replace(CONFIG, seeds=5, seed=seed) for seed in (0, 0, 1)]
    picked = [stage.pick_seeds([*SEEDS, *unseen], config, "q.jsonl") for config in configs]
    assert picked[0] == picked[1] != picked[2] and len(picked[0]) == 5
    written(tmp_path, configs[0], seeds=picked[0])
    everything, ids = b"".join(tree(tmp_path).values()), {q.id for q in picked[0]}
    assert all(q.question.encode() not in everything for q in unseen if q.id not in ids)
    assert b"g0ld" not in everything


def test_a_model_that_repeats_the_seeds_or_doubts_ends_soon_and_says_so(tmp_path):
    parrot = defaultdict(lambda: [f" {SEEDS[0].question}\nA: 4."])
    told = written(tmp_path / "a", replace(CONFIG, number=500), author=parrot)
    assert (told.kept, told.ended, told.drafts) == (0, "no new questions", 500)
    assert told.dropped == {"a seed": 500}
    assert "500 of 500 drafts repeat a seed" in told.warnings[0]
    assert RunDir(tmp_path / "a").generated.read_bytes() == b""
    told = written(tmp_path / "b", author=Author(doubts=True))
    assert (told.kept, told.ended, told.drafts) == (0, "effort", 60)
    assert told.rejected == {"tie": told.sampled}
    assert "--min-share" in stage.nothing_kept(RunDir("r"), told).hint
    # few answers are an alarm, but not where there are few to choose from
    config = replace(CONFIG, number=20)
    assert "100% of the questions have one answer, '5'" in written(tmp_path / "c", config).warnings
    assert written(tmp_path / "d", config, task=replace(TASK, chance=0.5)).warnings == ()


def test_a_folder_of_other_paths_is_left_alone(tmp_path):
    RunDir(tmp_path).paths.write_text("{}\n")
    with pytest.raises(LmsiError, match="holds the paths of other questions"):
        written(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["paths.jsonl"]


def test_seeds_that_do_not_fit_are_left_out(tmp_path):
    """The scripted engine has a token per byte and a context of 4096."""
    long = Question(id="long", question="Tom has 3 pens. " * 250 + "How many pens?")
    more = [Question(id=f"m{n}", question=f"Eva has {n} cups. How many?") for n in range(2, 5)]
    assert written(tmp_path, CONFIG, seeds=[*SEEDS, *more, long]).kept == 6
    assert "long" not in {s for d in drafts_of(tmp_path).values() for s in d.shown}


# -- exemplars -------------------------------------------------------------------------------------


SEED = Question(id="s", question=" What is 6 * 7?\r\n")
LOW = [" 1 + 1 = 2. The answer is 2.", " 1 + 2 = 3. The answer is 3."]
THREE = [*LOW, " 2 + 1 = 3. The answer is 3.", " 2 + 2 = 4. The answer is 4.", " 5. So 5."]
BARE, SOUND = " The answer is 42.", " 6 * 7 = 42. The answer is 42."
TWICE = " The answer is 5 or so. 6 * 7 = 42. The answer is 42."
BROKEN = " 6 * 7 = 42.\n\nSo it is. The answer is 42."
RANKED = [
    " 7 * 6 = 43. The answer is 42.",  # refuted: does not vote
    " Just because. The answer is 42.",  # nothing to check
    SOUND,
    " 6 * 7 = 42, and 42 it is, as anybody can see at once. The answer is 42.",
    " 6 * 7 = 42, so there. The answer is 42.",  # sound, and near the usual length
    " 6 * 8 = 48. The answer is 48.",
]


@pytest.mark.parametrize(
    ("texts", "settings", "found"),
    [
        (RANKED, {}, ("6 * 7 = 42, so there.", 0.8)),
        (LOW, {}, "undecided"),
        (THREE, {}, "below the share"),
        (THREE, {"min_share": 0.4}, ("1 + 2 = 3.", 0.4)),
        ([BARE, BARE], {}, "no fit rationale"),
        ([BARE, SOUND, TWICE], {}, ("6 * 7 = 42.", 1)),
        ([BROKEN], {}, ("6 * 7 = 42.\nSo it is.", 1)),  # a blank line would end an exemplar
        ([" 6 * 7 = 43. The answer is 43."], {"paths": 1}, ("6 * 7 = 43.", 1)),  # the greedy path
    ],
)
def test_a_seed_is_shown_by_the_soundest_path_that_may_stand_in_a_task(texts, settings, found):
    answers = [text.rstrip(".").split()[-1] for text in texts]
    paths = [
        path(i, answer, text, num_generated_tokens=len(text))
        for i, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    config = ExemplarsConfig(**settings)
    chosen = choose(SEED, paths, TASK, config)
    if not isinstance(found, str):
        made, share = chosen
        chosen = made.rationale, share
        assert made.question == "What is 6 * 7?"
    assert chosen == found
    assert (config.sampling().temperature == 0) is (config.paths == 1)


SUMS = [Question(id=f"s{i}", question=f"What is {i} + {i}?") for i in range(9)]
RIGHT = {q.id: [f" {i} + {i} = {2 * i}. The answer is {2 * i}."] for i, q in enumerate(SUMS)}


def made(root, script=RIGHT, out="e.toml", seeds=SUMS, **settings):
    """The summary, and the file without its name."""
    config = ExemplarsConfig(**{"shots": 2, "paths": 2, **settings})
    run, drawing = RunDir(root / "run"), config.sampling()
    sampling.bind(run, drawing, IDENTITY)
    sampling.sample(seeds, ScriptedEngine(script), TASK, drawing, run, Silent())
    summary = write_exemplars(run, seeds, TASK, config, root / out)
    return summary, (root / out).read_text().replace(f'"{out.removesuffix(".toml")}"', "")


def test_the_file_is_a_sound_task_the_same_at_each_call_and_another_for_another_seed(tmp_path):
    """No gold answer takes part, nor do paths in the folder that were not asked for."""
    script = {**RIGHT, "s0": [RIGHT["s0"][0]] * 2 + [" 1. The answer is 1."] * 6}
    summary, first = made(tmp_path, script, shots=4, templates=2)
    task = load_task(str(tmp_path / "e.toml"))
    shown = {e.question for t in task.templates for e in t.exemplars}
    assert [len(t.exemplars) for t in task.templates] == [4, 4] and len(shown) == 8
    assert (task.name, task.kind, task.trigger) == ("e", TASK.kind, TASK.trigger)
    assert (summary.seeds, summary.left_out, summary.share) == (9, {}, 1.0)
    assert first.startswith("# Written by `lmsi exemplars`")
    made(tmp_path, script, "more.toml", paths=8, min_share=0.0)
    gold = [replace(q, answer="99") for q in SUMS]
    again = made(tmp_path, script, "again.toml", gold, shots=4, templates=2)
    assert again == (replace(summary, file=str(tmp_path / "again.toml")), first)
    assert len(by_key(tmp_path / "run")) == 9 * 8
    assert made(tmp_path / "other", script, shots=4, templates=2, seed=1)[1] != first


def test_too_few_agreeing_seeds_are_one_clear_line_and_no_file(tmp_path):
    few = {**RIGHT, **{f"s{i}": LOW for i in range(4)}}
    with pytest.raises(LmsiError, match=r"5 seeds make .* 3 templates of 2 need 6 \(4 undecided\)"):
        made(tmp_path, few, templates=3)
    assert not (tmp_path / "e.toml").exists()
