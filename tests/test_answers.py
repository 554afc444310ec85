"""Answers: golden cases as data, and what must hold for any number and any text around it."""

import json
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.answers import (
    KINDS,
    Asked,
    answer_end,
    before_run_on,
    canonical,
    explain,
    extract,
    listed,
)
from lmsi_cli.answers.subprocess_worker import Apart
from lmsi_cli.errors import LmsiError
from lmsi_cli.thinking import answer_part

DATA = Path(__file__).parent / "data"
CASES = [
    {**case, "text": answer_part(case["text"])}  # a block of thinking is no part of the answer
    for name in ("answers", "kinds")
    for case in json.loads((DATA / f"{name}.json").read_text())
]

TRIGGER = "The answer is"
NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12).map(Fraction),
    st.decimals(-(10**6), 10**6, places=3).map(Fraction),
)
PROSE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def asked_of(case):
    if case["kind"] == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    return Asked(tuple(case.get("choices", ())), case.get("percent", False))


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_golden(case):
    found = extract(case["text"], case["kind"], asked=asked_of(case))
    assert (found and found.value, found and found.rule) == (case["expected"], case["rule"])


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_span_is_where_the_raw_words_are(case):
    asked = asked_of(case)
    found = extract(case["text"], case["kind"], asked=asked)
    if found:
        assert case["text"][found.start : found.end] == found.raw
        assert not found.raw.endswith(" ")
        assert case["kind"] == "text" or not found.raw.endswith(".")
        assert canonical(found.raw, case["kind"], asked) == found.value


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_explain_fires_the_rule_that_extract_used(case):
    asked = asked_of(case)
    steps = explain(case["text"], case["kind"], asked=asked)
    told = ["contradiction", *(r.name for r in KINDS[case["kind"]].rules)]
    assert [s.rule for s in steps] == told
    fired = [s for s in steps if s.fired]
    assert len(fired) <= 1
    found = extract(case["text"], case["kind"], asked=asked)
    assert (fired[0].found if fired else None) == found


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_canonical_values_are_their_own_spelling(case):
    """A vote's winner is written into training sentences and read back by later rounds."""
    asked = asked_of(case)
    if case["expected"] is not None and case["kind"] not in ("text", "latex"):
        again = extract(f"{TRIGGER} {case['expected']}.", case["kind"], asked=asked)
        assert again is not None
        assert again.value == case["expected"]


def test_options_are_read_from_the_question():
    assert listed("Which is wet?\n(A) sand\n(B) the sea") == ("sand", "the sea")
    assert listed("Which?\nA) 5\nB) 6 (C) or so\nC. 7") == ("5", "6 (C) or so", "7")
    assert (
        listed("Which?\n(a) sand\n(b) sea") == listed("Which?\na) sand\nb) sea") == ("sand", "sea")
    )
    assert listed("Which?\n(A) sand\n(C) sea") == ()
    assert listed("Is (A) or (B) wet?") == ()
    assert listed("Which?\nI. A point\nC. B\n(A) I only\n(B) II only") == ("I only", "II only")


@given(PROSE, st.sampled_from(sorted(set(KINDS) - {"latex"})))
def test_any_text_is_survived_by_every_kind(text, kind):
    asked = Asked(("sand", "12", "none of these"))
    for prefix in ("", TRIGGER + " ", "#### ", "\\boxed{"):
        found = extract(prefix + text, kind, asked=asked)
        assert found is None or canonical(found.raw, kind, asked) == found.value


def write(number: Fraction, style: str) -> str:
    """Spell a number as models do; ``style`` is a format specification or a sign of currency."""
    sign = "-" if number < 0 else ""
    digits = f"{float(abs(number)):.3f}" if number.denominator > 1 else str(abs(number))
    whole, point, rest = digits.partition(".")
    grouped = f"{int(whole):,}" if "," in style else whole
    return f"{sign}{'$' * ('$' in style)}{grouped}{point}{rest}"


@given(NUMBERS, st.sampled_from(["", ",", "$", "$,"]), st.sampled_from([".", "", " dollars.", "%"]))
def test_a_number_after_the_trigger_is_recovered(number, style, close):
    found = extract(f"So it grows by 17. {TRIGGER} {write(number, style)}{close}")
    assert found is not None
    assert found.rule == "marker"
    assert Fraction(found.value) == number


@given(NUMBERS, st.sampled_from(["\nQ:", "\n\nQ: ", "\nQuestion:", "\n### Question 3: "]), PROSE)
def test_run_on_text_never_changes_the_answer(number, opening, prose):
    for text in (f" {TRIGGER} {write(number, ',')}.", f"#### {number}", "It is 5", "no idea"):
        assert extract(text + opening + prose) == extract(text)
        assert before_run_on(text + opening + prose).rstrip("\n") == text


@given(PROSE)
def test_any_text_is_survived(text):
    for prefix in ("", TRIGGER + " ", "#### ", "\\boxed{"):
        found = extract(prefix + text)
        assert found is None or canonical(found.value) == found.value


@given(st.fractions())
def test_canonical_is_idempotent_and_exact(number):
    value = canonical(str(number))
    assert value is not None
    assert canonical(value) == value
    assert Fraction(value) == number
    assert "." not in value or "/" not in value


