"""Two-stage prompts, what is learned of their paths, and templates that take turns."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_prompts import FORMATS, QUESTION, TASK, path

from lmsi_cli.prompts import (
    TWO_STAGES,
    Chat,
    answer_prompt,
    completion,
    examples,
    for_path,
    rationale_of,
    render,
    rotates,
)
from lmsi_cli.records import Exemplar, Message, Template

CHATTING = msgspec.structs.replace(TASK, chat=Chat(few_shot="turns", system=""))
AGAIN = "Therefore, the answer (arabic numerals) is"


def second(text, rule="second-stage"):
    return msgspec.structs.replace(path(3, text), extract_rule=rule)


def test_the_first_stage_is_the_plain_zero_shot_prompt():
    assert render(TASK, "What is 6 * 7?", TWO_STAGES) == render(TASK, "What is 6 * 7?", "cot-zero")
    (asked,) = render(CHATTING, "What is 6 * 7?", TWO_STAGES)
    # how to end is asked in the second stage, not here
    assert asked.content == "What is 6 * 7?\n\nLet's think step by step."


def test_the_second_stage_goes_on_from_the_rationale():
    first = render(TASK, "What is 6 * 7?", TWO_STAGES)
    assert answer_prompt(TASK, "What is 6 * 7?", " So 42.") == f"{first} So 42.\n{AGAIN}"
    assert answer_prompt(CHATTING, "What is 6 * 7?", " So 42.") == (
        *render(CHATTING, "What is 6 * 7?", TWO_STAGES),
        Message(role="assistant", content="So 42."),
        Message(role="user", content=AGAIN),
    )


@pytest.mark.parametrize(
    ("text", "rationale"),
    [
        (f" 6 * 7 = 42.\n{AGAIN} 42.", "6 * 7 = 42."),
        (f" 6 * 7 = 42. The answer is 42.\n{AGAIN} 42.", "6 * 7 = 42."),
        (f" 6 * 7 = 42. So the answer is 41.\n{AGAIN} 42.", "6 * 7 = 42."),
        (f" <think>7?</think> Just so.\n{AGAIN} 42.", "Just so."),
        (f"\n{AGAIN} 42.", ""),
    ],
)
def test_a_two_stage_path_is_learned_as_rationale_and_answer_sentence(text, rationale):
    assert rationale_of(TASK, second(text)) == rationale
    assert completion(TASK, second(text)) == f" {rationale} The answer is 42.".replace("  ", " ")


def test_the_rationale_of_a_plain_path_ends_before_its_answer_sentence():
    assert rationale_of(TASK, path(0, " 6 * 7 = 42. So the answer is 42.")) == "6 * 7 = 42."
    assert rationale_of(TASK, path(0, " The answer is 42.")) == ""
    assert rationale_of(TASK, path(0, " It is 42.\n\nQ: What?")) == "It is 42."


def test_a_cut_rationale_may_vote_but_is_not_imitated():
    cut = second(f" 6 * 7 = 4\n{AGAIN} 42.", rule="second-stage-cut")
    found = examples(TASK, QUESTION, [cut], "42", FORMATS)
    assert {e.format for e in found} == {"direct-few", "direct-zero"}
    whole = second(f" 6 * 7 = 42.\n{AGAIN} 42.")
    found = examples(TASK, QUESTION, [cut, whole], "42", FORMATS)
    assert {e.completion for e in found if e.format.startswith("cot")} == {
        " 6 * 7 = 42. The answer is 42."
    }


def templates(n):
    one = Exemplar(question="?", rationale="-", answer="0")
    sets = [(msgspec.structs.replace(one, question=f"Template {i}?"),) for i in range(n)]
    return msgspec.structs.replace(
        TASK, exemplars=sets[0], templates=tuple(Template(exemplars=s) for s in sets)
    )


@given(st.integers(1, 7), st.integers(0, 100))
def test_paths_take_the_templates_in_turn(n, number):
    task = templates(n)
    assert rotates(task, "cot-few") == rotates(task, "direct-few") == n
    assert rotates(task, "cot-zero") == rotates(task, TWO_STAGES) == rotates(TASK, "cot-few") == 1
    shown = render(for_path(task, number), "What is 6 * 7?", "cot-few")
    assert shown.startswith(f"Q: Template {number % n}?\n")
    assert render(task, "x", "cot-few") == render(for_path(task, 0), "x", "cot-few")
    assert for_path(TASK, number) == TASK
    found = examples(templates(5), QUESTION, [path(3, " The answer is 42.")], "42", ("cot-few",))
    assert found[0].prompt.startswith("Q: Template 0?\n")
