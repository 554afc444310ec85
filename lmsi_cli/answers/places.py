r"""Where in a text an answer may stand, and the small records that all kinds share.

Knows the shapes of answer sentences, boxes and run-on questions; nothing of what a value looks
like, which is each kind's own affair. A place is a half-open range of character positions:

    after_marker("So 6 * 7 = 42. The answer is 42.", "The answer is") -> Span(start=29, end=31)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

TRIGGER = "The answer is"

# A next question, written by a model that did not stop: everything from here on is not its answer.
_RUN_ON = re.compile(r"\n[ \t#*>]*(?:Q|[Qq]uestion|QUESTION)[ \t]*[0-9]*[ \t]*:")
# What may stand between "The answer is" and the value: spaces, a colon, emphasis, display maths.
_LEAD = r"(?:[\s:*_]|\\\[|\\\(|\$\$)*+"
# A full stop ends no sentence inside "3.5", "U.S." and "0.\overline{3}", nor after a short title.
_SHORT = "".join(
    rf"(?<!\b{word})" for word in ("Dr", "Mr", "Mrs", "Ms", "St", "Sept", r"[A-Z]\.[A-Z]")
)
_END = re.compile(rf"{_SHORT}\.(?![0-9A-Za-z\\])|[!?]|(?=\n)|\Z")  # the text is whole
# The text still grows: "3." may become "3.5".
_END_KNOWN = re.compile(rf"{_SHORT}\.(?=[^0-9A-Za-z\\])|[!?](?=\D)|(?=\n)")
_DEEP = r"[^{}]"
for _ in range(3):  # braces within braces: \boxed{\frac{\sqrt{2}}{2}}
    _DEEP = rf"(?:[^{{}}]|\{{{_DEEP}*+\}})"
_BOX = re.compile(rf"\\f?box(?:ed)?[ ]?\{{({_DEEP}*+)\}}")
_LAST_HASH = re.compile(r"####[ \t]*(?=[^\n]*\S[ \t]*\s*\Z)")
_REPLY = 80  # characters of a one-line reply that is an answer and nothing else


class Extraction(NamedTuple):
    """An answer: its canonical value, the words it was read from, where, and by which rule."""

    value: str
    raw: str
    rule: str
    start: int
    end: int


class Span(NamedTuple):
    """A half-open range of character positions."""

    start: int
    end: int


class Asked(NamedTuple):
    """What the question and its task say of the answer.

    ``choices`` are the options' own texts in the order of their letters, empty if unknown.
    ``percent`` makes 50% the same number as 0.5 and 1/2; else a percent sign is a unit.
    """

    choices: tuple[str, ...] = ()
    percent: bool = False


Place = Callable[[str, str], Span | None]


class Rule(NamedTuple):
    """A named place to look for the answer, and whether its first or its last value counts."""

    name: str
    place: Place
    last: bool = False


class Kind(NamedTuple):
    """What answers of one kind look like: rules in order, a finder and a canonical spelling."""

    rules: tuple[Rule, ...]
    find: Callable[[str, Span, bool, Asked], Span | None]
    canonical: Callable[[str, Asked], str | None]


def before_run_on(text: str) -> str:
    """Cut a path before a next question (a line opening with "Q:" or "Question:")."""
    found = _RUN_ON.search(text)
    return text[: found.start()] if found else text


def answer_end(text: str, trigger: str = TRIGGER, start: int = 0) -> int | None:
    """Find where the first answer sentence of a growing text is complete.

    Sampling asks this after every token. A "." at the very end does not count: the next token
    may turn "3." into "3.5". A newline ends the sentence as well, and is not part of it.

    Args:
        text: The path so far.
        trigger: The words before an answer.
        start: Search from here; it must not lie beyond the trigger's first letter, so
            ``max(0, length before the last token - len(trigger) - 2)`` is safe until it is found.

    Returns:
        The position after the sentence (``text[:end]`` ends with "The answer is 42."), or ``None``.
    """
    found = _trigger(trigger).search(text, start)
    if found is None:
        return None
    run_on = _RUN_ON.search(text, found.start())
    limit = run_on.start() if run_on else len(text)
    if found.end() >= limit:
        return None
    stop = (_END if run_on else _END_KNOWN).search(text, found.end(), limit)
    return stop.end() if stop else None


@lru_cache(maxsize=64)
def _trigger(words: str) -> re.Pattern[str]:
    """Match the trigger in any case and spacing, as whole words ("isn't" is not "is")."""
    body = r"\s+".join(map(re.escape, words.split()))
    close = r"(?!\w)" if words.rstrip()[-1:].isalnum() else ""
    return re.compile(rf"(?<!\w){body}{close}{_LEAD}", re.IGNORECASE)


def after_marker(text: str, trigger: str) -> Span | None:
    """Place: the rest of the first answer sentence."""
    found = _trigger(trigger).search(text)
    if found is None:
        return None
    stop = _END.search(text, found.end())
    return Span(found.end(), stop.start() if stop else len(text))


def after_hash(opening: re.Pattern[str] = _LAST_HASH) -> Place:
    """Place: the rest of the line after the first ``####`` (the style of GSM8K).

    Args:
        opening: Matches the hashes where they open an answer; four of them are also a Markdown
            heading. Without one only a last line counts.
    """

    def place(text: str, _trigger: str) -> Span | None:
        found = opening.search(text)
        if found is None:
            return None
        line = text.find("\n", found.end())
        return Span(found.end(), line if line >= 0 else len(text))

    return place


def in_box(text: str, _trigger: str) -> Span | None:
    r"""Place: the last closed ``\boxed{}``; models that box stop by themselves but correct it."""
    boxes = [Span(*m.span(1)) for m in _BOX.finditer(text)]
    return boxes[-1] if boxes else None


def anywhere(text: str, _trigger: str) -> Span | None:
    """Place: the whole text."""
    return Span(0, len(text))


def short_reply(text: str, _trigger: str) -> Span | None:
    """Place: the whole text, if it is one short line; a model that was asked for the answer."""
    span = trimmed(text, Span(0, len(text)), "")
    line = text[span.start : span.end]
    return span if line and "\n" not in line and len(line) <= _REPLY else None


def trimmed(text: str, place: Span, also: str = "\"'`*_\u2018\u2019\u201c\u201d") -> Span:
    """Narrow a place by outer blanks and the given characters; by full stops at its end."""
    inner = text[place.start : place.end]
    left = inner.lstrip(also + " \t\r\n")
    start = place.end - len(left)
    return Span(start, start + len(left.rstrip(also + ". \t\r\n")))


def rules(fallback: Rule, opening: re.Pattern[str] = _LAST_HASH) -> tuple[Rule, ...]:
    """The order of all kinds: marker, hash, box, and the kind's own fallback."""
    return (
        Rule("marker", after_marker),
        Rule("hash", after_hash(opening)),
        Rule("boxed", in_box),
        fallback,
    )
