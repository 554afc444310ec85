"""Yes, no, and "it is not possible to tell", as natural-language inference needs it.

Knows the words for each of the three; nothing of the questions:

    canonical: "True" -> "yes"   "No." -> "no"   "cannot be determined" -> UNKNOWN
"""

from __future__ import annotations

import re

from lmsi_cli.answers.places import Asked, Kind, Rule, Span, anywhere, rules

UNKNOWN = "it is not possible to tell"
_UNKNOWN = (
    r"(?:it(?:['\u2019]s| is) )?(?:not possible|impossible) to (?:tell|say|know|determine)"
    r"|(?:it )?(?:cannot|can ?not|can['\u2019]t) be (?:determined|told|known|inferred)"
    r"|not enough (?:information|evidence)|undetermined|unknown"
)
_WORD = (
    rf"(?P<unknown>{_UNKNOWN})|(?P<yes>yes|true|yeah|yep)"
    r"|(?P<no>nope|false|no(?! (?:one|doubt|idea|way|matter|longer|more|less)\b))"
)
_VALUE = re.compile(rf"\b(?:{_WORD})\b", re.IGNORECASE)
# In running text "no" is mostly a determiner: only one that opens a sentence is an answer.
_OPENING = re.compile(
    rf"(?:(?:\A|[.!?:\n]|\b(?:so|thus|hence|therefore),?)[\s*\"]*)(?P<value>{_WORD})"
    r"\b(?=[\s*\"]*(?:[.,!?;\n]|\Z))",
    re.IGNORECASE,
)
_HASH = re.compile(r"####[ \t]*(?=(?:yes|no|true|false)\b)", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:not|never|neither|either|n['\u2019]t)[\s\"'*]*\Z", re.IGNORECASE)
_BOTH = re.compile(r"[\s\"'*,]*(?:and|or|nor|/)[\s\"'*]*(?:yes|no|true|false)\b", re.IGNORECASE)


def _find(text: str, place: Span, last: bool, _asked: Asked) -> Span | None:
    """Find the first value of a place, or the last that opens a sentence."""
    if last:
        found = [Span(*m.span("value")) for m in _OPENING.finditer(text, *place)]
        return found[-1] if found else None
    first = _VALUE.search(text, *place)
    if first is None or _BOTH.match(text, first.end(), place.end):
        return None
    return None if _DENIED.search(text[place.start : first.start()]) else Span(*first.span())


def _canonical(text: str, _asked: Asked) -> str | None:
    """Spell a value that stands alone: ``yes``, ``no`` or ``UNKNOWN``."""
    found = _VALUE.fullmatch(text.strip(" \t\n\"'*."))
    if found is None:
        return None
    return UNKNOWN if found["unknown"] else str(found.lastgroup)


KIND = Kind(rules(Rule("last-yesno", anywhere, last=True), _HASH), _find, _canonical)
