"""The rationale of a path, and templates that take turns."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from test_prompts import QUESTION, TASK, path

from lmsi_cli.prompts import examples, for_path, rationale_of, render, rotates
from lmsi_cli.records import Exemplar, Template


def test_the_rationale_of_a_path_ends_before_its_answer_sentence():
    assert rationale_of(TASK, path(0, " 6 * 7 = 42. So the answer is 42.")) == "6 * 7 = 42."
    assert rationale_of(TASK, path(0, " The answer is 42.")) == ""
    assert rationale_of(TASK, path(0, " It is 42.\n\nQ: What?")) == "It is 42."


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
    assert rotates(task, "cot-zero") == rotates(TASK, "cot-few") == 1
    shown = render(for_path(task, number), "What is 6 * 7?", "cot-few")
    assert shown.startswith(f"Q: Template {number % n}?\n")
    assert render(task, "x", "cot-few") == render(for_path(task, 0), "x", "cot-few")
    assert for_path(TASK, number) == TASK
    found = examples(templates(5), QUESTION, [path(3, " The answer is 42.")], "42", ("cot-few",))
    assert found[0].prompt.startswith("Q: Template 0?\n")
