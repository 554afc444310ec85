"""The trial of wordings: how agreement is reckoned, what is picked, and what it may cost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import TASK

from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question, Silent
from lmsi_cli.stages.trial import (
    EACH,
    FEWEST,
    PATHS,
    Tried,
    agreement,
    budget_of,
    hold_trial,
)
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


class Counting(ScriptedEngine):
    """Counts the paths that it is asked for."""

    wanted = 0

    def generate(self, requests, *others):
        self.wanted += sum(len(r.wanted) for r in requests)
        yield from super().generate(requests, *others)


def held(*scripts, questions=QUESTIONS, **config):
    """A trial with a candidate for each script, and the paths that it cost."""
    engine = Counting({f"{n} {q}": texts for n, own in enumerate(scripts)
                       for q, texts in own.items()})  # fmt: skip
    wordings = [Wording(name=f"w{n}", chat=False) for n in range(len(scripts))]
    open_ = [(w, worded(TASK, w)) for w in wordings]
    trial = hold_trial(questions, open_, engine, SampleConfig(**config), Silent())
    return trial, engine.wanted


def test_agreement_is_none_for_constant_answers_and_full_for_perfect_ones():
    assert agreement([["yes"] * 4] * 10) == pytest.approx(0, abs=0.01)
    assert agreement([[str(i)] * 4 for i in range(10)]) == pytest.approx(1)
    draw = random.Random(1)
    assert abs(agreement([[draw.choice("abc") for _ in range(4)] for _ in range(60)])) < 0.1


@pytest.mark.parametrize("worse", [MIXED, SCATTERED, CONSTANT, UNREAD, CUT],
                         ids=["mixed", "scattered", "constant", "unread", "cut off"])  # fmt: skip
def test_the_wording_whose_paths_agree_is_picked_wherever_it_stands(worse):
    for scripts, best in (((AGREED, worse), 0), ((worse, AGREED), 1), ((worse, AGREED, worse), 1)):
        trial, _ = held(*scripts)
        assert trial.best == best
        chosen = trial.tried[best]
        assert chosen.name == f"w{best}"
        assert (chosen.agreement, chosen.parsed, chosen.cut_off) == (pytest.approx(1), 1, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("questions", [FEWEST, 23, 60])
def test_a_trial_of_up_to_four_wordings_costs_no_more_than_its_paths(count, questions):
    trial, wanted = held(*[AGREED] * count, questions=QUESTIONS[:questions])
    assert FEWEST <= trial.questions <= questions
    assert wanted <= PATHS
    assert {t.paths for t in trial.tried} == {trial.questions * EACH}  # all on the same questions


def test_neither_a_question_that_is_skipped_nor_another_wording_lowers_the_budget():
    long = [Question(id="q0", question="What is 0 + 0? " + "Think well. " * 500), *QUESTIONS[1:]]
    assert held(AGREED, UNREAD, questions=long)[0].budget == held(AGREED)[0].budget > 100


def test_the_size_of_the_cache_that_is_set_bounds_the_budget():
    trial, _ = held(CUT, ctx=700)
    assert trial.budget < 700 < held(CUT)[0].budget


def test_if_no_question_fits_the_first_is_named():
    long = [Question(id=f"q{i}", question="Why? " * 2000) for i in range(6)]
    with pytest.raises(LmsiError, match=r"question 'q0'.*any of the 5 others"):
        held(AGREED, AGREED, questions=long)


@given(st.integers(0, 5000), st.floats(0, 1), st.floats(0, 1), st.integers(1, 4096),
       st.integers(1, 40_000))  # fmt: skip
def test_a_budget_is_bounded_by_the_room_and_leaves_whole_paths_whole(
    longest, cut_off, thinking, limit, room
):
    budget = budget_of(figures(min(longest, limit), cut_off, thinking), limit, room)
    assert 1 <= budget <= room
    assert budget >= min(min(longest, limit), room)
    if cut_off > 0.5:  # longer ones are called for
        assert budget > limit or budget == room or thinking > 0


def figures(longest, cut_off, thinking):
    return Tried(
        name="w", prompt="cot-zero", few_shot="turns", paths=20, agreement=0.5, parsed=0.9,
        cut_off=cut_off, thinking=thinking, tokens=longest / 2, longest=longest,
    )  # fmt: skip
