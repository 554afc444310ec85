r"""Numbers as people write them: where one begins and ends, and its exact value.

Knows signs, currency, grouping, ratios, mixed numbers, LaTeX and orders of magnitude, English words
and other scripts' digits; nothing of answers. Values are fractions, never floats:

    number_value("$1,200.50") -> 2401/2    number_value("1.5 million") -> 1500000
    number_value("-6/8") -> -3/4           number_value("two hundred and five") -> 205
    number_value(r"3 \times 10^{8}") -> 300000000
    ascii_digits("\uff14\uff12 pens, \u0663 each") -> "42 pens, 3 each", at the same positions

A number that is only a part of something else ("2\sqrt{3}", "cm^2", "x_1") does not count.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction

from lmsi_cli.answers.places import GROUP

MINUS = "-\u2212\u2013\uff0d"  # hyphen (first: no range in a class), minus, en dash, full-width
CURRENCY = "$€£¥₹"
# A minus is a sign if there is nothing before it to subtract from. Followed by a space it is one
# only after "is", "=", ":" or "#": elsewhere it is a bullet or a dash.
_SIGN = (
    rf"(?:(?<![\w)\]}}])(?<![0-9)%][ \t])(?:[{MINUS}+]|(?i:minus|negative)[ ])"
    rf"|(?:\A|(?<=is )|(?<=[=:#] )|(?<=[{{($`]))[{MINUS}][ ])"
)
_CURRENCY = rf"\\?[{CURRENCY}][ \t]?"
_COMMA = r"(?:,|\{,\}|\\,|,\\!|[\u00a0\u2009\u202f])"  # LaTeX and typographic spellings included
_PLAIN = (
    rf"(?:(?:[0-9]{{1,3}}(?:{_COMMA}[0-9]{{3}})+|[0-9]{{1,2}}(?:,[0-9]{{2}}){{1,9}},[0-9]{{3}}"
    # groups with blanks: up to an end, or behind a currency's sign, or in thousands
    r"|[1-9][0-9]{0,2}(?:(?:[ ~]|\\ )[0-9]{3})+(?=[.!?]?(?:\n|\Z)|\}|\$|\\\))"
    rf"|(?<=[{CURRENCY}])[0-9]{{1,3}}(?:[ ][0-9]{{3}})+|[0-9]{{1,3}}(?:[ ][0-9]{{3}}){{0,6}}[ ]000)"
    r"(?![0-9])(?:\.[0-9]+)?"
    r"|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2}(?![0-9A-Za-z]))?"
)
_ALONE = r"[0-9]++(?=[.!?]?(?:\n|\Z))"  # the commonest form, and the quickest to recognise
_RATIO = rf"{_PLAIN}[ \t]?/[ \t]?{_PLAIN}(?!\.?[0-9])"
_ARGUMENT = r"(?:\{[ ]?-?[0-9][0-9,]*(?:\.[0-9]+)?[ ]?\}|[ ]?[0-9])"
_FRACTION = rf"(?:[0-9]+[ \t]?)?\\[cdt]?frac[ ]?{_ARGUMENT}[ ]?{_ARGUMENT}"
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_PARTS = {"half": 2, "third": 3, "quarter": 4}
_AND_PART = r"[0-9]+[ ](?:and|&)[ ](?:a|one)[ -](?:half|third|quarter)\b"
_SMALL = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
_EXPONENT = rf"\{{[ ]?[{MINUS}+]?[0-9]{{1,2}}[ ]?\}}|[{MINUS}]?[0-9]{{1,2}}"
_TEN = rf"10(?:\^[ ]?(?:{_EXPONENT})|[{_SMALL}]{{1,3}})"
_TIMES_TEN = rf"[ \t]?(?:\\times|\\cdot|[x*\u00d7\u00b7])[ \t]?{_TEN}"
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALES |= {"lakh": 5, "crore": 7, "k": 3, "bn": 9, "m": 6, "b": 9}
_WORD = r"(?:hundred|thousand|million|billion|trillion|lakh|crore)s?"
_SCALE = (
    rf"(?:[ \t]?(?:\\[ ,;])?(?:\\text[ ]?\{{[ ]?)?{_WORD}(?:[ ]{_WORD})?(?![A-Za-z])"
    r"|(?<=[0-9])[kK](?![\w-]))"
)
# Formulas whose numbers are not values by themselves.
_OPAQUE = (
    rf"\\[cdt]?frac[ ]?{GROUP}[ ]?{GROUP}|\\sqrt[ ]?(?:\[[^\]\n]{{0,9}}\])?[ ]?(?:{GROUP}|[0-9])"
    r"|\u221a[ ]?(?:\([^()\n]{0,40}\)|[0-9.]+)"
    rf"|\\(?:log|ln|binom)[ ]?(?:_?{GROUP}|_[0-9]|[0-9]++)*+"
)
NUMBER = re.compile(
    rf"(?=[{MINUS}+{CURRENCY}.0-9{_VULGAR}\\\u221a]|[mnMN](?i:inus|egative)[ ])"  # for speed
    rf"(?:(?:(?P<sign>{_SIGN})(?P<money>{_CURRENCY})?|(?P<coin>{_CURRENCY})(?P<inner>[{MINUS}+])?)?"
    rf"(?<![\w^])(?!(?<=\\)[0-9])(?<![\^_]\{{)(?<![0-9][.,:])"
    rf"(?P<body>{_ALONE}|{_FRACTION}|{_TEN}|{_AND_PART}"
    rf"|(?:[0-9]+[ \t]?)?[{_VULGAR}]|[0-9]+[ \t]{_RATIO}|{_RATIO}|{_PLAIN})"
    rf"(?P<ten>{_TIMES_TEN})?(?P<scale>{_SCALE}|(?<=[0-9])(?:M|B|[ ]?bn)\b)?"
    rf"|(?P<opaque>{_OPAQUE}))"
)
# What marks a number as a factor of something without a decimal spelling, or of an unknown.
SYMBOLIC = re.compile(
    r"[ \t]?(?:\\?,|\\cdot|\\times|[*\u00d7])?[ \t]?"
    r"(?:\\(?:sqrt|[cdt]?frac|pi|theta|log|ln|sin|cos|tan)\b|\.?\\(?:overline|bar)\b"
    r"|[\u221a\u03c0]|pi\b)|[a-z](?:[ ]?[-+=^](?=[ ]?[0-9a-z])|(?=\$|[ ]?\\[)\]]))"
    r"|(?:[ ]?[-+*/][ ]?)?[nqu-zDXYZ](?=[ ]?\Z)"
)
_LONGEST = 100  # characters; a longer "number" is a model stuck on a digit


def number_value(text: str) -> Fraction | None:
    """The only number of a short text, in digits or words; None if there is none, or another."""
    found = NUMBER.search(text)
    if found is None:
        return _words_value(text)
    beside = text[: found.start()] + text[found.end() :]
    if found["opaque"] or SYMBOLIC.match(text, found.end()) or re.search("[0-9]", beside):
        return None
    return number_of(found)


def number_of(found: re.Match[str]) -> Fraction | None:
    """The value of one match of ``NUMBER``; None if it has none."""
    if found["opaque"] or len(found["body"]) > _LONGEST:
        return None
    try:
        value = Fraction(found["body"]) if found["body"].isdigit() else _body(found["body"])
    except ZeroDivisionError:
        return None
    value *= _scale(found) * (_power(found["ten"]) if found["ten"] else 1)
    sign = (found["sign"] or found["inner"] or "+").strip().lower()
    return value if sign == "+" else -value


def _body(body: str) -> Fraction:
    r"""Read a number's body exactly: ``1,200.5``, ``3 / 4``, ``1 1/2``, ``\frac{3}{4}``, ``2½``."""
    if "^" in body or body[-1] in _SMALL:
        return _power(body)
    body = re.sub(r"(?:and|&).*(half|third|quarter)", lambda part: f"1/{_PARTS[part[1]]}", body)
    if body[-1] in _VULGAR:
        body = f"{body[:-1]} {unicodedata.normalize('NFKC', body[-1])}"
    body = re.sub(rf"\\[cdt]?frac[ ]?({_ARGUMENT})[ ]?({_ARGUMENT})", r" \1/\2", body)
    body = re.sub(rf"{_COMMA}|(?<=[0-9])(?:[ ~]|\\ )(?=[0-9]{{3}}\b)(?![0-9]+/)", "", body)
    body = re.sub(r"\s*[/\u2044]\s*", "/", re.sub(r"[{}]", "", body))
    parts = (word.partition("/") for word in body.split())
    return sum((Fraction(top) / Fraction(bottom or 1) for top, _, bottom in parts), Fraction(0))


