r"""From a model's words to an answer, and nothing else: find it, name the rule, make it canonical.

Knows nothing of models, files, votes or gold answers: text in, value out. An answer kind is a row
of ``KINDS``: where to look (named rules, in order), what a value looks like there, and its one
canonical spelling. The first rule that finds its *place* decides; if no value stands there, the
text has no answer, because an earlier number would be a step of the solution and not its result.

    extract("She has 3 * 14 = 42. The answer is $42.00.\nQ: Tom has 7")
    -> Extraction(value="42", raw="$42.00", rule="marker", start=35, end=41)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lmsi_cli.errors import LmsiError

TRIGGER = "The answer is"

# A next question, written by a model that did not stop: everything from here on is not its answer.
_RUN_ON = re.compile(r"\n[ \t#*>]*(?:Q|[Qq]uestion|QUESTION)[ \t]*[0-9]*[ \t]*:")
# What may stand between "The answer is" and the value: spaces, a colon, emphasis, display maths.
_LEAD = r"(?:[\s:*_]|\\\[|\\\(|\$\$)*+"
_END = re.compile(r"[.!?](?!\d)|(?=\n)|\Z")  # the text is whole
_END_KNOWN = re.compile(r"[.!?](?=\D)|(?=\n)")  # the text still grows: "3." may become "3.5"

_MINUS = "-\u2212\u2013\uff0d"  # hyphen, minus, en dash, full-width; first in every class: no range
# A minus is a sign if nothing to subtract from stands before it. One followed by a space is a sign
# only after "is", "=", ":" or "#": elsewhere it is a bullet or a dash.
_SIGN = (
    rf"(?:(?<![\w)\]}}])(?<![0-9)%][ \t])(?:[{_MINUS}+]|(?i:minus|negative)[ ])"
    rf"|(?:\A|(?<=is )|(?<=[=:#] ))[{_MINUS}][ ])"
)
_CURRENCY = r"\\?[$€£¥₹][ \t]?"
_COMMA = r"(?:,|\{,\}|\\,|,\\!|[\u00a0\u2009\u202f])"  # LaTeX and typographic spellings included
_PLAIN = (
    rf"(?:(?:[0-9]{{1,3}}(?:{_COMMA}[0-9]{{3}})+|[0-9]{{1,2}}(?:,[0-9]{{2}})+,[0-9]{{3}})(?![0-9])"
    r"(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2}(?![0-9]))?"
)
_RATIO = rf"{_PLAIN}[ \t]?/[ \t]?{_PLAIN}(?!\.?[0-9])"
_LATEX = r"(?:[0-9]+[ \t]?)?\\[dt]?frac[ ]?\{[ ]?-?[0-9]+[ ]?\}[ ]?\{[ ]?[0-9]+[ ]?\}"
_NUMBER = re.compile(
    rf"(?:(?P<sign>{_SIGN})(?:{_CURRENCY})?|{_CURRENCY}(?P<inner>[{_MINUS}+])?)?"
    rf"(?<!\w)(?<![0-9][.,])(?P<body>{_LATEX}|[0-9]+[ \t]{_RATIO}|{_RATIO}|{_PLAIN})"
)
# "3 + 4 = 7": the value is what the arithmetic comes to. "3 + 4", "1,5" and "10:30" have none.
_RESULT = re.compile(r"(?:[-+*/x\u00d7\u00f7().,%$0-9 \t\u2212=]|\\times|\\cdot|\\div)*=[ \t]*")
_UNFINISHED = re.compile(
    r"[ \t]*(?:[-+*/\u00d7\u00f7^:\u2212\u2013]|x(?=[ ]))[ \t]*[$0-9]|[.,][0-9]"
)

# Four hashes are also a Markdown heading ("#### Step 2", "#### 1. Costs"): only a number counts.
_HASH = re.compile(rf"####[ \t]*(?![0-9]+[.)][ \t]+[^\W\d])(?=[{_MINUS}+.0-9\\$€£¥₹])")
_BOX = re.compile(r"\\f?box(?:ed)?[ ]?\{((?:[^{}]|\{[^{}]*\})*)\}")
_LONGEST = 100  # characters; a longer "number" is a model stuck on a digit


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


class Rule(NamedTuple):
    """A named place to look for the answer, and whether its first or its last value counts."""

    name: str
    place: Callable[[str, str], Span | None]
    last: bool = False


class Kind(NamedTuple):
    """What answers of one kind look like: rules in order, a finder and a canonical spelling."""

    rules: tuple[Rule, ...]
    find: Callable[[str, Span, bool], Span | None]
    canonical: Callable[[str], str | None]


def extract(text: str, kind: str = "number", trigger: str = TRIGGER) -> Extraction | None:
    """Read the answer out of one path.

    Args:
        text: What the model wrote after the prompt; a run-on next question is ignored.
        kind: A key of ``KINDS``.
        trigger: The words before an answer; matched in any case and spacing.

    Returns:
        The answer, or ``None`` if there is none. A marker with no value in its sentence ("The
        answer is unknown.") is none: the model declined, and an earlier number is only a step.

    Raises:
        LmsiError: The kind is unknown.
    """
    way = _kind(kind)
    text = before_run_on(text)
    for rule in way.rules:
        place = rule.place(text, trigger)
        if place is None:
            continue
        span = way.find(text, place, rule.last)
        value = way.canonical(text[span.start : span.end]) if span else None
        if span is None or value is None:
            return None
        return Extraction(value, text[span.start : span.end], rule.name, *span)
    return None


def canonical(value: str, kind: str = "number") -> str | None:
    """Spell a written answer, such as a gold answer, in its kind's one canonical form.

    For numbers: an integer as ``42``, a terminating decimal as ``0.75``, else lowest terms ``1/3``.
    Equal values have equal spellings; currency, percent signs and units are dropped.

    Returns:
        ``None`` if the text does not hold exactly one value.

    Raises:
        LmsiError: The kind is unknown.
    """
    return _kind(kind).canonical(value)


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


def _kind(name: str) -> Kind:
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        raise LmsiError(f"unknown answer kind {name!r}", hint=f"kinds: {known}") from None


@lru_cache(maxsize=64)
def _trigger(words: str) -> re.Pattern[str]:
    """Match the trigger in any case and spacing, as whole words ("isn't" is not "is")."""
    body = r"\s+".join(map(re.escape, words.split()))
    close = r"(?!\w)" if words.rstrip()[-1:].isalnum() else ""
    return re.compile(rf"(?<!\w){body}{close}{_LEAD}", re.IGNORECASE)


def _after_marker(text: str, trigger: str) -> Span | None:
    """Place: the rest of the first answer sentence."""
    found = _trigger(trigger).search(text)
    if found is None:
        return None
    stop = _END.search(text, found.end())
    return Span(found.end(), stop.start() if stop else len(text))


def _after_hash(text: str, _trigger: str) -> Span | None:
    """Place: the rest of the line after the first ``####`` (the style of GSM8K)."""
    found = _HASH.search(text)
    if found is None:
        return None
    line = text.find("\n", found.end())
    return Span(found.end(), line if line >= 0 else len(text))


def _in_box(text: str, _trigger: str) -> Span | None:
    r"""Place: the last closed ``\boxed{}``; models that box stop by themselves but correct it."""
    boxes = [Span(*m.span(1)) for m in _BOX.finditer(text)]
    return boxes[-1] if boxes else None


def _anywhere(text: str, _trigger: str) -> Span | None:
    """Place: the whole text."""
    return Span(0, len(text))


def _find_number(text: str, place: Span, last: bool) -> Span | None:
    """Find the first (or last) number of a place, or what its arithmetic comes to."""
    numbers = list(_NUMBER.finditer(text, *place))
    if not numbers:
        return None
    found: re.Match[str] | None = numbers[-1 if last else 0]
    if found and (sum_ := _RESULT.match(text, found.start(), place.end)):
        found = _NUMBER.match(text, sum_.end(), place.end)
    if found is None or _UNFINISHED.match(text, found.end(), place.end):
        return None
    return Span(*found.span())


def _canonical_number(text: str) -> str | None:
    """Spell the only number of a short text as integer, terminating decimal or ``p/q``."""
    found = _NUMBER.search(text)
    if found is None or len(found["body"]) > _LONGEST:
        return None
    if re.search(r"[0-9]", text[: found.start()] + text[found.end() :]):
        return None
    try:
        value = _fraction(found["body"])
    except ZeroDivisionError:
        return None
    sign = (found["sign"] or found["inner"] or "+").strip().lower()
    return _spell(value if sign == "+" else -value)


def _fraction(body: str) -> Fraction:
    r"""Read a number's body exactly: ``1,200.50``, ``3 / 4``, ``1 1/2``, ``\frac{3}{4}``."""
    body = re.sub(r"\\[dt]?frac[ ]?\{([^}]*)\}[ ]?\{([^}]*)\}", r" \1/\2", body)
    body = re.sub(r"\s*/\s*", "/", re.sub(_COMMA, "", body))
    parts = (word.partition("/") for word in body.split())
    return sum((Fraction(top) / Fraction(bottom or 1) for top, _, bottom in parts), Fraction(0))


def _spell(value: Fraction) -> str:
    """Write a fraction in its one canonical form."""
    top, bottom = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    if bottom == 1:
        return f"{sign}{top}"
    # 10**k is a multiple of 2**a * 5**b from k = max(a, b) on, which its bit length bounds.
    places = next((k for k in range(1, bottom.bit_length()) if pow(10, k, bottom) == 0), None)
    if places is None:
        return f"{sign}{top}/{bottom}"
    whole, rest = divmod(top * 10**places // bottom, 10**places)
    return f"{sign}{whole}.{rest:0{places}d}"


KINDS: dict[str, Kind] = {
    "number": Kind(
        rules=(
            Rule("marker", _after_marker),
            Rule("hash", _after_hash),
            Rule("boxed", _in_box),
            Rule("last-number", _anywhere, last=True),
        ),
        find=_find_number,
        canonical=_canonical_number,
    ),
}
