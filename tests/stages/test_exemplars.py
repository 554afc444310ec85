"""Exemplars by vote: which seeds, which path, and a task file that can be used."""

import msgspec
import pytest
from stage_helpers import IDENTITY, TASK

from lmsi_cli.config import ExemplarsConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Path, Question, Silent
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.exemplars import choose, write_exemplars
from lmsi_cli.stages.sample import bind, sample
from lmsi_cli.tasks.loader import load_task
from tests.scripted import ScriptedEngine

SEED = Question(id="s", question=" What is 6 * 7?\r\n")


def paths(*texts, answer="42", reason="answer"):
    """One path a text; the answer is the one that the text ends with, if it says another."""
    said = [t.rstrip(".").split()[-1] for t in texts]
    return [
        Path(question_id="s", path=i, seed=0, text=t, num_generated_tokens=len(t), logprob=-1.0,
             stop_reason=reason, predicted_answer=a if a.isdecimal() else answer,
             extract_rule="marker")
        for i, (t, a) in enumerate(zip(texts, said, strict=True))
    ]  # fmt: skip


def chosen(*texts, **settings):
    return choose(SEED, paths(*texts), TASK, ExemplarsConfig(**settings))


def test_the_soundest_path_of_the_winner_near_its_usual_length_is_taken():
    made, share = chosen(
        " 7 * 6 = 43. The answer is 42.",  # refuted: does not vote
        " Just because. The answer is 42.",  # nothing to check
        " 6 * 7 = 42. The answer is 42.",
        " 6 * 7 = 42, and 42 it is, as anybody can see at once. The answer is 42.",
        " 6 * 7 = 42, so there. The answer is 42.",
        " 6 * 8 = 48. The answer is 48.",
    )
    assert made.rationale == "6 * 7 = 42, so there."
    assert (made.question, made.answer) == ("What is 6 * 7?", "42")
    assert share == 0.8


def test_seeds_without_agreement_make_none():
    low = [" 1 + 1 = 2. The answer is 2.", " 1 + 2 = 3. The answer is 3."]
    assert chosen(*low) == "undecided"
    three = [*low, " 2 + 1 = 3. The answer is 3.", " 2 + 2 = 4. The answer is 4.", " 5. So 5."]
    assert chosen(*three) == "below the share"
    assert chosen(*three, min_share=0.4)[1] == 0.4


def test_a_path_that_may_not_stand_in_a_task_gives_way_to_the_next():
    twice = " The answer is 5 or so. 6 * 7 = 42. The answer is 42."
    assert chosen(" The answer is 42.", " The answer is 42.") == "no fit rationale"
    found, _ = chosen(" The answer is 42.", " 6 * 7 = 42. The answer is 42.", twice)
    assert found.rationale == "6 * 7 = 42."
    # a blank line would end an exemplar
    found, _ = chosen(" 6 * 7 = 42.\n\nSo it is. The answer is 42.")
    assert found.rationale == "6 * 7 = 42.\nSo it is."


def test_the_greedy_path_is_taken_as_it_is():
    wrong = " 6 * 7 = 43. The answer is 43."
    assert chosen(wrong, paths=1)[0].rationale == "6 * 7 = 43."
    assert ExemplarsConfig(paths=1).sampling().temperature == 0
    assert ExemplarsConfig(paths=2).sampling().temperature == 0.7


SEEDS = [Question(id=f"s{i}", question=f"What is {i} + {i}?") for i in range(9)]
RIGHT = {q.id: [f" {i} + {i} = {2 * i}. The answer is {2 * i}."] for i, q in enumerate(SEEDS)}
SPLIT = [" 1 + 1 = 2. The answer is 2.", " 1 + 2 = 3. The answer is 3."]


def made(root, script=RIGHT, out="e.toml", **settings):
    config = ExemplarsConfig(**{"shots": 2, "paths": 2, **settings})
    run, drawing = RunDir(root / "run"), config.sampling()
    bind(run, drawing, IDENTITY)
    sample(SEEDS, ScriptedEngine(script), TASK, drawing, run, Silent())
    return write_exemplars(run, SEEDS, TASK, config, root / out)


def test_the_file_is_a_sound_task_of_so_many_templates(tmp_path):
    summary = made(tmp_path, templates=3)
    task = load_task(str(tmp_path / "e.toml"))
    assert [len(t.exemplars) for t in task.templates] == [2, 2, 2]
    shown = [e.question for t in task.templates for e in t.exemplars]
    assert len(set(shown)) == 6  # each seed once
    assert (task.name, task.kind, task.trigger) == ("e", TASK.kind, TASK.trigger)
    assert (summary.seeds, summary.left_out, summary.share) == (9, {}, 1.0)
    assert (tmp_path / "e.toml").read_text().startswith("# Written by `lmsi exemplars`")


def test_the_same_call_writes_the_same_file_and_another_seed_another_one(tmp_path):
    made(tmp_path, templates=2)
    made(tmp_path, templates=2, out="again.toml")
    one, again = ((tmp_path / n).read_text() for n in ("e.toml", "again.toml"))
    assert one.replace('"e"', '"again"') == again
    made(tmp_path / "other", templates=2, seed=1)
    other = load_task(str(tmp_path / "other" / "e.toml"))
    assert other.templates != load_task(str(tmp_path / "e.toml")).templates


def test_more_paths_in_the_folder_than_asked_for_change_nothing(tmp_path):
    made(tmp_path, {**RIGHT, "s0": [RIGHT["s0"][0]] * 2 + [" 1. The answer is 1."] * 6}, shots=9)
    before = (tmp_path / "e.toml").read_text()
    more = {**RIGHT, "s0": [RIGHT["s0"][0]] * 2 + [" 1. The answer is 1."] * 6}
    made(tmp_path, more, shots=9, paths=8, out="more.toml", min_share=0.0)
    made(tmp_path, more, shots=9, out="again.toml")
    assert (tmp_path / "again.toml").read_text() == before.replace('"e"', '"again"')


def test_too_few_agreeing_seeds_are_one_clear_line_and_no_file(tmp_path):
    few = {**RIGHT, **{f"s{i}": SPLIT for i in range(4)}}
    with pytest.raises(LmsiError, match=r"5 seeds make .* 3 templates of 2 need 6 \(4 undecided\)"):
        made(tmp_path, few, templates=3)
    assert not (tmp_path / "e.toml").exists()


def test_paths_are_all_there_is_to_read(tmp_path):
    """No gold answer takes part: seeds with one make the same file; it is a plain task."""
    made(tmp_path)
    before = (tmp_path / "e.toml").read_text()
    task = load_task(str(tmp_path / "e.toml"))
    assert task.templates == () and len(task.exemplars) == 2
    gold = [msgspec.structs.replace(q, answer="99") for q in SEEDS]
    run = RunDir(tmp_path / "run")
    write_exemplars(run, gold, TASK, ExemplarsConfig(shots=2, paths=2), tmp_path / "e.toml")
    assert (tmp_path / "e.toml").read_text() == before
    assert len(list(read_records(run.paths, Path))) == 18
