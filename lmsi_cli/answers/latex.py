r"""Mathematical expressions in LaTeX, brought to a canonical spelling by ``math-verify``.

Knows notation, not truth. A plain number is spelled as numbers are. Anything else goes to a child
process (``formula.py``), which has one second of CPU time for it. Equal expressions are then
found by comparing spellings, and every ballot is parsed once. What the grammar does not know, or
cannot finish, keeps its own tidied spelling:

    canonical: "\dfrac12" -> "0.5"   "(1+x)^2" -> "x^{2} + 2 x + 1"   "\text{Tuesday}" -> "tuesday"
"""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache

from lmsi_cli.answers import number
from lmsi_cli.answers.places import LAST_LINE, Asked, Span, in_box, trimmed
from lmsi_cli.apart import Apart
from lmsi_cli.errors import LmsiError

SECONDS = 1.0  # of CPU time per expression; an ordinary one needs a tenth
_LONGEST = 300  # characters
_TIDY = (
    (re.compile(r"\\[cdt]frac"), r"\\frac"),
    (re.compile(r"\\frac ?([0-9]) ?([0-9])(?![0-9])"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?<!\\)\\(?:left|right|displaystyle|[!,;: ])"), ""),  # not the end of a row
    (re.compile(r"\\(?:text|textbf|mathrm|mbox) ?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
    (re.compile(r"\s+"), " "),
)
_BASED = re.compile(r"[0-9]\}? ?_")  # 11_6 is a number in base 6; the grammar drops the base
_FORMULA = re.compile(
    r"(?<!\\)\$\$?(?P<dollars>(?:[^$\\]|\\[\s\S])+)\$(?![0-9])|\\\((?P<round>(?:[^\\]|\\[^)])+)\\\)|\\\[(?P<square>(?:[^\\]|\\[^\]])+)\\\]"
)
_CLOSED = re.compile(r"\\[)\]]|(?<!\\)\$(?![0-9])")
_UNIT = re.compile(
    r"(?<=[0-9}.])(?:[ ~]|\\[,;:! ])*\\(?:text|mathrm|mbox|textrm)[ ]?\{[^{}]*\}"
    r"(?:\^\{?[23]\}?)?\s*\Z"
)
_SIDES = re.compile(r"(?P<left>.*[^<>!=])=(?P<right>[^=]+)", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ENVELOPE = "$. \t\n"
HASHED = LAST_LINE


_CHILD = Apart("lmsi_cli.answers.formula", SECONDS)


def find(text: str, place: Span, _asked: Asked) -> Span | None:
    """Take what a place boxes, else its first formula, else the whole place."""
    if inner := in_box(text[slice(*place)]):
        return Span(place.start + inner.start, place.start + inner.end)
    if formula := _FORMULA.search(text, *place):
        return Span(*formula.span(formula.lastgroup or 0))
    closed = _CLOSED.search(text, *place)  # its opening mark stands before the place
    span = trimmed(text, Span(place.start, closed.start() if closed else place.end), "*_")
    return span if span.end > span.start else None


def last(text: str, place: Span, _asked: Asked) -> Span | None:
    """Take the last formula of running text."""
    formulas = list(_FORMULA.finditer(text, *place))
    return Span(*formulas[-1].span(formulas[-1].lastgroup or 0)) if formulas else None


def canonical(text: str, asked: Asked) -> str | None:
    """Spell an expression; None if nothing is there or it is far too long."""
    tidy = _tidied(text) if len(text) <= 2 * _LONGEST else ""
    if not tidy or len(tidy) > _LONGEST:
        return None
    bare = tidy.replace(r"\frac", "").replace("{,}", "")
    closed = tidy.count("{") == tidy.count("}")
    is_number = closed and not re.search(r"[A-Za-z()\[\]^=!,]", bare)
    plain = number.canonical(tidy, asked) if is_number else None
    return plain or _parsed(tidy) or " ".join(tidy.lower().split())


def _tidied(text: str) -> str:
    """Drop what only changes how an expression looks, and a unit after it."""
    text = _UNIT.sub("", text.strip(_ENVELOPE))
    for pattern, instead in _TIDY:
        text = pattern.sub(instead, text)
    text = text.strip(_ENVELOPE)
    sides = _SIDES.fullmatch(text)  # of arithmetic, its result is the answer
    if sides and not re.search("[A-Za-z]", _COMMAND.sub("", sides["left"])):
        text = sides["right"].strip()
    return re.sub(r"\A[A-Za-z] ?(?:=|\\in\b) ?(?=[^=]+\Z)", "", text)  # of "x = 5", 5 is


@lru_cache(maxsize=65536)
def _parsed(tidy: str) -> str | None:
    """Spell an expression in the child process; None if it is words or takes too much."""
    if _BASED.search(tidy) or not re.search(r"[0-9\\^_=+]|\b[a-z]\b", tidy):
        return None
    if importlib.util.find_spec("math_verify") is None:
        hint = "pip install '.[latex]' in lmsi's folder"
        raise LmsiError("answers in LaTeX need the package math-verify", hint=hint)
    spelled: str | None = _CHILD.ask(tidy)
    return _tidied(spelled) if spelled else None
