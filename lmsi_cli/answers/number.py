r"""Numbers: found among words, units and LaTeX, and spelled exactly.

Knows no rules of where to look beyond what opens a number; values are fractions, never floats.
Signs, currency, grouping, ratios, mixed numbers and words are read:

    canonical: "$1,200.50" -> "1200.5"   "-6/8" -> "-0.75"   "2/3" -> "2/3"   "forty-two" -> "42"
"""

from __future__ import annotations

import re
from fractions import Fraction

from lmsi_cli.answers.places import Asked, Kind, Rule, Span, anywhere, rules
from lmsi_cli.answers.words import WORDS, words_value

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
_PERCENT = re.compile(r"[ \t]?(?:\\?%|percent\b|per cent\b)")
_LONGEST = 100  # characters; a longer "number" is a model stuck on a digit


def _find(text: str, place: Span, last: bool, asked: Asked) -> Span | None:
    """Find the first (or last) number of a place, or what its arithmetic comes to."""
    numbers = list(_NUMBER.finditer(text, *place))
    if not numbers:
        return None if last else _in_words(text, place)
    found: re.Match[str] | None = numbers[-1 if last else 0]
    if found and (sum_ := _RESULT.match(text, found.start(), place.end)):
        found = _NUMBER.match(text, sum_.end(), place.end)
    if found is None or _UNFINISHED.match(text, found.end(), place.end):
        return None
    sign = _PERCENT.match(text, found.end(), place.end) if asked.percent else None
    return Span(found.start(), (sign or found).end())


def _in_words(text: str, place: Span) -> Span | None:
    """Find a number in words, where the answer begins with it; elsewhere "one" is a pronoun."""
    found = WORDS.match(text, place.start, place.end)
    return Span(*found.span("number")) if found else None


def _canonical(text: str, asked: Asked) -> str | None:
    """Spell the only number of a short text as integer, terminating decimal or ``p/q``."""
    value = number_value(text)
    if value is not None and asked.percent and _PERCENT.search(text):
        value /= 100
    return None if value is None else spell(value)


def number_value(text: str) -> Fraction | None:
    """The only number of a short text; None if there is none, or more than one."""
    found = _NUMBER.search(text)
    if found is None:
        return words_value(text)
    if len(found["body"]) > _LONGEST:
        return None
    if re.search(r"[0-9]", text[: found.start()] + text[found.end() :]):
        return None
    try:
        value = _fraction(found["body"])
    except ZeroDivisionError:
        return None
    sign = (found["sign"] or found["inner"] or "+").strip().lower()
    return value if sign == "+" else -value


def _fraction(body: str) -> Fraction:
    r"""Read a number's body exactly: ``1,200.50``, ``3 / 4``, ``1 1/2``, ``\frac{3}{4}``."""
    body = re.sub(r"\\[dt]?frac[ ]?\{([^}]*)\}[ ]?\{([^}]*)\}", r" \1/\2", body)
    body = re.sub(r"\s*/\s*", "/", re.sub(_COMMA, "", body))
    parts = (word.partition("/") for word in body.split())
    return sum((Fraction(top) / Fraction(bottom or 1) for top, _, bottom in parts), Fraction(0))


def spell(value: Fraction) -> str:
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


KIND = Kind(rules(Rule("last-number", anywhere, last=True), _HASH), _find, _canonical)
