"""Replies as instruct models write them: what is read, and that sampling stops where it can be."""

import json
import re
import time
from pathlib import Path

import pytest

from lmsi_cli.answers import (
    KINDS,
    Asked,
    answer_end,
    before_run_on,
    canonical,
    explain,
    extract,
    extract_second,
    next_turn,
)
from lmsi_cli.thinking import answer_part, answer_start

GROUPS = json.loads((Path(__file__).parent / "data" / "replies.json").read_text())
TRIGGER = "The answer is"
LONG = 20_000  # characters


def ids(groups):
    return [group["about"] for group in groups]


def asked_of(group):
    if group["kind"] == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    return Asked(tuple(group.get("choices", ())))


def read(text, group):
    found = extract(answer_part(text), group["kind"], asked=asked_of(group))
    return found and found.value


@pytest.mark.parametrize("group", GROUPS, ids=ids(GROUPS))
def test_a_reply_is_read_as_a_person_reads_it(group):
    told = {text: read(text, group) for text in group["texts"]}
    assert told == dict.fromkeys(group["texts"], group["expected"])


@pytest.mark.parametrize("group", GROUPS, ids=ids(GROUPS))
def test_what_is_read_stands_where_it_is_said_to_and_one_rule_decides(group):
    asked, kind = asked_of(group), group["kind"]
    for text in map(answer_part, group["texts"]):
        found = extract(text, kind, asked=asked)
        fired = [s for s in explain(text, kind, asked=asked) if s.fired]
        assert len(fired) <= 1
        assert found == (fired[0].found if fired else None)
        if found:
            assert text[found.start : found.end] == found.raw
            assert canonical(found.raw, kind, asked) == found.value


def grown(text, begins=0):
    """Where sampling would stop, asked after every token; None if nowhere.

    A space belongs to the letters behind it, as in most vocabularies, but not to a digit.
    """
    tokens = [m.end() for m in re.finditer(r" ?[A-Za-z]+|\s|\S", text) if m.end() >= begins]
    ends = (answer_end(text[:n], TRIGGER, begins) for n in tokens)
    return next((end for end in ends if end is not None), None)


GOES_ON = re.compile("answer", re.IGNORECASE)  # a text that corrects its first answer sentence
ANSWERED = [g for g in GROUPS if g["expected"] is not None and g["kind"] != "latex"]


@pytest.mark.parametrize("group", ANSWERED, ids=ids(ANSWERED))
def test_sampling_never_stops_inside_an_answer(group):
    """The text up to the stop says what its first answer sentence says, and no part of it."""
    for text in group["texts"]:
        end = grown(text + "\n", answer_start(text) or 0)
        if end is not None and not GOES_ON.search(text, end):
            assert read(text[:end], group) == group["expected"], text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" The answer is Rs. 500. So", " The answer is Rs. 500."),
        (" The answer is approx. 42 km. So", " The answer is approx. 42 km."),
        (" The answer is No. 7. So", " The answer is No. 7."),
        (" The answer is No. So", " The answer is No."),
        (" The answer is No.\n", " The answer is No."),
        (" The answer is Jan. 5, 2001. It", " The answer is Jan. 5, 2001."),
        (" The answer is J. R. R. Tolkien. He", " The answer is J. R. R. Tolkien."),
        (" The answer is the U.S. So it", " The answer is the U.S."),
        (" The answer is the U.S. Army. ", " The answer is the U.S. Army."),
        (" The answer is Acme Inc. The", " The answer is Acme Inc."),
        (" The answer is B. Sand", " The answer is B."),
        (" The answer is 5 ft. 6 in. So", " The answer is 5 ft. 6 in."),
        (" The answer is... 42. So", " The answer is... 42."),
        (" The answer is as follows:\n42\n", " The answer is as follows:\n42"),
        (" The answer is:\n1. Ann\n2. Ben\n\nSo it is", " The answer is:\n1. Ann\n2. Ben"),
        (" The answer is:\n- 42 pens\nThat is", " The answer is:\n- 42 pens"),
        (" The answer is:\n1.", None),
        (" The answer is Rs. ", None),
        (" The answer is U.S. A", None),
    ],
)  # fmt: skip
def test_where_an_answer_sentence_ends(text, kept):
    end = grown(text)
    assert (None if end is None else text[:end]) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It is 5.\nUser: And", "It is 5."),
        ("It is 5.\n\n### Instruction:\nAdd", "It is 5.\n"),
        ("It is 5.\n### Question 2\n", "It is 5."),
        ("It is 5.\nProblem 2: Add", "It is 5."),
        ("It is 5.\n### Questions that remain\n", None),
        ("It is 5.\nProblems: none", None),
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


SEEDS = [
    "1 ", "1,", "11,", "111 ", "$1 ", "- ", "\n- 1", "= 1 ", "x = 1, ", "(1) ", "\\frac{",
    "\\boxed{", "\\sqrt{", "\\(", "$", "{", "answer: ", "Answer: 1\n", "The answer is 1. ",
    "is the answer ", "the final answer to the ", "**", "**1** ", "#### ", "because 1 ", "not 1 ",
    "1 or 2 ", "one hundred ", "(A) ", "(A) is not ", "option A ", "is not true ", "no, ",
    "Jan. 5, ", "J. R. ", "Rs. ", "\n1. ", "\nQuestion: ", "Sure:\nQuestion: ", "cannot be ",
    "I'm sorry ", "<answer>", "<think>", "3 x 10^8 ", "\u00bd ", " ", "\n", "_",
]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_no_text_takes_long(seed):
    text = (seed * LONG)[:LONG]
    began = time.process_time()
    for opening in ("", "The answer is:\n", "#### ", "\\boxed{"):
        for kind in set(KINDS) - {"latex"}:
            extract(opening + text, kind, asked=Asked(("sand", "12", "none of these")))
        answer_end(opening + text)
        extract_second(f"{opening}\nTherefore, the answer (arabic numerals) is {text}")
    assert time.process_time() - began < 3  # some 30 readings, each far below a tenth of a second
