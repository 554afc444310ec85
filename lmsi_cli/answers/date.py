"""Dates, whole or partial, in ISO 8601 spelling.

Knows English month names, and reads 07/04/2012 in the American order unless its first part cannot
be a month. Missing parts are left out:

    canonical: "July 4th, 2012" -> "2012-07-04"   "July 2012" -> "2012-07"   "May 24" -> "--05-24"
"""

from __future__ import annotations

import datetime
import re

from lmsi_cli.answers.places import Asked, Span

_MONTHS = re.findall(
    r"\w+",
    "january february march april may june july august september october november december",
)
_SPELT = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS)
_NAME = rf"(?P<m>{_SPELT}|sept)\b\.?"
_DAY, _YEAR = r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?", r"(?P<y>[0-9]{4})"
_FORMS = (
    rf"{_YEAR}[/-](?P<m>[0-9]{{1,2}})[/-](?P<d>[0-9]{{1,2}})",
    rf"{_YEAR}-(?P<m>[0-9]{{2}})",
    r"--(?P<m>[0-9]{2})-(?P<d>[0-9]{2})",
    rf"(?P<a>[0-9]{{1,2}})[/.-](?P<b>[0-9]{{1,2}})[/.-]{_YEAR}",
    rf"{_NAME} (?:the )?{_DAY}(?:,? (?:of )?{_YEAR})?",
    rf"(?:the )?{_DAY} (?:of )?{_NAME}(?:,? (?:of )?{_YEAR})?",
    rf"{_NAME},? (?:of )?{_YEAR}",
    r"(?P<y>[12][0-9]{3})",
)
_PATTERNS = tuple(re.compile(rf"(?<![\w/-]){form}(?![\w/-])", re.IGNORECASE) for form in _FORMS)
# Between two dates: "5 May, which is four days after 1 May", "1 May + 4 days = 5 May".
_RELATION = re.compile(
    r"[^.\n]{0,40}\b(?:after|before|from|later|earlier|because|since|as)\b", re.IGNORECASE
)
_RESULT = re.compile(r"=|\b(?:which|that) (?:is|was|gives|means)\b|\b(?:so|but)\b", re.IGNORECASE)
HASHED = r"[^\n]{0,200}?[0-9]"


def find(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the date that a place names, in its fullest form; None if it names several."""
    found = _dates(text, place)
    if len({canonical(text[slice(*s)], asked) for s in found}) <= 1:
        return found[0] if found else None
    if _RELATION.match(text, found[0].end, found[1].start):
        return found[0]
    results = [m.end() for m in _RESULT.finditer(text, found[0].end, place.end)]
    last = [s for s in found if results and s.start >= results[-1]]
    return last[0] if len(last) == 1 else None


def last(text: str, place: Span, _asked: Asked) -> Span | None:
    """Find the last date of a place."""
    return next(reversed(_dates(text, place)), None)


def _dates(text: str, place: Span) -> list[Span]:
    """The dates of a place in order, without those that are a part of another."""
    found = {m.span() for pattern in _PATTERNS for m in pattern.finditer(text, *place)}
    parts = {(a, b) for a, b in found for c, d in found if c <= a and b <= d and (a, b) != (c, d)}
    return sorted(Span(*span) for span in found - parts)


def canonical(text: str, _asked: Asked) -> str | None:
    """Spell a date that stands alone; None if the calendar has no such day."""
    text = " ".join(text.split()).strip(" .\"'*")
    found = next((m for p in _PATTERNS if (m := p.fullmatch(text))), None)
    if found is None:
        return None
    parts = found.groupdict()
    year, month, day = parts.get("y"), parts.get("m"), parts.get("d")
    if "a" in parts:
        month, day = (parts["b"], parts["a"]) if int(parts["a"]) > 12 else (parts["a"], parts["b"])
    if month and not month.isdigit():
        month = str(1 + [name[:3] for name in _MONTHS].index(month.lower()[:3]))
    try:  # a leap year stands in for an unknown one
        datetime.date(int(year or 2000), int(month or 1), int(day or 1))
    except ValueError:
        return None
    return "-".join([year or "-", *(part.zfill(2) for part in (month, day) if part)])
