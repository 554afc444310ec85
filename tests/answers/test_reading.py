"""What must hold for any number, any text around it, and any kind of answer."""

import time
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.answers import KINDS, Asked, answer_end, before_run_on, canonical, extract, listed
from lmsi_cli.equations import read_equations
from lmsi_cli.generation import Rules, read_draft

TRIGGER = "The answer is"
LONG = 8_000  # characters
RULES = Rules(["Is it?"], SimpleNamespace(trigger=TRIGGER, chat=None, kind="number"))
NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12).map(Fraction),
    st.decimals(-(10**6), 10**6, places=3).map(Fraction),
)
PROSE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which is wet?\n(A) sand\n(B) the sea", ("sand", "the sea")),
        ("Which?\nA) 5\nB) 6 (C) or so\nC. 7", ("5", "6 (C) or so", "7")),
        ("Which?\n(a) sand\n(b) sea", ("sand", "sea")),
        ("Which?\na) sand\nb) sea", ("sand", "sea")),
        ("Which?\n(A) sand\n(C) sea", ()),
        ("Is (A) or (B) wet?", ()),
        ("Which?\nI. A point\nC. B\n(A) I only\n(B) II only", ("I only", "II only")),
    ],
)
def test_options_are_read_from_the_question(question, options):
    assert listed(question) == options


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


STYLES, CLOSES = st.sampled_from(["", ",", "$", "$,"]), st.sampled_from([".", "", " dollars.", "%"])


@given(NUMBERS, STYLES, CLOSES, st.sampled_from([TRIGGER, "So the total:"]))
def test_a_number_after_the_trigger_is_recovered(number, style, close, trigger):
    text = f"So it grows by 17. {trigger} {write(number, style)}{close}"
    found = extract(text, trigger=trigger)
    assert found and (found.rule, Fraction(found.value)) == ("marker", number)


@given(NUMBERS, st.sampled_from(["\nQ:", "\n\nQ: ", "\nQuestion:", "\n### Question 3: "]), PROSE)
def test_run_on_text_never_changes_the_answer(number, opening, prose):
    for text in (f" {TRIGGER} {write(number, ',')}.", f"#### {number}", "It is 5", "no idea"):
        assert extract(text + opening + prose) == extract(text)
        assert before_run_on(text + opening + prose).rstrip("\n") == text


@given(st.fractions(), st.integers(1, 60))
def test_canonical_is_exact_and_equal_values_are_spelled_alike(number, factor):
    value = canonical(str(number))
    assert value is not None and ("." not in value or "/" not in value)
    assert Fraction(value) == number
    ratio = f"{number.numerator * factor}/{number.denominator * factor}"
    assert canonical(value) == canonical(ratio) == value


SEEDS = [
    "1 ", "1,", "11,", "111 ", "$1 ", "- ", "\n- 1", "= 1 ", "x = 1, ", "(1) ", "\\frac{",
    "\\boxed{", "\\sqrt{", "\\(", "$", "{", "answer: ", "Answer: 1\n", "The answer is 1. ",
    "is the answer ", "the final answer to the ", "**", "**1** ", "#### ", "because 1 ", "not 1 ",
    "1 or 2 ", "one hundred ", "(A) ", "(A) is not ", "option A ", "is not true ", "no, ",
    "Jan. 5, ", "J. R. ", "Rs. ", "\n1. ", "\nQuestion: ", "Sure:\nQuestion: ", "cannot be ",
    "I'm sorry ", "<answer>", "<think>", "3 x 10^8 ", "\u00bd ", " ", "\n", "_",
    "*", "Dr. ", "\\frac{A", "``` \u201c", "#",
]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_no_text_takes_long(seed):
    text = (seed * LONG)[:LONG]
    began = time.process_time()
    for opening in ("", "The answer is:\n", "#### ", "\\boxed{"):
        for kind in set(KINDS) - {"latex"}:
            extract(opening + text, kind, asked=Asked(("sand", "12", "none of these")))
            extract(f"{opening}{text[: LONG // 2]}\nx\ny", kind)
        listed(f"(A) x{text}y\n(B) z")
        read_draft(f"{opening}x{text}y", "stop", RULES)
        answer_end(opening + text)
        read_equations(opening + text)
    assert time.process_time() - began < 2  # some 30 readings, each far below a tenth of a second
