"""A prompt asks for a question; whatever is written, one clean question comes out, or a reason."""

import re

import msgspec
import pytest
from generation_helpers import SEEDS, TASK
from hypothesis import example, given
from hypothesis import strategies as st

from lmsi_cli.generation.drafts import REQUEST, Dropped, draft_prompt, read_draft, rules_of
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Message

TEXTS = [q.question for q in SEEDS]
RULES = rules_of(TEXTS, TASK)
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
    assert read_draft(text, ended, RULES) == GOOD


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
    assert read_draft(text, ended, RULES) == Dropped(reason)


def test_what_no_seed_has_is_not_asked_for():
    rules = rules_of([*TEXTS, "Name the largest number."], TASK)
    text = "Tell me which of the primes is the largest."
    assert read_draft(text, "eos", rules) == text


def test_options_stand_on_lines_of_their_own():
    task = Task(name="letters", kind="choice", exemplars=TASK.exemplars)
    seeds = ["Which one is a fruit?\n(A) pear\n(B) hammer"]
    rules = rules_of(seeds, task)
    own = "Which one of these is a bird?\n(A) owl\n(B) spoon"
    assert read_draft(f" {own}\nA: The answer is (A).", "answer", rules) == own
    assert read_draft(" Which one of these is a bird?\n", "eos", rules) == Dropped("no options")
    rules = rules_of(["Which one is a fruit?\nA: pear\nB: hammer"], task)
    own = "Which one of these is a bird?\nA: owl\nB: spoon"
    assert read_draft(f" {own}\nAnswer: A", "eos", rules) == own


def test_passages_keep_their_paragraphs():
    rules = rules_of(["The war lasted 3 years.\n\nHow long did it last?"], TASK)
    own = "The race took 4 hours.\n\nHow long did the race take?"
    assert read_draft(f" {own}\nA: 4", "eos", rules) == own


def test_what_a_chat_model_says_first_is_cut_off():
    chat = msgspec.structs.replace(TASK, chat=Chat(few_shot="turns", system=""))
    rules = rules_of(TEXTS, chat)
    said = f"Here is a new question of the same kind:\n\n**Question:** {GOOD}"
    assert read_draft(said, "eos", rules) == GOOD


ENDS = st.sampled_from(["answer", "next_question", "eos", "length"])
PIECES = st.sampled_from([
    GOOD, *TEXTS, "\n", "\n\n", "A:", "Q:", "Question:", "1. ", " ", "?", "7", "**", '"', "####",
    "<think>", "</think>", "The answer is 5.", "\ufffd", "\r", "\u2028", "how", "many", "\x00",
])  # fmt: skip
WRITTEN = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(WRITTEN, ENDS)
@example("0 0 0 ?\r\u20280", "answer")  # an empty line between two ends of a line
def test_any_text_gives_a_clean_question_or_a_reason(text, ended):
    found = read_draft(text, ended, RULES)
    if isinstance(found, Dropped):
        return
    assert found == " ".join(found.split())
    assert "?" in found
    assert any(c.isdigit() for c in found)
    assert len(found.split()) >= 5
    assert not re.search(r"The answer is 5\.(?![0-9])", found)


@example("0 0 0 ? *\u2028*", "answer")
@given(WRITTEN, ENDS)
def test_a_question_that_was_found_is_found_again(text, ended):
    found = read_draft(text, ended, RULES)
    if not isinstance(found, Dropped):
        assert read_draft(f" {found}\nA: 5.", "answer", RULES) == found
        assert read_draft(f" {found}\n", "next_question", RULES) == found


SHOWN = ["What is 1 + 2?\r\n", " What is 3 * 4?"]


def test_a_base_model_goes_on_with_a_list():
    assert draft_prompt(SHOWN, None) == "Q: What is 1 + 2?\n\nQ: What is 3 * 4?\n\nQ:"


def test_a_chat_model_is_asked():
    blocks = "Q: What is 1 + 2?\n\nQ: What is 3 * 4?"
    asked = Message(role="user", content=f"Here are some questions.\n\n{blocks}\n\n{REQUEST}")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system="")) == (asked,)
    system = Message(role="system", content="Be brief.")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system=" Be brief. ")) == (system, asked)
