"""What a model writes: one clean question comes out of a text, or a reason; none comes twice."""

import itertools
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stage_helpers import TASK, invented

from lmsi_cli.generation import (
    LIKENESS,
    REQUEST,
    Draft,
    Known,
    Rules,
    Sieve,
    draft_prompt,
    question_id,
    read_draft,
    runs,
)
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Message, Question

SEEDS = [
    Question(id="s0", question="Tom has 3 pens and buys 4 more at the shop. How many has Tom?"),
    Question(id="s1", question="A bus drives 60 miles in 2 hours. How fast is the bus?"),
    Question(id="s2", question="Anna bakes 5 trays of 12 rolls each. How many rolls are there?"),
]
TEXTS = [q.question for q in SEEDS]
RULES = Rules(TEXTS, TASK)
GOOD = "Ida has 7 cups and breaks 2. How many cups are whole?"

FOUND = {
    "plain": (f" {GOOD}", "eos"),
    "before the next": (f" {GOOD}\n", "next_question"),
    "before its answer": (f" {GOOD}\nA: 7 - 2 = 5. The answer is 5.", "answer"),
    "cut off behind it": (f" {GOOD}\n\nA: Let us see, there are", "length"),
    "before a blank line": (f" {GOOD}\n\nThis is easy.", "length"),
    "with a bold label": (f"**New question:** {GOOD}", "eos"),
    "with a number": (f"1. {GOOD}\n2. Another?", "eos"),
    "twice labelled": (f"Q: Q: {GOOD}", "eos"),
    "quoted": (f'"{GOOD}"', "eos"),
    "after thinking": (f"<think>What is asked? 5?</think>\n\n{GOOD}", "eos"),
    "over two lines": (" Ida has 7 cups\nand  breaks 2. How many cups are whole?", "eos"),
    "with Windows line ends": (f"{GOOD}\r\n\r\nA: 5", "eos"),
}


@pytest.mark.parametrize(("text", "ended"), FOUND.values(), ids=FOUND.keys())
def test_the_question_is_found(text, ended):
    assert read_draft(text, ended, RULES) == (GOOD, "")


LOST = {
    "nothing": ("", "eos", "empty"),
    "an open thought": ("<think>What is asked?", "eos", "empty"),
    "an answer alone": (" \nA: The answer is 5.", "answer", "answered"),
    "cut off": (" Ida has 7 cups and breaks", "length", "truncated"),
    "too short": (" How many 3s?", "eos", "short"),
    "no question": (" Ida has 7 cups and breaks 2.", "eos", "no question mark"),
    "no number": (" Ida has some cups and breaks one. How many are whole?", "eos", "no number"),
    "its answer": (" Ida has 7 cups, how many? The answer is 7.", "answer", "answered"),
    "its answer, marked": (" Ida has 7 cups, how many? A: seven", "eos", "answered"),
    "its answer, GSM8K": (" Ida has 7 cups, how many? #### 7", "eos", "answered"),
    "a loop": (" How many of 7" * 20 + "?", "eos", "repeats itself"),
    "half a character": (" Ida has 7 cups \ufffd. How many?", "eos", "garbled"),
    "a control character": (" Ida has 7 cups \x1b[2J. How many?", "eos", "garbled"),
}


@pytest.mark.parametrize(("text", "ended", "reason"), LOST.values(), ids=LOST.keys())
def test_the_reason_is_told(text, ended, reason):
    assert read_draft(text, ended, RULES)[1] == reason


def test_what_no_seed_has_is_not_asked_for():
    rules = Rules([*TEXTS, "Name the largest number."], TASK)
    text = "Tell me which of the primes is the largest."
    assert read_draft(text, "eos", rules) == (text, "")


def test_options_stand_on_lines_of_their_own():
    task = Task(name="letters", kind="choice", exemplars=TASK.exemplars)
    seeds = ["Which one is a fruit?\n(A) pear\n(B) hammer"]
    rules = Rules(seeds, task)
    own = "Which one of these is a bird?\n(A) owl\n(B) spoon"
    assert read_draft(f" {own}\nA: The answer is (A).", "answer", rules) == (own, "")
    assert read_draft(" Which one of these is a bird?\n", "eos", rules)[1] == "no options"
    rules = Rules(["Which one is a fruit?\nA: pear\nB: hammer"], task)
    own = "Which one of these is a bird?\nA: owl\nB: spoon"
    assert read_draft(f" {own}\nAnswer: A", "eos", rules) == (own, "")


def test_passages_keep_their_paragraphs():
    rules = Rules(["The war lasted 3 years.\n\nHow long did it last?"], TASK)
    own = "The race took 4 hours.\n\nHow long did the race take?"
    assert read_draft(f" {own}\nA: 4", "eos", rules) == (own, "")


