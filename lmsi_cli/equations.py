"""The equations of a rationale: list them, and check them exactly.

Knows no records, votes or models, and evaluates with its own small parser over fractions, never
with ``eval``. What it cannot read for certain (units between the numbers, powers, unknowns) it
leaves out rather than guess:

    map(str, read_equations("5 * $3 = $15 and 2 apples + 3 = 5, so 1,000 - 15 = 985."))
    -> "5*3=15", "1000-15=985"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

Number = int | Fraction
_TOKEN = re.compile(
    r"(?:\\?[$€£][ ]?)?(?P<num>(?<![A-Za-z_0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?%?|(?<![\w.])\.[0-9]+%?)"
    r"|(?P<op>\^|(?<=[0-9)])\*\*(?=[0-9(])|[-+*/\u00d7\u00f7()=\u2212\u2013]|\\times|\\cdot|\\div"
    r"|x(?=[ \t]*[$(0-9]))"
)
_SAME = {"\u00d7": "*", "x": "*", r"\times": "*", r"\cdot": "*", "\u00f7": "/", r"\div": "/"}
_SAME |= dict.fromkeys("\u2212\u2013", "-")
# GSM8K's notes repeat the equation beside them; two stars around words are bold, not a power.
_NOISE = re.compile(r"<<[^<>\n]*>>|\*\*(?![0-9(])|(?<![0-9)])\*\*")
# Every token and every gap inside a run is made of these, so a run never leaves its stretch.
_STRETCH = re.compile(
    r"(?:[ \t]*+(?:[-+*/\u00d7\u00f7()=\u2212\u2013^0-9.,%$€£]++|\\(?:times|cdot|div|(?=[$€£]))"
    r"|x(?=[ \t]*[$(0-9])))++"
)
# What makes the number before it another: an unknown, a time, a power, a factorial, a remainder.
_GOES_ON = re.compile(
    r"[A-Za-z](?![A-Za-z])|:[0-9]|[!\u00b2\u00b3\u00b9\u2070-\u2079]|\\[a-z]"
    r"|[ ]?(?:R[ ]?[0-9]|(?:with )?(?:a )?remainder)"
)
_BINARY = ("+", "-", "*", "/")
_LONGEST = 100  # characters of one number
_MOST_TOKENS = 64  # a longer run is a model repeating itself, and would cost time and stack


class Equation(NamedTuple):
    """One equation: its sides as tokens, and whether all have exactly the same value."""

    sides: tuple[tuple[str, ...], ...]
    holds: bool

    def __str__(self) -> str:
        return "=".join("".join(side) for side in self.sides)


def read_equations(text: str) -> tuple[Equation, ...]:
    """Read the equations of a rationale in order."""
    if "<<" in text or "**" in text:
        text = _NOISE.sub("", text)
    found: list[Equation] = []
    for stretch in _STRETCH.finditer(text) if "=" in text else ():
        words, start = stretch[0], stretch.start()
        if "=" in words:
            line = text[text.rfind("\n", 0, start) + 1 : start]
            equations = _in_stretch(line[-2:] + words, bool(line.strip()))
            goes_on = words.rstrip().endswith("..") or _GOES_ON.match(text, stretch.end())
            unsure = goes_on and equations and not equations[-1].holds
            found += equations[:-1] if unsure else equations
    return tuple(found)


@lru_cache(maxsize=4096)  # paths of one question repeat one another's steps
def _in_stretch(text: str, begun: bool) -> tuple[Equation, ...]:
    """Read the equations of a stretch of arithmetic, given with the two characters before it.

    ``begun``: anything but blanks stands before it in its line.
    """
    found = []
    for run in _runs(text):
        sides = _sides(_tokens(run, begun))
        try:
            values = [_atom([")", *reversed(side), "("]) for side in sides]
        except (ValueError, ZeroDivisionError):
            continue  # words between the numbers, a power, a division by zero: not readable
        if len(sides) > 1 and max(map(len, sides)) > 2:
            # A percent sign too many is no error: "5 / 20 * 100 = 25%".
            percent = len(sides[-1]) == 1 and sides[-1][0].endswith("%")
            holds = len({*values}) == 1 or (percent and {*values[:-1]} == {values[-1] * 100})
            found.append(Equation(tuple(map(tuple, sides)), holds))
    return tuple(found)


def _runs(text: str) -> Iterator[list[re.Match[str]]]:
    """Yield the runs of tokens that are nothing but arithmetic, without mixed numbers (2 1/2)."""
    run: list[re.Match[str]] = []
    mixed = False
    for token in _TOKEN.finditer(text):
        apart = bool(run) and bool(text[run[-1].end() : token.start()].strip(" \t"))
        beside = bool(run) and not apart and bool(run[-1]["num"] and token["num"])
        if apart or beside:
            if not (mixed or beside):
                yield run
            run, mixed = [], beside
        run.append(token)
    if not mixed:
        yield run


def _tokens(run: list[re.Match[str]], begun: bool) -> list[str]:
    """Normalise a run; empty if it opens in the middle of an expression ("2 apples + 3 = 5")."""
    tokens = [t["num"].replace(",", "") if t["num"] else _SAME.get(t["op"], t["op"]) for t in run]
    while tokens and tokens[-1] in (*_BINARY, "=", "("):
        tokens.pop()
    if re.fullmatch("[0-9]:[0-9]", run[0].string[: run[0].start() + 1]):
        return []  # "8:30 + 2"
    if not tokens or tokens[0] not in _BINARY:
        return tokens
    if tokens[0] == "-" and run[1].start() == run[0].end():
        return tokens
    before = run[0].string[: run[0].start()].strip()
    return [] if begun or before else tokens[1:]  # at the start of a line it is a bullet


def _sides(tokens: list[str]) -> list[list[str]]:
    """Split at the equals signs, dropping brackets that close in another side: ``(2+3=5)``."""
    if len(tokens) > _MOST_TOKENS:
        return []
    return [_balanced(side) for side in " ".join(tokens).split("=") if side.strip()]


def _balanced(side: str) -> list[str]:
    """The tokens of a side, without brackets that have no partner in it."""
    while (paired := re.sub(r"\(([^()]*)\)", r"<\1>", side)) != side:  # from the inside out
        side = paired
    return side.translate(str.maketrans("<>", "()", "()")).split()


def _sum(rest: list[str]) -> Number:
    total = _product(rest)
    while rest[-1] in ("+", "-"):
        total += _product(rest) if rest.pop() == "+" else -_product(rest)
    return total


def _product(rest: list[str]) -> Number:
    total = _atom(rest)
    while rest[-1] in ("*", "/"):
        total = total * _atom(rest) if rest.pop() == "*" else Fraction(total) / _atom(rest)
    return total


def _atom(rest: list[str]) -> Number:
    """Compute a number or a bracket on top of a stack of tokens; ValueError if it is neither."""
    token = rest.pop()
    if token == "-":
        return -_atom(rest)
    if token == "(":
        value = _sum(rest)
        if rest.pop() != ")":
            raise ValueError("bracket left open")
        return value
    if len(token) > _LONGEST:
        raise ValueError("not a number")
    if token.isdecimal():
        return int(token)  # ten times as fast as a fraction, and equal to it
    return Fraction(token[:-1]) / 100 if token.endswith("%") else Fraction(token)