@given(NUMBERS, st.integers(1, 60))
def test_equal_values_are_spelled_alike(number, factor):
    ratio = f"{number.numerator * factor}/{number.denominator * factor}"
    assert canonical(write(number, ",")) == canonical(write(number, "$")) == canonical(ratio)


@pytest.mark.parametrize(
    ("gold", "value"),
    [
        ("42", "42"), ("$1,200.00", "1200"), ("5.0", "5"), ("-0.50", "-0.5"), ("6/8", "0.75"),
        ("12 apples", "12"), ("25%", "25"), ("1/1024", "0.0009765625"), ("", None), ("cat", None),
        ("3 or 4", None), ("3,5", None), ("1/0", None),
    ],
)  # fmt: skip
def test_canonical_gold(gold, value):
    assert canonical(gold) == value


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" The answer is", None),
        (" The answer is 42", None),
        (" The answer is 42.", None),
        (" The answer is 42. ", " The answer is 42."),
        (" The answer is 42.\n", " The answer is 42."),
        (" The answer is 42\n", " The answer is 42"),
        (" The answer is 3.5", None),
        (" The answer is 3.5.", None),
        (" The answer is 3.5. So", " The answer is 3.5."),
        (" The answer is\n\n", None),
        (" The answer is\n\n42.\n", " The answer is\n\n42."),
        (" The answer is 1. The answer is 2. ", " The answer is 1."),
        (" The answer is 42.\nQ: 3.", " The answer is 42."),
        (" The answer is\nQ: 3. ", None),
        (" the ANSWER is 42! ", " the ANSWER is 42!"),
        (" 6 * 7 = 42. So", None),
        (" The answer is U.S. Grant. ", " The answer is U.S. Grant."),
        (" The answer is Dr. Who. ", " The answer is Dr. Who."),
        (" The answer is B. ", " The answer is B."),
        (" The answer is No. ", None),  # or is it No. 7?
        (" The answer is No. So", " The answer is No."),
    ],
)
def test_answer_end(text, kept):
    end = answer_end(text, TRIGGER)
    assert (None if end is None else text[:end]) == kept


@given(NUMBERS, st.sampled_from([" So", "\n", "\n\nQ: "]))
def test_answer_end_grows_with_the_text(number, after):
    """Token by token the end is found once, at the same place, and never inside the number."""
    sentence = f" Half is 17. {TRIGGER} {write(number, ',')}."
    text = sentence + after
    ends = {answer_end(text[:n], TRIGGER) for n in range(len(text) + 1)}
    assert ends == {None, len(sentence)}
    assert answer_end(text, TRIGGER, start=12) == len(sentence)


def test_another_trigger():
    assert extract("5 and 6. So the total: 11.", trigger="the total:").value == "11"


def test_unknown_kind_is_the_users_to_fix():
    with pytest.raises(LmsiError, match="unknown answer kind 'colour'") as error:
        extract("red", "colour")
    assert "number" in error.value.hint


@pytest.fixture
def apart():
    pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    child = Apart("lmsi_cli.answers.formula", 0.5)
    yield child
    child.stop()


@pytest.mark.parametrize("hang", ["10^{10^{10}}", "(a+b+c+d+f+g+h)^{90}"])
def test_an_expression_has_its_time_and_no_more_on_any_thread(apart, hang):
    """The first ends inside C, where no Python signal handler is ever called."""
    assert apart.ask("4 + 1") == "5"
    first, told, began = apart.child.pid, [], time.monotonic()
    thread = threading.Thread(target=lambda: told.append(apart.ask(hang)))
    thread.start()
    thread.join(30)
    assert told == [None]
    assert time.monotonic() - began < 10
    assert apart.ask("4 + 2") == "6"  # by a new child
    assert apart.child.pid != first


def test_a_child_that_dies_while_it_is_idle_is_replaced(apart):
    assert apart.ask("4 + 1") == "5"
    apart.child.kill()
    apart.child.wait()
    assert apart.ask("x^{2}") is None  # the question that finds it dead has no answer
    assert apart.ask("4 + 2") == "6"


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


@pytest.mark.parametrize("same", LATEX, ids=[same[0] for same in LATEX])
def test_equal_expressions_have_one_spelling_that_reads_back(same):
    pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    (value,) = {canonical(text, "latex") for text in same}
    assert canonical(value, "latex") == value
    assert extract(f"The answer is ${value}$.", "latex").value == value


@pytest.mark.parametrize(
    ("one", "other"),
    [("(2,1)", "(1,2)"), ("(2,1)", "(5,3)"), ("[0,1)", "[0,1]"), ("11_6", "11"), ("5!", "5"),
     (r"\frac{1", "1"), ("a^2", "a^3"), (r"\{1,2\}", r"\{1,3\}")],
)  # fmt: skip
def test_different_expressions_have_different_spellings(one, other):
    pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    assert canonical(one, "latex") != canonical(other, "latex")


def test_percent_in_latex_is_a_number_where_the_task_says_so():
    assert canonical(r"50\%", "latex") == "50"
    assert canonical(r"50\%", "latex", Asked(percent=True)) == "0.5"


def test_latex_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(LmsiError, match="math-verify") as error:
        canonical(r"\sqrt{17} + \sqrt{19}", "latex")
    assert "lmsi[latex]" in error.value.hint
    assert canonical("3/4", "latex") == "0.75"
