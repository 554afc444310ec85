"""Exemplars by vote: which seeds, which path, and a task file that can be used."""

import msgspec
import pytest
from builders import path
from commands import by_key
from stage_helpers import IDENTITY, TASK

from lmsi_cli.config import ExemplarsConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question, Silent
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.exemplars import choose, write_exemplars
from lmsi_cli.stages.sample import bind, sample
from lmsi_cli.tasks.loader import load_task
from tests.scripted import ScriptedEngine

SEED = Question(id="s", question=" What is 6 * 7?\r\n")


def paths(*texts):
    """One path a text; the answer is the one that the text ends with, or else 42."""
    said = [t.rstrip(".").split()[-1] for t in texts]
    answers = [a if a.isdecimal() else "42" for a in said]
    return [
        path(i, a, t, num_generated_tokens=len(t))
        for i, (t, a) in enumerate(zip(texts, answers, strict=True))
    ]


def test_the_soundest_path_of_the_winner_near_its_usual_length_is_taken():
    said = paths(
        " 7 * 6 = 43. The answer is 42.",  # refuted: does not vote
        " Just because. The answer is 42.",  # nothing to check
        " 6 * 7 = 42. The answer is 42.",
        " 6 * 7 = 42, and 42 it is, as anybody can see at once. The answer is 42.",
        " 6 * 7 = 42, so there. The answer is 42.",
        " 6 * 8 = 48. The answer is 48.",
    )
    made, share = choose(SEED, said, TASK, ExemplarsConfig())
    assert made.rationale == "6 * 7 = 42, so there."
    assert (made.question, made.answer) == ("What is 6 * 7?", "42")
    assert share == 0.8


LOW = [" 1 + 1 = 2. The answer is 2.", " 1 + 2 = 3. The answer is 3."]
THREE = [*LOW, " 2 + 1 = 3. The answer is 3.", " 2 + 2 = 4. The answer is 4.", " 5. So 5."]
BARE, SOUND = " The answer is 42.", " 6 * 7 = 42. The answer is 42."
TWICE = " The answer is 5 or so. 6 * 7 = 42. The answer is 42."
BROKEN = " 6 * 7 = 42.\n\nSo it is. The answer is 42."


@pytest.mark.parametrize(
    ("texts", "settings", "found"),
    [
        (LOW, {}, "undecided"),
        (THREE, {}, "below the share"),
        (THREE, {"min_share": 0.4}, ["1 + 2 = 3.", "2 + 1 = 3."]),
        ([BARE, BARE], {}, "no fit rationale"),
        ([BARE, SOUND, TWICE], {}, ["6 * 7 = 42."]),
        ([BROKEN], {}, ["6 * 7 = 42.\nSo it is."]),  # a blank line would end an exemplar
        ([" 6 * 7 = 43. The answer is 43."], {"paths": 1}, ["6 * 7 = 43."]),  # the greedy path
    ],
)
def test_a_seed_is_shown_by_a_path_that_may_stand_in_a_task_or_not_at_all(texts, settings, found):
    chosen = choose(SEED, paths(*texts), TASK, ExemplarsConfig(**settings))
    if isinstance(found, str):
        assert chosen == found
    else:
        assert chosen[0].rationale in found


def test_a_single_path_is_greedy():
    assert [ExemplarsConfig(paths=n).sampling().temperature for n in (1, 2)] == [0, 0.7]


SEEDS = [Question(id=f"s{i}", question=f"What is {i} + {i}?") for i in range(9)]
RIGHT = {q.id: [f" {i} + {i} = {2 * i}. The answer is {2 * i}."] for i, q in enumerate(SEEDS)}
SPLIT = [" 1 + 1 = 2. The answer is 2.", " 1 + 2 = 3. The answer is 3."]


def made(root, script=RIGHT, out="e.toml", seeds=SEEDS, **settings):
    config = ExemplarsConfig(**{"shots": 2, "paths": 2, **settings})
    run, drawing = RunDir(root / "run"), config.sampling()
    bind(run, drawing, IDENTITY)
    sample(seeds, ScriptedEngine(script), TASK, drawing, run, Silent())
    return write_exemplars(run, seeds, TASK, config, root / out)


@pytest.mark.parametrize("count", [1, 3])
def test_the_file_is_a_sound_task_of_so_many_templates(tmp_path, count):
    summary = made(tmp_path, templates=count)
    task = load_task(str(tmp_path / "e.toml"))
    assert [len(t.exemplars) for t in task.templates] == ([2] * count if count > 1 else [])
    assert len(task.exemplars) == 2
    shown = [e.question for t in task.templates or [task] for e in t.exemplars]
    assert len(set(shown)) == 2 * count  # each seed once
    assert (task.name, task.kind, task.trigger) == ("e", TASK.kind, TASK.trigger)
    assert (summary.seeds, summary.left_out, summary.share) == (9, {}, 1.0)
    assert (tmp_path / "e.toml").read_text().startswith("# Written by `lmsi exemplars`")


def test_the_same_call_writes_the_same_file_and_another_seed_another_one(tmp_path):
    """No gold answer takes part: questions with one make the same file."""
    gold = [msgspec.structs.replace(q, answer="99") for q in SEEDS]
    made(tmp_path, templates=2)
    made(tmp_path, templates=2, out="again.toml", seeds=gold)
    one, again = ((tmp_path / n).read_text() for n in ("e.toml", "again.toml"))
    assert one.replace('"e"', '"again"') == again
    assert len(by_key(tmp_path / "run")) == 18
    made(tmp_path / "other", templates=2, seed=1)
    other = load_task(str(tmp_path / "other" / "e.toml"))
    assert other.templates != load_task(str(tmp_path / "e.toml")).templates


def test_more_paths_in_the_folder_than_asked_for_change_nothing(tmp_path):
    more = {**RIGHT, "s0": [RIGHT["s0"][0]] * 2 + [" 1. The answer is 1."] * 6}
    made(tmp_path, more, shots=9)
    made(tmp_path, more, shots=9, paths=8, out="more.toml", min_share=0.0)
    made(tmp_path, more, shots=9, out="again.toml")
    one, again = ((tmp_path / n).read_text() for n in ("e.toml", "again.toml"))
    assert one.replace('"e"', '"again"') == again


def test_too_few_agreeing_seeds_are_one_clear_line_and_no_file(tmp_path):
    few = {**RIGHT, **{f"s{i}": SPLIT for i in range(4)}}
    with pytest.raises(LmsiError, match=r"5 seeds make .* 3 templates of 2 need 6 \(4 undecided\)"):
        made(tmp_path, few, templates=3)
    assert not (tmp_path / "e.toml").exists()
