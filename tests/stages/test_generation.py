"""What a model writes: one clean question comes out of a text, or a reason; none comes twice."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from stage_helpers import TASK, invented

from lmsi_cli.generation import LIKENESS, Draft, Rules, Sieve, draft_prompt, read_draft, runs
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

READ = {
    "before its answer": (f" {GOOD}\nA: 7 - 2 = 5. The answer is 5.", "answer", GOOD),
    "cut off behind it": (f" {GOOD}\n\nA: Let us see, there are", "length", GOOD),
    "before a blank line": (f" {GOOD}\n\nThis is easy.", "length", GOOD),
    "with a bold label": (f"**New question:** {GOOD}", "eos", GOOD),
    "with a number": (f"1. {GOOD}\n2. Another?", "eos", GOOD),
    "twice labelled": (f"Q: Q: {GOOD}", "eos", GOOD),
    "quoted": (f'"{GOOD}"\n', "next_question", GOOD),
    "after thinking": (f"<think>What is asked? 5?</think>\n\n{GOOD}", "eos", GOOD),
    "over two lines": (" Ida has 7 cups\nand  breaks 2. How many cups are whole?", "eos", GOOD),
    "nothing": ("", "eos", "empty"),
    "an answer alone": (" \nA: The answer is 5.", "answer", "answered"),
    "cut off": (" Ida has 7 cups and breaks", "length", "truncated"),
    "too short": (" How many 3s?", "eos", "short"),
    "no question": (" Ida has 7 cups and breaks 2.", "eos", "no question mark"),
    "no number": (" Ida breaks one of her cups. How many are left?", "eos", "no number"),
    "its answer": (" Ida has 7 cups, how many? The answer is 7.", "answer", "answered"),
    "its answer, marked": (" Ida has 7 cups, how many? A: seven", "eos", "answered"),
    "its answer, GSM8K": (" Ida has 7 cups, how many? #### 7", "eos", "answered"),
    "a loop": (" How many of 7" * 20 + "?", "eos", "repeats itself"),
    "half a character": (" Ida has 7 cups \ufffd. How many?", "eos", "garbled"),
    "a control character": (" Ida has 7 cups \x1b[2J. How many?", "eos", "garbled"),
}


@pytest.mark.parametrize(("text", "ended", "found"), READ.values(), ids=READ.keys())
def test_the_question_is_found_or_the_reason_told(text, ended, found):
    question, fault = read_draft(text, ended, RULES)
    assert (fault or question) == found


LETTERS = Task(name="letters", kind="choice", exemplars=TASK.exemplars)
CHAT = Chat(few_shot="turns", system="")
PRIMES = "Tell me which of the primes is the largest."
FRUITS = "Which one is a fruit?\n(A) pear\n(B) hammer"
BIRDS = "Which one of these is a bird?\n(A) owl\n(B) spoon"
COLONS, SEED_COLONS = (q.replace("(A)", "A:").replace("(B)", "B:") for q in (BIRDS, FRUITS))
TOLD = "The race took 4 hours.\n\nHow long did the race take?"
TALKED = f"Here is a new question of the same kind:\n\n**Question:** {GOOD}"
WAR = "The war lasted 3 years.\n\nHow long did it last?"
LIKE_SEEDS = {
    "no number where a seed has none": ([*TEXTS, "Name the largest."], TASK, PRIMES, PRIMES),
    "options": ([FRUITS], LETTERS, f" {BIRDS}\nA: The answer is (A).", BIRDS),
    "options that are missing": ([FRUITS], LETTERS, " Which of these is a bird?\n", "no options"),
    "options behind colons": ([SEED_COLONS], LETTERS, f" {COLONS}\nAnswer: A", COLONS),
    "paragraphs of a passage": ([WAR], TASK, f" {TOLD}\nA: 4", TOLD),
    "what a chat model says first": (TEXTS, replace(TASK, chat=CHAT), TALKED, GOOD),
}


@pytest.mark.parametrize(("seeds", "task", "text", "found"), LIKE_SEEDS.values(), ids=LIKE_SEEDS)
def test_a_question_has_the_form_of_its_seeds(seeds, task, text, found):
    question, fault = read_draft(text, "eos", Rules(seeds, task))
    assert (fault or question) == found


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
    assert "?" in found and any(c.isdigit() for c in found) and len(found.split()) >= 5
    assert read_draft(f" {found}\nA: 5.", "answer", RULES) == (found, "")


def test_a_base_model_goes_on_with_a_list_and_a_chat_model_is_asked():
    shown = ["What is 1 + 2?\r\n", " What is 3 * 4?"]
    blocks = "Q: What is 1 + 2?\n\nQ: What is 3 * 4?"
    assert draft_prompt(shown, None) == f"{blocks}\n\nQ:"
    (asked,) = draft_prompt(shown, CHAT)
    assert asked.role == "user" and blocks in asked.content
    system = Message(role="system", content="Be brief.")
    assert draft_prompt(shown, replace(CHAT, system=" Be brief. ")) == (system, asked)


EXAM = "A farm has 8 cows and sells 3 of them on Monday. How many cows has the farm?"
EXAMS = {"test.jsonl": [Question(id="t", question=EXAM, answer="5")]}


def sieved(texts):
    told = {"prompt": 0, "path": 0, "seed": 0, "shown": ("s0",), "num_generated_tokens": 9}
    sieve = Sieve(SEEDS, EXAMS, TASK)
    for text in texts:
        sieve.take(Draft(**told, text=f" {text}", stop_reason="next_question"))
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
def test_what_is_known_is_told_by_name_and_ids_come_from_the_text_alone(reason, text):
    sieve = sieved([invented(7), text, invented(1)])
    assert sieve.dropped == {reason.removesuffix(" in capitals"): 1}
    assert [q.question for q in sieve.candidates] == [invented(7), invented(1)]
    assert sieve.candidates[1:] == sieved([invented(1)]).candidates


WORDS = st.lists(st.sampled_from(["tom", "has", "7", "pens", "and", "cups"]), min_size=3)
ASKED = WORDS.map(lambda words: " ".join(words) + "?")


@given(st.lists(st.one_of(ASKED, st.text(), st.sampled_from(list(KNOWN.values()))), max_size=30))
def test_nothing_is_lost_and_nothing_stands_twice(texts):
    sieve = sieved(texts)
    assert sieve.taken == len(texts) == len(sieve.candidates) + sum(sieve.dropped.values())
    asked = [q.question for q in sieve.candidates]
    known = [EXAM, *(q.question for q in SEEDS)]
    assert len({q.id for q in sieve.candidates}) == len(asked)
    for pair in [*itertools.combinations(asked, 2), *itertools.product(asked, known)]:
        one, other = map(runs, pair)
        assert len(one & other) / len(one | other) <= LIKENESS
