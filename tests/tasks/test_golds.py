"""Questions against their task: what cannot be answered or marked is told before work begins."""

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.tasks.golds import check_options, gold_answers

CHOICE = Task(name="c", kind="choice", exemplars=())
GOOD = Question(id="a", question="Which?\n(A) sand\n(B) sea", answer="(b)")
BARE = Question(id="b", question="Which? sand, or sea", answer="B")


def test_answers_are_spelled_by_the_task():
    assert gold_answers([GOOD], CHOICE) == {"a": "B"}
    percent = Task(name="p", kind="number", percent=True, exemplars=())
    half = Question(id="h", question="?", answer="50%")
    assert gold_answers([half], percent) == {"h": "0.5"}
    assert gold_answers([half], Task(name="n", kind="number", exemplars=())) == {"h": "50"}


@pytest.mark.parametrize("check", [check_options, gold_answers])
def test_choices_without_letters(check):
    with pytest.raises(
        LmsiError, match=r"question 'b' lists no options.*\(1 of 2 questions\)"
    ) as e:
        check([GOOD, BARE], CHOICE)
    assert "(A) ..., (B) ..." in e.value.hint
    check_options([BARE], Task(name="n", kind="number", exemplars=()))


def test_an_answer_that_is_no_option():
    beyond = Question(id="c", question=GOOD.question, answer="C")
    with pytest.raises(LmsiError, match="question 'c': its answer 'C' is not a choice"):
        gold_answers([beyond], CHOICE)