def _power(ten: str) -> Fraction:
    r"""Read a power of ten: ``\times 10^{8}``, ``x 10⁻³``."""
    digits = unicodedata.normalize("NFKC", ten[ten.index("10") + 2 :])
    digits = re.sub(rf"[{MINUS}]", "-", re.sub(r"[\^{}+ ]", "", digits))
    return Fraction(10) ** int(digits)


def _scale(found: re.Match[str]) -> int:
    """Read an order of magnitude; "M", "B" and "bn" count only for money."""
    names = re.findall(r"[a-z]+", (found["scale"] or "").lower())
    if not (found["money"] or found["coin"]):
        names = [n for n in names if n not in ("m", "b", "bn")]
    return int(10 ** sum(_SCALES.get(n.removesuffix("s"), 0) for n in names))


def spell(value: Fraction) -> str:
    """Write a fraction in its one canonical form."""
    bottom = value.denominator
    # 10**k is a multiple of 2**a * 5**b for all k >= max(a, b), which the bit length bounds.
    places = next((k for k in range(bottom.bit_length()) if pow(10, k, bottom) == 0), None)
    if places is None:
        return str(value)
    return format(Decimal(f"{value * 10**places}e-{places}"), "f")


_ONES = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {w: i for i, w in enumerate(_ONES)} | {w: 10 * i for i, w in enumerate(_TENS, 2)}
_GROUPS = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ANY = "|".join(sorted([*_UNITS, "hundred", *_GROUPS], key=len, reverse=True))
_WORDED = rf"(?:(?:minus|negative) )?(?:{_ANY})\b(?:(?:[ -]| and )(?:{_ANY})\b)*"
_REST = (  # makes it another number: "two thirds", "two dozen", "two point five", "one in four"
    r"half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?"
    r"|hundredths?|dozens?|point|squared|cubed|in (?:a|every|two|three|four|five|six|ten)"
)
# At the start of a place; "one of them" and "one which" hold a pronoun.
WORDS = re.compile(
    rf"(?:exactly |about |approximately |a total of )?(?P<number>(?>{_WORDED}))"
    rf"(?![ -](?:{_REST})\b)(?![\w\u2013-])"
    r"(?! of (?:the|these|those|them)\b)(?! wh| that\b)"
    # "three hours and thirty minutes" and "two or three" are two values
    rf"(?! (?:and|or|to) )(?! [a-z]+,? (?:and|or|to) (?:a |an )?(?:{_ANY}|half|quarter)\b)",
    re.IGNORECASE,
)
# Digits in Arabic, Persian and Urdu, Devanagari, Bengali and in mathematical fonts, full-width
# forms of ASCII, and the fraction slash.
_FOREIGN = re.compile(
    "[\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef\U0001d7ce-\U0001d7ff\uff01-\uff5e\u2044]"
)


