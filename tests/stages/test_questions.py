"""Generated questions: nothing drawn twice, nothing unseen read, and `lmsi vote` keeps the same."""

import contextlib
import hashlib
import tempfile
from pathlib import Path as File

import msgspec
import pytest
from builders import tree
from commands import by_key
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from stage_helpers import IDENTITY, TASK, invented

from lmsi_cli.cli.questions import generation_sheets, next_step
from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.generation import Draft
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, Silent, TrainExample
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages import questions as stage
from lmsi_cli.stages import sample as sampling
from lmsi_cli.stages.asking import Asking
from lmsi_cli.stages.pipeline import Drawing
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.tasks.readers import read_questions
from lmsi_cli.tasks.wording import Wording
from tests.scripted import ScriptedEngine

SEEDS = [
    Question(id=f"s{n}", question=f"{name} has {n + 2} pens and finds {n}. How many pens?")
    for n, name in enumerate(["Tom", "Ida", "Max"])
]


def number_of(text, below):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % below


class Author(dict):
    """Writes a question for every prompt, now and then a bad one, and is sure of some answers."""

    def __missing__(self, key):
        if not key.isdigit():  # a question: one in three is voted on with confidence
            sure = number_of(key, 3) == 0
            return [" The answer is 5."] * 4 if sure else [f" The answer is {n}." for n in range(4)]
        first = number_of(key, 100)
        bad = [" Tom has 3 pens and", " Because.\nA: 3."][number_of(key, 2)]
        good = [f" {invented((first + more) % 100)}\nA: no." for more in (0, 37, 59, 83)]
        return [*good[:3], bad] if number_of(key, 3) == 0 else good


CONFIG = stage.QuestionsConfig(seeds=3, paths=4, number=6)


def written(root, config=CONFIG, fail_after=None, author=None, **given):
    """One call of the stage, as the command makes it; an interrupt is let out."""
    run, task, exams = RunDir(root), given.get("task", TASK), given.get("exams", {})
    engine = ScriptedEngine(Author() if author is None else author, fail_after)
    config = stage.bind(run, config, IDENTITY)
    paths = SampleConfig(paths=config.paths)
    sampling.bind(run, paths, IDENTITY)
    asking = Asking(task, paths, Wording(name="plain", chat=False))
    drawing = Drawing(engine, asking, IDENTITY, run, Silent())
    seeds = given.get("seeds", SEEDS)
    return stage.Generator(seeds, exams, config, drawing).generate()


def drafts_of(root):
    return {(d.prompt, d.path): d for d in read_records(RunDir(root).drafts, Draft)}


def figures(told):
    """All of a record that does not depend on how the work was cut up."""
    return msgspec.structs.replace(told, seconds=0.0, tokens=0, new_drafts=0)


def test_the_counts_add_up_and_a_finished_generation_draws_nothing(tmp_path):
    told = written(tmp_path)
    assert (told.kept, told.ended) == (6, "enough")
    assert told.drafts == len(drafts_of(tmp_path)) == told.candidates + sum(told.dropped.values())
    assert told.sampled == told.kept + sum(told.rejected.values())
    assert len(by_key(tmp_path)) == 4 * told.sampled
    assert told.dropped.keys() & {"truncated", "short"}
    assert [s.title for s in generation_sheets(told)] == ["questions", "dropped"]
    stored = msgspec.json.decode(RunDir(tmp_path).generation.read_bytes(), type=type(told))
    assert stored == told
    again = written(tmp_path, fail_after=0)  # asked for a single path, it would raise
    assert (again.new_drafts, again.tokens) == (0, 0)
    assert figures(again) == figures(told)


def test_the_result_is_an_ordinary_question_file_whose_vote_keeps_the_same(tmp_path):
    told, run = written(tmp_path), RunDir(tmp_path)
    found = read_questions(str(run.generated))
    assert len(found) == 6
    assert all(q.answer is None and q.id.startswith("gen-") for q in found)
    assert {q.question for q in found} <= {invented(n) for n in range(100)}
    vote_run(run, TASK, VoteConfig(min_share=told.min_share, min_votes=told.min_votes))
    assert {e.question_id for e in read_records(run.train, TrainExample)} == {q.id for q in found}
    assert f"--min-share {told.min_share:g} --min-votes {told.min_votes}" in next_step(told, "r")


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 120))
@hypothesis(max_examples=10)
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(lives, tear):
    with tempfile.TemporaryDirectory() as folder:
        root, whole = File(folder) / "lives", File(folder) / "whole"
        expected = written(whole)
        for fail_after in lives:
            with contextlib.suppress(KeyboardInterrupt):
                written(root, fail_after=fail_after)
            file = RunDir(root).drafts
            if file.exists():  # a kill tears one line at most
                data = file.read_bytes()
                last = data[: len(data) - 1].rfind(b"\n") + 1
                file.write_bytes(data[: max(last, len(data) - tear)])
        assert figures(written(root)) == figures(expected)
        assert drafts_of(root) == drafts_of(whole)
        assert by_key(root) == by_key(whole)
        for name in ("generated.jsonl", "questions.jsonl", "seeds.jsonl"):
            assert (root / name).read_bytes() == (whole / name).read_bytes()


