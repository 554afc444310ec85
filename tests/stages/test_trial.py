"""Before a run: the trial of wordings, what it picks and costs, and what the run would cost."""

import pytest
from msgspec.structs import replace
from stage_helpers import TASK, settled

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.records import Question, Silent
from lmsi_cli.stages import dry_run
from lmsi_cli.stages.sample import requests_of
from lmsi_cli.stages.trial import EACH, FEWEST, PATHS, budget_of, hold_trial
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.wording import Wording, worded
from tests.scripted import ScriptedEngine

QUESTIONS = [Question(id=f"q{i}", question=f"What is {i} + {i}?") for i in range(60)]


def said(answers, ends="."):
    """What a candidate says: the texts of each question's paths."""
    return {q.id: [f" So it is. The answer is {a}{ends}" for a in answers(i)]
            for i, q in enumerate(QUESTIONS)}  # fmt: skip


AGREED = said(lambda i: [2 * i])
MIXED = said(lambda i: [2 * i, 2 * i, 2 * i + 1, 2 * i + 2])
SCATTERED = said(lambda i: [100 * i + k for k in range(EACH)])
CONSTANT = said(lambda i: [7])
UNREAD = {q.id: [" Who knows."] for q in QUESTIONS}
CUT = said(lambda i: [2 * i], ends="")  # the engine calls what has no full stop cut off


def held(*scripts, questions=QUESTIONS, **config):
    """A trial with a candidate for each script."""
    engine = ScriptedEngine({f"{n} {q}": texts for n, own in enumerate(scripts)
                             for q, texts in own.items()})  # fmt: skip
    wordings = [Wording(name=f"w{n}", chat=False) for n in range(len(scripts))]
    open_ = [(w, worded(TASK, w)) for w in wordings]
    return hold_trial(questions, open_, engine, SampleConfig(**config), Silent())


@pytest.mark.parametrize("worse", [MIXED, SCATTERED, CONSTANT, UNREAD, CUT],
                         ids=["mixed", "scattered", "constant", "unread", "cut off"])  # fmt: skip
def test_the_wording_whose_paths_agree_is_picked_wherever_it_stands(worse):
    for scripts, best in (((AGREED, worse), 0), ((worse, AGREED, worse), 1)):
        trial = held(*scripts)
        chosen = trial.tried[trial.best]
        assert (trial.best, chosen.name) == (best, f"w{best}")
        assert (chosen.agreement, chosen.parsed, chosen.cut_off) == (pytest.approx(1), 1, 0)


@pytest.mark.parametrize(("wordings", "questions"), [(1, 60), (2, FEWEST), (3, 23), (4, 60)])
def test_a_trial_costs_no_more_than_its_paths(wordings, questions):
    trial = held(*[AGREED] * wordings, questions=QUESTIONS[:questions])
    assert FEWEST <= trial.questions <= questions
    assert sum(t.paths for t in trial.tried) <= PATHS
    assert {t.paths for t in trial.tried} == {trial.questions * EACH}  # all on the same questions


def test_the_budget_follows_the_cache_that_is_set_and_no_skipped_question_or_other_wording():
    long = [Question(id="q0", question="What is 0 + 0? " + "Think well. " * 500), *QUESTIONS[1:]]
    assert held(AGREED, UNREAD, questions=long).budget == held(AGREED).budget > 100
    assert held(CUT, ctx=700).budget < 700 < held(CUT).budget


@pytest.mark.parametrize(
    ("told", "room", "budget"),
    [
        ({"longest": 500}, 9000, 768),  # half as much again, in steps of 64
        ({"longest": 500}, 600, 600),
        ({"longest": 500, "cut_off": 0.1}, 9000, 1024),  # twice the limit of the trial
        ({"longest": 500, "cut_off": 0.1, "thinking": 0.1}, 9000, 4096),
        ({"longest": 1}, 9000, 128),
    ],
)
def test_a_budget_leaves_whole_paths_whole_within_the_room(told, room, budget):
    assert budget_of(replace(held(AGREED).tried[0], **told), 512, room) == budget


@pytest.mark.model
def test_time_is_tokens_by_speed_and_an_upper_bound_where_no_path_is_done(gguf, monkeypatch):
    task, config = load_task("tinymath"), settled(SampleConfig(threads=1, paths=40, parallel=8))
    text = "Tom has {} apples. Tom gets 7 more. How many has he now?"
    asked = [Question(id=f"q{i}", question=text.format(i)) for i in range(3, 9)]
    with LlamaEngine(gguf, config) as engine:
        requests = requests_of(asked, engine, task, config)
        found = dry_run.estimate(requests, engine, config, task.trigger)
        assert (found.width, found.trial_paths, found.at_most) == (8, 24, False)
        tokens = 6 * 40 * found.tokens_per_path
        assert tokens / found.tokens_s < found.seconds < 1.2 * tokens / found.tokens_s
        assert 5 < found.tokens_per_path < 100
        assert not any(context.raw for context in engine._contexts)
        assert found.cells > 0 and found.cache_bytes > 0
        monkeypatch.setattr(dry_run, "TRIAL_SECONDS", 0.0)
        found = dry_run.estimate(requests, engine, config, task.trigger)
    assert found.at_most and found.trial_paths == 1
    assert found.tokens_per_path > 0.9 * config.max_tokens
