"""Where an answer sentence ends, while a text still grows, and where another question begins."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_golden import REPLIES

from lmsi_cli.answers import Asked, answer_end, before_run_on, extract, next_turn
from lmsi_cli.thinking import answer_part, answer_start

TRIGGER = "The answer is"


def grown(text, begins=0):
    """Where sampling would stop, asked after every token; None if nowhere.

    A space belongs to the letters behind it, as in most vocabularies, but not to a digit.
    """
    tokens = [m.end() for m in re.finditer(r" ?[A-Za-z]+|\s|\S", text) if m.end() >= begins]
    ends = (answer_end(text[:n], TRIGGER, begins) for n in tokens)
    return next((end for end in ends if end is not None), None)


GOES_ON = re.compile("answer", re.IGNORECASE)  # a text that corrects its first answer sentence
ANSWERED = [c for c in REPLIES if c["expected"] is not None and c["kind"] != "latex"]


@pytest.mark.parametrize("case", ANSWERED, ids=[case["source"] for case in ANSWERED])
def test_sampling_never_stops_inside_an_answer(case):
    """The text up to the stop says what its first answer sentence says, and no part of it."""
    text = case["text"]
    end = grown(text + "\n", answer_start(text) or 0)
    if end is not None and not GOES_ON.search(text, end):
        asked = Asked(tuple(case.get("choices", ())))
        found = extract(answer_part(text[:end]), case["kind"], asked=asked)
        assert found and found.value == case["expected"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" The answer is", None),
        (" The answer is 42.", None),
        (" The answer is 42. ", " The answer is 42."),
        (" The answer is 42\n", " The answer is 42"),
        (" The answer is 3.5", None),
        (" The answer is 3.5. So", " The answer is 3.5."),
        (" The answer is\n\n42.\n", " The answer is\n\n42."),
        (" The answer is 1. The answer is 2. ", " The answer is 1."),
        (" The answer is 42.\nQ: 3.", " The answer is 42."),
        (" The answer is\nQ: 3. ", None),
        (" the ANSWER is 42! So", " the ANSWER is 42!"),
        (" The answer is 5! ", None),  # or is it 5! = 120?
        (" The answer is 5! = 120. So", " The answer is 5! = 120."),
        (" 6 * 7 = 42. So", None),
        (" The answer is U.S. Grant. ", " The answer is U.S. Grant."),
        (" The answer is B. ", " The answer is B."),
        (" The answer is No. ", None),  # or is it No. 7?
        (" The answer is No. So", " The answer is No."),
        (" The answer is Rs. 500. So", " The answer is Rs. 500."),
        (" The answer is approx. 42 km. So", " The answer is approx. 42 km."),
        (" The answer is No.\n", " The answer is No."),
        (" The answer is Jan. 5, 2001. It", " The answer is Jan. 5, 2001."),
        (" The answer is J. R. R. Tolkien. He", " The answer is J. R. R. Tolkien."),
        (" The answer is the U.S. So it", " The answer is the U.S."),
        (" The answer is 5 ft. 6 in. So", " The answer is 5 ft. 6 in."),
        (" The answer is... 42. So", " The answer is... 42."),
        (" The answer is as follows:\n42\n", " The answer is as follows:\n42"),
        (" The answer is:\n1. Ann\n2. Ben\n\nSo it is", " The answer is:\n1. Ann\n2. Ben"),
        (" The answer is:\n- 42 pens\nThat is", " The answer is:\n- 42 pens"),
        (" The answer is:\n1.", None),
        (" The answer is U.S. A", None),
    ],
)
def test_where_an_answer_sentence_ends(text, kept):
    end = grown(text)
    assert (None if end is None else text[:end]) == kept


@given(st.integers(-(10**12), 10**12), st.sampled_from([" So", "\n", "\n\nQ: "]))
def test_the_end_grows_with_the_text(number, after):
    """Token by token the end is found once, at the same place, and never inside the number."""
    sentence = f" Half is 17. {TRIGGER} {number:,}."
    text = sentence + after
    ends = {answer_end(text[:n], TRIGGER) for n in range(len(text) + 1)}
    assert ends == {None, len(sentence)}
    assert answer_end(text, TRIGGER, start=12) == len(sentence)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It is 5.\nUser: And", "It is 5."),
        ("It is 5.\n\n### Instruction:\nAdd", "It is 5.\n"),
        ("It is 5.\n### Question 2\n", "It is 5."),
        ("It is 5.\n### Questions that remain\n", None),
        ("It is 5.\nInput: 7", None),
        ("Sure! Here is how:\n\nQuestion: Tom has 5", None),
        ("Question: Tom has 5.\nAnswer: 5", None),
        ("Question: Tom has 5.\nAnswer: 5\nQuestion: Ann", "Question: Tom has 5.\nAnswer: 5"),
        ("\nQ: Tom has", ""),
    ],
)
def test_another_question_or_speaker(text, kept):
    at = next_turn(text)
    assert (None if at is None else text[:at]) == kept
    assert before_run_on(text) == text if at is None else before_run_on(text) == kept


def test_a_heading_counts_once_its_line_has_ended_or_the_text_has():
    text = "It is 5.\n### Question 2"
    assert next_turn(text) is None
    assert next_turn(text + "\n") == len("It is 5.")
    assert before_run_on(text) == "It is 5."


def test_a_turn_is_looked_for_from_any_start_in_a_reply_behind_its_thinking():
    thought, text = "<think>\nQ: so\n</think>", "Sure:\nQuestion: 5?\nIt is 5.\nUser: 7"
    assert next_turn(text, text.index("It")) == next_turn(text) == text.index("\nUser")
    begins = len(thought)
    assert next_turn(thought + text, begins, begins) == begins + text.index("\nUser")
