"""Equations: what is read, what is left out, and the exact check."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.equations import read_equations


def equations(text):
    return tuple(map(str, read_equations(text)))


def equations_hold(text):
    """Whether every equation is exactly true; None if there is none."""
    found = read_equations(text)
    return all(e.holds for e in found) if found else None


@pytest.mark.parametrize(
    ("text", "found", "holds"),
    [
        ("20 * 12 = 240 and 6 * 12 = 72, so it is 240 + 72 = 312.",
         ("20*12=240", "6*12=72", "240+72=312"), True),
        ("In May she sold 48/2 = <<48/2=24>>24 clips.", ("48/2=24",), True),
        ("3 + 4 = 8", ("3+4=8",), False),
        ("Total = $1,200.50 * 2 = $2,401.", ("1200.50*2=2401",), True),
        ("2 x 3 = 6, 2 \u00d7 3 = 6, 6 \u00f7 2 = 3, 5 \u2212 2 = 3",
         ("2*3=6", "2*3=6", "6/2=3", "5-2=3"), True),
        ("( 3 + 4 ) * 2 = 14", ("(3+4)*2=14",), True),
        ("2 + 3 = 5 * 4 = 20", ("2+3=5*4=20",), False),
        ("20% * 50 = 10", ("20%*50=10",), True),
        ("1 / 3 + 1 / 6 = .5", ("1/3+1/6=.5",), True),
        ("- 3 * 4 = 12\n* 2 * 2 = 4", ("3*4=12", "2*2=4"), True),
        ("12. 4 * 2 = 8", ("4*2=8",), True),
        ("**3 * 4 = 12**", ("3*4=12",), True),
        ("2 apples + 3 * 2 = 8", (), None),
        ("2^3 * 4 = 32 and 2**3 = 8", (), None),
        ("x = 5 and 5 = 5", (), None),
        ("45 - 15 = 3x, 36 = 4 * 3n", (), None),
        ("12 = 3 \u00d7 2\u00b2, 120 = 5 * 4!", (), None),
        ("2 1/2 * 4 = 10 and 1 + 3.5 = 4 1/2", (), None),
        ("17 / 5 = 3 remainder 2, 60 / 7 = 8 R 4", (), None),
        ("10 / 3 = 3.33...", (), None),
        ("(5/20) * 100 = 25%", ("(5/20)*100=25%",), True),
        ("5 * 3 = 16 pens", ("5*3=16",), False),
        ("3 / 0 = 1", (), None),
        ("", (), None),
        ("(" * 5000, (), None),
        ("1 + " * 500 + "1 = 501", (), None),
    ],
)  # fmt: skip
def test_equations(text, found, holds):
    assert equations(text) == found
    assert equations_hold(text) is holds


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from("+-*/"))
def test_any_true_equation_holds_and_any_false_one_does_not(a, b, op):
    exact = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b)}[op]
    assert equations_hold(f"So {a:,} {op} {b:,} = {exact}.") is True
    assert equations_hold(f"So {a:,} {op} {b:,} = {exact + 1}.") is False


@given(st.text("0123456789+-*/=() .,x$%\n^", max_size=80))
def test_any_arithmetic_soup_is_survived(text):
    found = equations(text)
    assert (equations_hold(text) is None) == (not found)
    assert all(" " not in e and "=" in e for e in found)