def test_what_a_chat_model_says_first_is_cut_off():
    chat = msgspec.structs.replace(TASK, chat=Chat(few_shot="turns", system=""))
    rules = Rules(TEXTS, chat)
    said = f"Here is a new question of the same kind:\n\n**Question:** {GOOD}"
    assert read_draft(said, "eos", rules) == (GOOD, "")


ENDS = st.sampled_from(["answer", "next_question", "eos", "length"])
PIECES = st.sampled_from([
    GOOD, *TEXTS, "\n", "\n\n", "A:", "Q:", "Question:", "1. ", " ", "?", "7", "**", '"', "####",
    "<think>", "</think>", "The answer is 5.", "\ufffd", "\r", "\u2028", "how", "many", "\x00",
])  # fmt: skip
WRITTEN = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(WRITTEN, ENDS)
@example("0 0 0 ?\r\u20280", "answer")  # an empty line between two ends of a line
@example("0 0 0 ? *\u2028*", "answer")
def test_any_text_gives_a_clean_question_that_is_found_again_or_a_reason(text, ended):
    found, fault = read_draft(text, ended, RULES)
    if fault:
        return
    assert found == " ".join(found.split())
    assert "?" in found
    assert any(c.isdigit() for c in found)
    assert len(found.split()) >= 5
    assert not re.search(r"The answer is 5\.(?![0-9])", found)
    assert read_draft(f" {found}\nA: 5.", "answer", RULES) == (found, "")


SHOWN = ["What is 1 + 2?\r\n", " What is 3 * 4?"]


def test_a_base_model_goes_on_with_a_list():
    assert draft_prompt(SHOWN, None) == "Q: What is 1 + 2?\n\nQ: What is 3 * 4?\n\nQ:"


def test_a_chat_model_is_asked():
    blocks = "Q: What is 1 + 2?\n\nQ: What is 3 * 4?"
    asked = Message(role="user", content=f"Here are some questions.\n\n{blocks}\n\n{REQUEST}")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system="")) == (asked,)
    system = Message(role="system", content="Be brief.")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system=" Be brief. ")) == (system, asked)


EXAM = "A farm has 8 cows and sells 3 of them on Monday. How many cows has the farm?"
EXAMS = {"test.jsonl": [Question(id="t", question=EXAM, answer="5")]}


def likeness(one, other):
    """Share of the runs of three words in common."""
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


def sieved(texts, exams=EXAMS):
    sieve = Sieve(SEEDS, exams, TASK)
    for text in texts:
        draft = Draft(
            prompt=0, path=0, seed=0, shown=("s0",), text=f" {text}", num_generated_tokens=9,
            stop_reason="next_question",
        )  # fmt: skip
        sieve.take(draft)
    return sieve


KNOWN = {
    "a seed": SEEDS[0].question,
    "a seed in capitals": SEEDS[0].question.upper(),
    "like a seed": SEEDS[0].question.replace("Tom?", "Tom now?"),
    "in an excluded file": EXAM.replace(".", ","),
    "like an excluded one": EXAM.replace("the farm?", "the farm now?"),
    "again": invented(7).lower(),
    "like another": invented(7).replace("Bert?", "Bert now?"),
}


@pytest.mark.parametrize(("reason", "text"), KNOWN.items(), ids=KNOWN.keys())
def test_what_is_known_is_told_by_name(reason, text):
    sieve = sieved([invented(7), text])
    assert sieve.dropped == {reason.removesuffix(" in capitals"): 1}
    assert [q.question for q in sieve.candidates] == [invented(7)]


def test_ids_come_from_the_text_alone():
    one, other = sieved([invented(1), invented(2)]), sieved([invented(2)])
    assert one.candidates[1] == other.candidates[0]
    assert one.candidates[1].id == question_id(invented(2))
    many = sieved([invented(n) for n in range(40)])  # other numbers in other words
    assert (len(many.candidates), many.dropped) == (40, {})


WORDS = st.lists(st.sampled_from(["tom", "has", "7", "pens", "and", "cups"]), min_size=3)
ASKED = WORDS.map(lambda words: " ".join(words) + "?")


@given(st.lists(st.one_of(ASKED, st.text(), st.sampled_from(list(KNOWN.values()))), max_size=30))
def test_nothing_is_lost_and_nothing_stands_twice(texts):
    sieve = sieved(texts)
    assert sieve.taken == len(texts) == len(sieve.candidates) + sum(sieve.dropped.values())
    asked = [q.question for q in sieve.candidates]
    known = [EXAM, *(q.question for q in SEEDS)]
    assert len({q.id for q in sieve.candidates}) == len(asked)
    for one, other in [*itertools.combinations(asked, 2), *itertools.product(asked, known)]:
        assert likeness(one, other) <= LIKENESS


@given(st.lists(ASKED, min_size=1, max_size=8), ASKED)
def test_the_index_finds_the_likeness_of_the_pair(texts, text):
    pairs = [likeness(text, t) for t in texts]
    assert Known(texts, "", "").nearest(text) == pytest.approx(max(pairs))
