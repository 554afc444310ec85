"""Golden cases as data: what is read of a text, by which rule, where it stands and ends."""

import json
import re
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
    next_turn,
)
from lmsi_cli.thinking import answer_part, answer_start

DATA = Path(__file__).parent / "data"
TRIGGER = "The answer is"


def records(name):
    return json.loads((DATA / f"{name}.json").read_text())


REPLIES = [  # as instruct models write them; which rule reads them is open
    {**group, "text": text, "source": f"{group['about']} {n}"}
    for group in records("replies")
    for n, text in enumerate(group["texts"])
]
CASES = [*records("answers"), *records("kinds"), *REPLIES]


def asked_of(case):
    if case["kind"] == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    choices = tuple(case.get("choices", ()))
    return Asked(choices, case.get("percent", False), case.get("question", ""))


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_golden(case):
    asked, kind = asked_of(case), case["kind"]
    text = answer_part(case["text"])  # a block of thinking is no part of the answer
    found = extract(text, kind, asked=asked)
    rule = found and found.rule
    assert (found and found.value, rule) == (case["expected"], case.get("rule", rule))
    steps = explain(text, kind, asked=asked)
    rules = KINDS[kind].stating + KINDS[kind].likely
    assert [s.rule for s in steps] == ["contradiction", *(r.name for r in rules)]
    assert [s.found for s in steps if s.fired] in ([found], [] if found is None else [found])
    if found:
        assert text[found.start : found.end] == found.raw
        assert kind == "text" or not found.raw.endswith((" ", "."))
        assert canonical(found.raw, kind, asked) == found.value

    if case["expected"] is not None and kind not in ("text", "latex"):
        # a vote's winner is written into training sentences and read back by later rounds
        again = extract(f"{TRIGGER} {case['expected']}.", kind, asked=asked)
        assert again and again.value == case["expected"]


# -- where an answer sentence ends, while a text still grows ---------------------------------------


def stop_of(text, begins=0):
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
    end = stop_of(text + "\n", answer_start(text) or 0)
    if end is not None and not GOES_ON.search(text, end):
        found = extract(answer_part(text[:end]), case["kind"], asked=asked_of(case))
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
    assert stop_of(f" {kept}{rest}") == (len(kept) + 1 if stops else None)


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
    if "# Question" in rest:  # a heading counts once its line has ended, or the text has
        assert next_turn(kept + rest[:-1]) is None
        assert before_run_on(kept + rest[:-1]) == kept


def test_a_turn_is_looked_for_from_any_start_in_a_reply_behind_its_thinking():
    thought, text = "<think>\nQ: so\n</think>", "Sure:\nQuestion: 5?\nIt is 5.\nUser: 7"
    assert next_turn(text, text.index("It")) == next_turn(text) == text.index("\nUser")
    begins = len(thought)
    assert next_turn(thought + text, begins, begins) == begins + text.index("\nUser")
