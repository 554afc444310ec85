r"""Small records that all answer kinds share, and the simplest places where an answer stands.

Knows boxes, hash lines and short replies; what a value looks like, only its kind knows. A place is
a half-open range of character positions:

    boxes(r"So $\boxed{42}$ pens, $\boxed 2$ each.") -> [Said(at=4, place=Span(11, 13)), ...]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

TRIGGER = "The answer is"

_DEEP = r"[^{}]"
for _ in range(3):  # braces within braces: \boxed{\frac{\sqrt{2}}{2}}
    _DEEP = rf"(?:[^{{}}]|\{{{_DEEP}*+\}})"
GROUP = rf"\{{{_DEEP}*+\}}"  # a pattern: braces and what they hold
# Without braces TeX boxes a single token, but models mean the whole number.
_BOX = re.compile(
    r"box(?:(?<=\\box)|(?<=\\fbox)|(?<=\x08box)|(?<![A-Za-z]box))(?:ed)?"
    rf"(?:[ ]?\{{(?P<in>{_DEEP}*+)\}}"
    r"|(?<=\\boxed)[ ]?(?P<bare>[-+]?\\?\$?[0-9][0-9,.]*(?<=[0-9])|[A-Z](?![A-Za-z])))"
)
# What models wrap around a value: blanks, quotes, emphasis, code, formula marks, commands.
WRAPPED = (
    r"(?:\\(?:text(?:bf|it|rm)?|math(?:bf|rm|sf)|mbox|f?box(?:ed)?)[ ]?\{"
    r"|\\[(\[]|[\s\"'`$*_\[\u201c])*+"  # possessive: two in a row would divide marks in many ways
)
_WRAPPED = re.compile(WRAPPED)
_CLOSING = re.compile(r"[}$]|\\[)\]]")
LAST_LINE = r"\S[^\n]*+\s*\Z"  # what is not blank, up to the text's end
MOST = 30  # statements of one sort that are looked at, mostly a text's last ones
_REPLY = 80  # characters of a one-line reply that is an answer and nothing else


class Span(NamedTuple):
    """A half-open range of character positions."""

    start: int
    end: int


class Asked(NamedTuple):
    """What the question and its task say about the answer.

    ``choices`` are the options' own texts in the order of their letters, empty if unknown.
    ``percent`` makes 50% the same number as 0.5 and 1/2; otherwise a percent sign is a unit.
    ``question`` is its text: a number that it gives is nothing new in a conclusion.
    """

    choices: tuple[str, ...] = ()
    percent: bool = False
    question: str = ""


class Said(NamedTuple):
    """A place where an answer may stand: where its opening words begin, and the place itself.

    ``running``: it is running text whose last value counts; otherwise it states one answer.
    """

    at: int
    place: Span
    running: bool = False


def hashes(value: str) -> Callable[[str, str], list[Said]]:
    """Places: the rest of the line after the first ``####`` (the style of GSM8K).

    Args:
        value: A pattern of what an answer begins with; four hashes are also a Markdown heading.
    """
    line = re.compile(rf"####[ \t]*+(?P<rest>(?={value})[^\n]*)")

    def places(text: str, _trigger: str) -> list[Said]:
        # from the last line on: each earlier one would be read to its end, and in vain
        last = text.rfind("\n", 0, len(text.rstrip())) + 1 if value == LAST_LINE else 0
        found = line.search(text, last)
        return [Said(found.start(), Span(*found.span("rest")))] if found else []

    return places


def boxes(text: str, _trigger: str = "") -> list[Said]:
    r"""Places: what stands in each closed ``\boxed{}``, or behind one without braces."""
    found = list(_BOX.finditer(text))[-MOST:]
    return [Said(m.start(), Span(*m.span(m.lastgroup or 0))) for m in found]


def in_box(text: str) -> Span | None:
    r"""Place: the last closed ``\boxed{}``; models that box stop by themselves; some correct it."""
    found = boxes(text)
    return found[-1].place if found else None


def anywhere(text: str, _trigger: str) -> list[Said]:
    """Places: the whole text."""
    return [Said(0, Span(0, len(text)), running=True)]


def short_reply(text: str, _trigger: str) -> list[Said]:
    """Places: the whole text if it is one short line, as when only the answer was asked for."""
    span = trimmed(text, Span(0, len(text)), "")
    line = text[span.start : span.end]
    return [Said(0, span)] if line and "\n" not in line and len(line) <= _REPLY else []


def trimmed(text: str, place: Span, also: str = "\"'`*_\u2018\u2019\u201c\u201d") -> Span:
    """Strip blanks and the given characters from a place's ends, and full stops from its end."""
    inner = text[place.start : place.end]
    left = inner.lstrip(also + " \t\r\n")
    start = place.end - len(left)
    return Span(start, start + len(left.rstrip(also + ". \t\r\n")))


def unwrapped(text: str, place: Span) -> Span:
    r"""Strip as ``trimmed`` does, and commands, too: ``$\boxed{\text{Paris}}$`` to ``Paris``."""
    opened = _WRAPPED.match(text, *place)
    start = opened.end() if opened else place.start
    marks = text[place.start : start]
    if "\\" not in marks and "$" not in marks:
        return trimmed(text, place)
    close = _CLOSING.search(text, start, place.end)
    return trimmed(text, Span(start, close.start() if close else place.end))
