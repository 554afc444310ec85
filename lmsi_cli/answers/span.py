"""Free answers: short ones, compared as SQuAD compares them, and whole texts, word for word.

Knows words, not meanings. A span loses case, articles and punctuation. A number in a span, or a
span that is a date, gets its canonical spelling, as DROP needs it:

    canonical: "The Eiffel Tower!" -> "eiffel tower"   "1,200 yards" -> "1200 yards"
               "May 4, 1863" -> "1863-05-04"

A text that is itself the answer (``TEXT``) has its blanks collapsed; a vote over such texts says
little.

Sources: the normalisation of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250) and of DROP (Dua et
al. 2019, arXiv 1903.00161).
"""

from __future__ import annotations

import re
import unicodedata

from lmsi_cli.answers import date
from lmsi_cli.answers.numerals import number_value, spell
from lmsi_cli.answers.places import LAST_LINE, Asked, Span, unwrapped

_ARTICLES = frozenset({"a", "an", "the"})
_NUMERIC = re.compile(r"[-\u2212]?[$€£]?[0-9][0-9.,]*(?:/[0-9]+)?%?")
_REASON = re.compile(r",? because\b", re.IGNORECASE)
HASHED = LAST_LINE
_LONGEST = 200  # characters; more is an essay, not a span


def find(text: str, place: Span, _asked: Asked) -> Span | None:
    """Take the whole place, without quotes and without a reason that follows."""
    reason = _REASON.search(text, *place)
    span = unwrapped(text, Span(place.start, reason.start() if reason else place.end))
    return span if 0 < span.end - span.start <= _LONGEST else None


last = find


def canonical(text: str, asked: Asked) -> str | None:
    """Join the words' canonical spellings, or spell a date; None if no word is left."""
    day = date.canonical(text, asked)
    if day and "-" in day:  # more than a year, which is spelled as a number
        return day
    words = [word for part in text.split() if (word := _word(part))]
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(kept or words) or None


def _word(part: str) -> str:
    """Spell one word: a number as numbers are spelled, else lower case without punctuation."""
    bare = part.strip(".,;:!?\"'()")
    sign = part[: part.index(bare)].endswith(".") if bare else False  # ".5" is a number, too
    numeric = f"0.{bare}" if sign and bare.isdigit() else bare
    if _NUMERIC.fullmatch(numeric) and (value := number_value(numeric)) is not None:
        return spell(value)
    kept = (c for c in part.lower() if not unicodedata.category(c).startswith("P"))
    return "".join(c for c in kept if c not in "$+<=>^`|~")


def whole(text: str, place: Span, _asked: Asked) -> Span | None:
    """Take the whole place without its outer blanks."""
    found = re.compile(r"\S(?:.*\S)?", re.DOTALL).search(text, *place)
    return Span(*found.span()) if found else None


def collapsed(text: str, _asked: Asked) -> str | None:
    """Collapse blanks; None if nothing else is there."""
    return " ".join(text.split()) or None
