"""Expressions in LaTeX: one spelling for equal ones, by a child process that has its time."""

import _thread
import sys
import threading
import time
from importlib.util import find_spec

import pytest

from lmsi_cli.answers import canonical, extract
from lmsi_cli.apart import Apart
from lmsi_cli.errors import LmsiError

needs_latex = pytest.mark.skipif(
    find_spec("math_verify") is None, reason="answers in LaTeX need the extra `latex`"
)


@needs_latex
def test_an_expression_has_its_time_and_no_more_on_any_thread_and_a_dead_child_is_replaced():
    """The time ends inside C, where no Python signal handler is ever called."""
    apart = Apart("lmsi_cli.answers.formula", 0.5)
    assert apart.ask("4 + 1") == "5"
    first, told, began = apart.child.pid, [], time.monotonic()
    thread = threading.Thread(target=lambda: told.append(apart.ask("10^{10^{10}}")))
    thread.start()
    thread.join(30)
    assert told == [None]
    assert time.monotonic() - began < 10
    assert apart.ask("4 + 2") == "6"
    assert apart.child.pid != first
    apart.child.kill()
    apart.child.wait()
    assert apart.ask("x^{2}") is None  # the question that finds it dead has no answer
    assert apart.ask("4 + 2") == "6"
    apart.stop()


def test_after_ctrl_c_the_next_question_gets_its_own_answer():
    child = Apart("lmsi_cli.engine.template", 1.0)

    def ask(n):
        return child.ask({"source": "{{ n }}", "given": {"n": n}})

    assert ask(0) == {"text": "0"}
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        [ask(n) for n in range(10**6)]
    assert ask(-1) == {"text": "-1"}
    child.stop()


def test_a_child_that_cannot_start_is_told():
    with pytest.raises(LmsiError, match="none does not start") as error:
        Apart("lmsi_cli.answers.none", 1).ask("1")
    assert "python -m" in error.value.hint


LATEX = [
    [r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", r"\dfrac{\sqrt 2}2"],
    [r"a^2-b^2", "(a-b)(a+b)"],
    [r"\frac{x^2-1}{x-1}", "x + 1", "1+x"],
    [r"\frac{2}{1+\sqrt{3}}", r"\sqrt{3}-1"],
    [r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"],
    ["0.5x", r"\frac x2", r"\frac{1}{2}x"],
    [r"\{2, 1\}", "1,2", r"x \in \{1,2\}"],
    [r"3 \pm \sqrt{2}", r"3-\sqrt2, 3+\sqrt2"],
    [r"\frac{\sqrt4}{4}", "0.5", r"\frac12"],
    ["5!", "120"],
]


@needs_latex
@pytest.mark.parametrize("same", LATEX, ids=[same[0] for same in LATEX])
def test_equal_expressions_have_one_spelling_that_reads_back(same):
    (value,) = {canonical(text, "latex") for text in same}
    assert canonical(value, "latex") == value
    assert extract(f"The answer is ${value}$.", "latex").value == value


@needs_latex
def test_different_expressions_have_different_spellings():
    texts = ["(2,1)", "(1,2)", "(5,3)", "[0,1)", "[0,1]", "11_6", "11", "5!", "5", r"\frac{1", "1"]
    texts += ["a^2", "a^3", r"\{1,2\}", r"\{1,3\}"]
    found = {text: canonical(text, "latex") for text in texts}
    assert len(set(found.values())) == len(texts), found


def test_latex_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(LmsiError, match="math-verify") as error:
        canonical(r"\sqrt{17} + \sqrt{19}", "latex")
    assert "'.[latex]'" in error.value.hint
    assert canonical("3/4", "latex") == "0.75"