def ascii_digits(text: str) -> str:
    """Replace digits of these scripts, and full-width characters, by their ASCII forms."""
    return text if text.isascii() else _FOREIGN.sub(_ascii, text)


def _ascii(found: re.Match[str]) -> str:
    if found[0] == "\u2044":
        return "/"
    digit = unicodedata.decimal(found[0], None)
    return unicodedata.normalize("NFKC", found[0]) if digit is None else str(digit)


def _words_value(text: str) -> Fraction | None:
    """Read the number in words that opens a text; None if there is none, or it is malformed."""
    found = WORDS.match(text.strip())
    if found is None:
        return None
    words = re.split(r"[ -]", found["number"].lower().replace(" and ", " "))
    negative = words[0] in ("minus", "negative")
    value = _sum(words[negative:])
    return None if value is None else Fraction(-value if negative else value)


def _sum(words: list[str]) -> int | None:
    """Sum words from the left; None for a list such as "two three"."""
    total = group = 0
    room = 1000  # the next plain word must be smaller than this
    for word in words:
        if word in _UNITS:
            if _UNITS[word] >= room:
                return None
            group += _UNITS[word]
            room = 10 if _UNITS[word] >= 20 else 1
        elif word == "hundred":
            if not 0 < group < 20:
                return None
            group, room = group * 100, 100
        else:
            if total % (_GROUPS[word] * 1000):  # the scales fall: "two thousand million" is none
                return None
            total, group, room = total + max(group, 1) * _GROUPS[word], 0, 1000
    return total + group
