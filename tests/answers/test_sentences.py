"""Where an answer sentence ends, while a text still grows, and where another question begins."""

import re

import pytest
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
    "marked",  # where sampling stops
    [
        "The answer is", "The answer is 42.", "The answer is 42.| ", "The answer is 42|\n",
        "The answer is 3.5", "The answer is 3.5.| So", "The answer is\n\n42.|\n",
        "The answer is 1.| The answer is 2. ", "The answer is 42.|\nQ: 3.",
        "The answer is\nQ: 3. ", "the ANSWER is 42!| So",
        "The answer is 5! ",  # or is it 5! = 120?
        "The answer is 5! = 120.| So", "6 * 7 = 42. So", "The answer is B.| ",
        "The answer is No. ",  # or is it No. 7?
        "The answer is No.| So", "The answer is No.|\n", "The answer is Rs. 500.| So",
        "The answer is approx. 42 km.| So", "The answer is 5 ft. 6 in.| So",
        "The answer is Jan. 5, 2001.| It", "The answer is J. R. R. Tolkien.| He",
        "The answer is U.S. Grant.| ", "The answer is U.S. A", "The answer is the U.S.| So it",
        "The answer is... 42.| So", "The answer is as follows:\n42|\n", "The answer is:\n1.",
        "The answer is:\n1. Ann\n2. Ben|\n\nSo it is", "The answer is:\n- 42 pens|\nThat is",
    ],
)  # fmt: skip
def test_where_an_answer_sentence_ends(marked):
    kept, stops, rest = marked.partition("|")
    assert grown(f" {kept}{rest}") == (len(kept) + 1 if stops else None)


@pytest.mark.parametrize(
    "marked",  # where another question or speaker begins
    [
        "It is 5.|\nUser: And", "It is 5.\n|\n### Instruction:\nAdd", "|\nQ: Tom has",
        "It is 5.|\n### Question 2\n", "It is 5.\n### Questions that remain\n",
        "It is 5.\nInput: 7", "Sure! Here is how:\n\nQuestion: Tom has 5",
        "Question: Tom has 5.\nAnswer: 5", "Question: Tom has 5.\nAnswer: 5|\nQuestion: Ann",
    ],
)  # fmt: skip
def test_another_question_or_speaker(marked):
    kept, begins, rest = marked.partition("|")
    assert next_turn(kept + rest) == (len(kept) if begins else None)
    assert before_run_on(kept + rest) == kept


def test_a_heading_counts_once_its_line_has_ended_or_the_text_has():
    text = "It is 5.\n### Question 2"
    assert next_turn(text) is None
    assert before_run_on(text) == "It is 5."


def test_a_turn_is_looked_for_from_any_start_in_a_reply_behind_its_thinking():
    thought, text = "<think>\nQ: so\n</think>", "Sure:\nQuestion: 5?\nIt is 5.\nUser: 7"
    assert next_turn(text, text.index("It")) == next_turn(text) == text.index("\nUser")
    begins = len(thought)
    assert next_turn(thought + text, begins, begins) == begins + text.index("\nUser")
