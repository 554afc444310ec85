"""Equations: what is read, what is left out, and the exact check."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.equations import read_equations


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("20 * 12 = 240 and 6 * 12 = 72, so 240 + 72 = 312.", "20*12=240 6*12=72 240+72=312"),
        ("In May she sold 48/2 = <<48/2=24>>24 clips.", "48/2=24"),
        ("3 + 4 = 8", "3+4=8?"),
        ("Total = $1,200.50 * 2 = $2,401.", "1200.50*2=2401"),
        ("2 x 3 = 6, 2 \u00d7 3 = 6, 6 \u00f7 2 = 3, 5 \u2212 2 = 3", "2*3=6 2*3=6 6/2=3 5-2=3"),
        ("( 3 + 4 ) * 2 = 14", "(3+4)*2=14"),
        ("2 + 3 = 5 * 4 = 20", "2+3=5*4=20?"),
        ("20% * 50 = 10", "20%*50=10"),
        ("1 / 3 + 1 / 6 = .5", "1/3+1/6=.5"),
        ("- 3 * 4 = 12\n* 2 * 2 = 4", "3*4=12 2*2=4"),
        ("12. 4 * 2 = 8", "4*2=8"),
        ("**3 * 4 = 12**", "3*4=12"),
        ("(5/20) * 100 = 25%", "(5/20)*100=25%"),
        ("5 * 3 = 16 pens", "5*3=16?"),
        ("2 apples + 3 * 2 = 8", ""),
        ("2^3 * 4 = 32 and 2**3 = 8", ""),
        ("x = 5 and 5 = 5", ""),
        ("45 - 15 = 3x, 36 = 4 * 3n", ""),
        ("12 = 3 \u00d7 2\u00b2, 120 = 5 * 4!", ""),
        ("2 1/2 * 4 = 10 and 1 + 3.5 = 4 1/2", ""),
        ("17 / 5 = 3 remainder 2, 60 / 7 = 8 R 4", ""),
        ("10 / 3 = 3.33...", ""),
        ("8:30 + 2 = 10:30, A12 + 3 = 15", ""),
        ("At 8:30: 5 + 3 = 8. Total:5+3=8", "5+3=8 5+3=8"),
        ("3 / 0 = 1", ""),
        ("", ""),
        ("(" * 5000, ""),
        ("1 + " * 500 + "1 = 501", ""),
    ],
)
def test_equations_are_read_and_false_ones_marked(text, found):
    told = [f"{e}{'' if e.holds else '?'}" for e in read_equations(text)]
    assert " ".join(told) == found


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from("+-*/"))
def test_any_true_equation_holds_and_any_false_one_does_not(a, b, op):
    exact = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b)}[op]
    for value, holds in ((exact, True), (exact + 1, False)):
        assert [e.holds for e in read_equations(f"So {a:,} {op} {b:,} = {value}.")] == [holds]


@given(st.text("0123456789+-*/=() .,x$%\n^", max_size=80))
def test_any_arithmetic_soup_is_survived(text):
    assert all(" " not in str(e) and "=" in str(e) for e in read_equations(text))
