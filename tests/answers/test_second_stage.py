"""The second of two stages: what asks for an answer, and how the answer is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.answers import Asked, extract_second, second_stage, trigger_of

NUMBER = "Therefore, the answer (arabic numerals) is"
FOUR = Asked(choices=("sand", "water", "air", "fire"))
TRIGGERS = [
    ("number", Asked(), NUMBER),
    ("choice", FOUR, "Therefore, among (A) through (D), the answer is"),
    ("choice", Asked(), "Therefore, the final answer is"),
    ("yesno", Asked(), "Therefore, the answer (Yes or No) is"),
    ("date", Asked(), "Therefore, the final answer is"),
]


@pytest.mark.parametrize(("kind", "asked", "told"), TRIGGERS)
def test_the_words_follow_the_kind_and_the_last_option(kind, asked, told):
    assert trigger_of(kind, asked) == told
    assert second_stage(f" Because.\n{told} so", kind).end == len(f" Because.\n{told}")
    assert trigger_of(kind, asked, own=" So it is ") == "So it is"


READ = [
    ("number", Asked(), " 42.", "42"),
    ("number", Asked(), " 7 * 6 = 42.", "42"),
    ("number", Asked(), " forty-two.", "42"),
    ("number", Asked(), " not known.", None),
    ("number", Asked(), " 12, or perhaps 13.", "12"),  # the first item
    ("choice", FOUR, " (B) water.", "B"),
    ("choice", FOUR, " water.", "B"),
    ("choice", FOUR, " (E).", None),
    ("yesno", Asked(), " No, since he has none.", "no"),
    ("text", Asked(), " Paris.", "Paris."),
    ("date", Asked(), " March 4, 2021.", "2021-03-04"),
]


@pytest.mark.parametrize(("kind", "asked", "reply", "value"), READ)
def test_the_first_item_of_the_kind_is_the_answer(kind, asked, reply, value):
    text = f" First 5, then (A), yes.\n{trigger_of(kind, asked)}{reply}"
    found = extract_second(text, kind, asked)
    assert (found and found.value) == value
    if found:
        assert found.rule == "second-stage"
        assert text[found.start : found.end] == found.raw
        assert found.start >= len(text) - len(reply)


def test_a_sentence_of_a_chat_models_own_is_read_behind_its_trigger():
    text = f" Why.\n{NUMBER} Of the 3 boxes, the answer is 42."
    assert extract_second(text).value == "42"


def test_other_texts_have_no_second_stage():
    for text in (" 6 * 7 = 42. The answer is 42.", f" He said: {NUMBER} 42.", ""):
        assert second_stage(text, "number") is None
        assert extract_second(text) is None


@given(st.text(max_size=60), st.integers(-9999, 9999))
def test_whatever_the_rationale_says_the_last_stage_decides(rationale, number):
    text = f" {rationale}\n{NUMBER} 1.\n{NUMBER} {number}."
    assert extract_second(text).value == str(number)