def test_more_questions_extend_and_fewer_take_nothing_away(tmp_path):
    written(tmp_path / "whole", msgspec.structs.replace(CONFIG, number=14))
    written(tmp_path / "parts")
    first = RunDir(tmp_path / "parts").generated.read_bytes()
    written(tmp_path / "parts", msgspec.structs.replace(CONFIG, number=14))
    whole, parts = (RunDir(tmp_path / name).generated.read_bytes() for name in ("whole", "parts"))
    assert parts == whole
    assert parts.startswith(first)
    assert written(tmp_path / "parts", msgspec.structs.replace(CONFIG, number=2)).kept == 14
    assert RunDir(tmp_path / "parts").generated.read_bytes() == whole


def test_only_the_seeds_are_read_and_their_answers_stay_outside(tmp_path):
    """What else the file holds decides nothing and is written nowhere."""
    unseen = [
        Question(id=f"u{n}", question=f"Unseen {n}: what is 3 * {n}?", answer="g0ld")
        for n in range(40)
    ]
    configs = [msgspec.structs.replace(CONFIG, seeds=5, seed=seed) for seed in (0, 0, 1)]
    picked = [stage.pick_seeds([*SEEDS, *unseen], config, "q.jsonl") for config in configs]
    assert picked[0] == picked[1] != picked[2] and len(picked[0]) == 5
    written(tmp_path, configs[0], seeds=picked[0])
    everything, ids = b"".join(tree(tmp_path).values()), {q.id for q in picked[0]}
    assert all(q.question.encode() not in everything for q in unseen if q.id not in ids)
    assert b"g0ld" not in everything


def test_nothing_like_an_excluded_question_is_kept(tmp_path):
    written(tmp_path / "a")
    first = {q.question for q in read_questions(str(RunDir(tmp_path / "a").generated))}
    exams = {"test.jsonl": [Question(id="t", question=text) for text in first]}
    written(tmp_path / "b", exams=exams)
    second = {q.question for q in read_questions(str(RunDir(tmp_path / "b").generated))}
    assert second and not first & second


class Parrot(Author):
    """Says the seeds again."""

    def __missing__(self, key):
        return [f" {SEEDS[number_of(key, 3)].question}\nA: 4."]


def test_a_model_that_repeats_the_seeds_ends_soon_and_says_so(tmp_path):
    told = written(tmp_path, msgspec.structs.replace(CONFIG, number=500), author=Parrot())
    assert (told.kept, told.ended, told.drafts) == (0, "no new questions", 500)
    assert told.dropped == {"a seed": 500}
    assert "500 of 500 drafts repeat a seed" in told.warnings[0]
    assert "500 drafts; most often (500): a seed" in str(stage.nothing_kept(RunDir("r"), told))
    assert RunDir(tmp_path).generated.read_bytes() == b""


class Doubter(Author):
    """Writes well and is sure of nothing."""

    def __missing__(self, key):
        said = Author.__missing__(self, key)
        return said if key.isdigit() else [f" The answer is {n}." for n in range(4)]


def test_the_effort_is_bounded_and_its_end_is_told(tmp_path):
    told = written(tmp_path, CONFIG, author=Doubter())
    assert (told.kept, told.ended, told.drafts) == (0, "effort", 60)
    assert told.rejected == {"tie": told.sampled}
    assert "--min-share" in stage.nothing_kept(RunDir(tmp_path), told).hint


def test_few_answers_are_an_alarm_but_not_where_there_are_few_to_choose_from(tmp_path):
    config = msgspec.structs.replace(CONFIG, number=20)
    assert "100% of the questions have one answer, '5'" in written(tmp_path / "a", config).warnings
    task = msgspec.structs.replace(TASK, chance=0.5)
    assert written(tmp_path / "b", config, task=task).warnings == ()


@pytest.mark.parametrize("changes", [{"min_share": 0.75, "threads": 3}, {"paths": 6}])
def test_what_changes_no_draft_may_change(tmp_path, changes):
    written(tmp_path)
    kept = drafts_of(tmp_path)
    written(tmp_path, msgspec.structs.replace(CONFIG, **changes))
    assert drafts_of(tmp_path).items() >= kept.items()


def test_a_folder_of_other_paths_is_left_alone(tmp_path):
    run = RunDir(tmp_path)
    run.paths.write_text("{}\n")
    with pytest.raises(LmsiError, match="holds the paths of other questions"):
        written(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["paths.jsonl"]


def test_prompts_that_do_not_fit_are_told_and_left_out(tmp_path):
    """The scripted engine has a token per byte and a context of 4096."""
    long = Question(id="long", question="Tom has 3 pens. " * 250 + "How many pens?")
    more = [Question(id=f"m{n}", question=f"Eva has {n} cups. How many?") for n in range(2, 5)]
    assert written(tmp_path / "some", CONFIG, seeds=[*SEEDS, *more, long]).kept == 6
    assert "long" not in {s for d in drafts_of(tmp_path / "some").values() for s in d.shown}
    with pytest.raises(LmsiError, match=r"like long\): prompt of 4021 tokens"):
        written(tmp_path / "none", CONFIG, seeds=[long])
