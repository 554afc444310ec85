"""Questions against their task: what cannot be answered or marked is told before work begins."""

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.tasks.loader import check_options, gold_answers

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


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("number", "2-Jan"), ("latex", "Jan-02"), ("number", "1/Jun"), ("number", "Sept-2004")],
)
def test_a_month_is_no_number(kind, answer):
    dated = Question(id="d", question="?", answer=answer)
    with pytest.raises(LmsiError, match=f"question 'd': its answer '{answer}'") as e:
        gold_answers([dated], Task(name="n", kind=kind, exemplars=()))
    assert "format the column as text" in e.value.hint


@pytest.mark.parametrize(
    ("kind", "answer", "gold"),
    [("number", "2 marbles", "2"), ("number", "3 decks", "3"), ("number", "5-foot", "5"),
     ("number", "12 mares", "12"), ("number", "1/2", "0.5"), ("number", "-2", "-2"),
     ("number", "4 apricots", "4"), ("date", "5 May", "--05-05")],
)  # fmt: skip
def test_a_unit_is_no_month_and_a_date_is_an_answer_where_dates_are_asked_for(kind, answer, gold):
    asked = Question(id="u", question="?", answer=answer)
    assert gold_answers([asked], Task(name="n", kind=kind, exemplars=())) == {"u": gold}


def test_an_answer_that_is_no_option():
    beyond = Question(id="c", question=GOOD.question, answer="C")
    with pytest.raises(LmsiError, match="question 'c': its answer 'C'"):
        gold_answers([beyond], CHOICE)
