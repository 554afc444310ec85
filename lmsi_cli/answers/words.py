r"""Numbers that are not written in ASCII digits: in English words, and in other scripts' digits.

Knows nothing of answer rules. Digits are replaced one for one, so that positions in a text stay:

    words_value("three thousand two hundred and five") -> Fraction(3205)
    ascii_digits("\uff14\uff12 pens, \u0663 each") -> "42 pens, 3 each"
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {
    **{word: i for i, word in enumerate(_SMALL)},
    **{word: 10 * i for i, word in enumerate(_TENS, 2)},
}
_SCALES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ANY = "|".join(sorted([*_UNITS, "hundred", *_SCALES], key=len, reverse=True))
_NUMBER = rf"(?:(?:minus|negative) )?(?:{_ANY})\b(?:(?:[ -]| and )(?:{_ANY})\b)*"
# At the start of a place; "one of them" and "one which" hold a pronoun.
WORDS = re.compile(
    rf"(?:exactly |about |approximately |a total of )?(?P<number>{_NUMBER})"
    r"(?! of (?:the|these|those|them)\b)(?! wh| that\b)"
    # "three hours and thirty minutes" and "two or three" are two values
    rf"(?! (?:and|or|to) )(?! [a-z]+,? (?:and|or|to) (?:a |an )?(?:{_ANY}|half|quarter)\b)",
    re.IGNORECASE,
)
_WIDE = range(0xFF01, 0xFF5F)  # full-width forms of ASCII
_SCRIPTS = (
    range(0x0660, 0x066A),  # Arabic
    range(0x06F0, 0x06FA),  # Persian, Urdu
    range(0x0966, 0x0970),  # Devanagari
    range(0x09E6, 0x09F0),  # Bengali
    range(0x1D7CE, 0x1D800),  # mathematical: bold, double-struck, sans-serif, monospace
)
_ASCII = {code: chr(code - 0xFEE0) for code in _WIDE} | {
    code: str(unicodedata.decimal(chr(code))) for block in _SCRIPTS for code in block
}
_FOREIGN = re.compile(f"[{''.join(f'{chr(b[0])}-{chr(b[-1])}' for b in (_WIDE, *_SCRIPTS))}]")


def ascii_digits(text: str) -> str:
    """Replace each of these digits, and each full-width sign, by its ASCII form."""
    return text if text.isascii() or not _FOREIGN.search(text) else text.translate(_ASCII)


def words_value(text: str) -> Fraction | None:
    """Read a text that begins with a number in words; None if it does not, or misuses them."""
    found = WORDS.match(text.strip())
    if found is None:
        return None
    words = re.split(r"[ -]", found["number"].lower().replace(" and ", " "))
    negative = words[0] in ("minus", "negative")
    value = _value(words[negative:])
    return None if value is None else Fraction(-value if negative else value)


def _value(words: list[str]) -> int | None:
    """Sum words from the left; a number list such as "two three" is none."""
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
            if total % (_SCALES[word] * 1000):  # the scales fall: "two thousand million" is none
                return None
            total, group, room = total + max(group, 1) * _SCALES[word], 0, 1000
    return total + group
