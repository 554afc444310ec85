r"""Mathematical expressions in LaTeX, brought to one spelling through ``math-verify``.

Knows notation, not truth. A plain number is spelled as numbers are. Anything else is parsed by
math-verify's LaTeX grammar alone: its other reader hands text to ``eval`` and is never used. What
the grammar does not know, or cannot digest within the limit, keeps its own tidied letters:

    canonical: "\dfrac12" -> "0.5"   "(1+x)^2" -> "x**2 + 2*x + 1"   "\text{Tuesday}" -> "tuesday"
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from lmsi_cli.answers.number import number_value, spell
from lmsi_cli.answers.places import Asked, Kind, Rule, Span, rules, trimmed
from lmsi_cli.errors import LmsiError

SECONDS = 1.0  # per expression; sympy can think for hours about a line of text
_LONGEST = 300  # characters
_TIDY = (
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\frac ?([0-9]) ?([0-9])(?![0-9])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\(?:left|right|displaystyle|[!,;: ])"), ""),
    (re.compile(r"\\(?:text|textbf|mathrm|mbox) ?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
    (re.compile(r"\s+"), " "),
)
# Big integers are made inside C, where no limit reaches: towers, long exponents, factorials.
_EXPLOSIVE = re.compile(r"\^\s*\{?[^{}]*[0-9]{4}|\^[^\^]*\^|!|[0-9]{40}")
_ENVELOPE = "$ \t\n"


class _Late(Exception):
    """The time for one expression is up."""


def _find(text: str, place: Span, last: bool, _asked: Asked) -> Span | None:
    """Take the whole place, or the last formula between dollars."""
    if last:
        formulas = list(re.finditer(r"\$([^$\n]+)\$", text[place.start : place.end]))
        return Span(*formulas[-1].span(1)) if formulas else None
    formula = re.match(r"[^$]*\$([^$]+)\$", text[place.start : place.end])
    if formula:
        return Span(place.start + formula.start(1), place.start + formula.end(1))
    span = trimmed(text, place, "*_")
    return span if span.end > span.start else None


def _canonical(text: str, _asked: Asked) -> str | None:
    """Spell an expression; None if nothing is there or it is far too long."""
    tidy = _tidied(text)
    if not tidy or len(tidy) > _LONGEST:
        return None
    if re.fullmatch(r"[^A-Za-z()\[\]^=]*", re.sub(r"\\frac|\\%", "", tidy)) and "," not in tidy:
        value = number_value(tidy)
        if value is not None:
            return spell(value)
    return _parsed(tidy) or " ".join(tidy.lower().split())


def _tidied(text: str) -> str:
    """Drop what only changes how an expression looks."""
    for pattern, instead in _TIDY:
        text = pattern.sub(instead, text)
    text = text.strip(_ENVELOPE + ".")
    return re.sub(r"\A[A-Za-z] ?= ?(?=[^=]+\Z)", "", text)  # "x = 5" answers with 5


@lru_cache(maxsize=4096)
def _parsed(tidy: str) -> str | None:
    """Parse and expand one expression; None if it is words, too big, or takes too long."""
    if _EXPLOSIVE.search(tidy) or not re.search(r"[0-9\\^_=+]|\b[a-z]\b", tidy):
        return None
    parse, config = _reader()
    with _limited(SECONDS):
        found = parse(
            f"${tidy}$",
            extraction_config=(config,),
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        return _expanded(found[0]) if found and not isinstance(found[0], str) else None
    return None


def _expanded(expression: Any) -> str:  # noqa: ANN401 - sympy's own types
    """Multiply out, so that a product and its sum are spelled alike."""
    expand = getattr(expression, "expand", None)
    return str(expand() if expand else expression)


def _reader() -> tuple[Any, Any]:
    try:
        from math_verify import LatexExtractionConfig, parse
    except ImportError:
        hint = "pip install 'lmsi[latex]'"
        raise LmsiError("answers in LaTeX need the package math-verify", hint=hint) from None
    return parse, LatexExtractionConfig()


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Leave the block, silently, when its time is up; on Windows and in threads nothing can."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring(_signum: int, _frame: object) -> None:
    raise _Late


KIND = Kind(
    rules(Rule("last-formula", lambda text, _: Span(0, len(text)), last=True)), _find, _canonical
)
