r"""Multiple choice: letters, in the many ways of writing one, and the options' own texts.

Knows the options if the question lists them, one a line; without them a letter must be one of the
first ten.

    listed("Which is wet?\n(A) sand\n(B) water") -> ("sand", "water")
    canonical, with these options: "(b)" -> "B"   "option B" -> "B"   "water" -> "B"   "(c)" -> None
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import ascii_uppercase

from lmsi_cli.answers import number, span
from lmsi_cli.answers.places import (
    Asked,
    Kind,
    Rule,
    Span,
    after_hash,
    after_marker,
    anywhere,
    in_box,
    short_reply,
    trimmed,
)

_LISTED = tuple(
    re.compile(rf"^[ \t]*\(?([{letters}])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
    for letters in ("A-Z", "a-z")
)
_UNTOLD = 10  # letters, where the options are unknown
_NAMED = r"(?:the[ ])?(?:option|choice|answer|letter)[ \t]*(?:is|:)?[ \t]*"
_ENCLOSED = r"\((?P<in>[A-Za-z])\)"
# "A" and "I" are also words, any small letter may be one: a bare letter ends what it stands in.
_BARE = (
    r"(?P<bare>(?:[B-HJ-Z]|[A-Za-z](?=\)|[ \t]*(?:[.,;:*}\"'\]\n]|\Z|(?:because|since|as)\b))))"
    r"(?![\w'\u2019])"
)
_OPEN = r"(?:\\(?:text|textbf|mathrm|mathbf)\{|[\s\[\"'*_(\u201c])*"
_LETTER = re.compile(rf"{_OPEN}(?i:{_NAMED})?(?:{_ENCLOSED}|{_BARE})")
_INSIDE = re.compile(_ENCLOSED)
_ANYWHERE = re.compile(rf"(?:{_ENCLOSED}|(?i:\b{_NAMED})(?P<bare>[A-Z])(?![\w'\u2019]))")
_SECOND = re.compile(
    r"\)?(?:[ ]*[/&][ ]*|,?[ ]+(?:or|and)[ ]+)(?i:option[ ]+)?"
    r"(?:\([A-Za-z]\)|[A-Z](?![\w'])|[a-z]\))"
    r"|[ ]*,[ ]*\([A-Za-z]\)"
)
_DENIED = re.compile(r"[\s*]*(?:definitely |clearly )?(?:not|neither)\b", re.IGNORECASE)
_NONE = re.compile(r"\bnone of (?:the above|these|those|the others|them)\b", re.IGNORECASE)
_HASH = re.compile(r"####[ \t]*(?=\(?[A-Za-z]\)?[ \t.]*(?:\n|\Z))")


def listed(question: str) -> tuple[str, ...]:
    """Read the options that a question lists, lettered from A (or a) without a gap; else nothing.

    A list of statements ("I. A point") may stand before them: the last "A" opens the options.
    """
    return next(filter(None, (_lettered(p.findall(question)) for p in _LISTED)), ())


def _lettered(found: list[tuple[str, str]]) -> tuple[str, ...]:
    letters = "".join(letter.upper() for letter, _ in found)
    first = max(letters.rfind("A"), 0)
    told = letters[first:]
    if len(told) < 2 or told != ascii_uppercase[: len(told)]:
        return ()
    return tuple(text for _, text in found[first:])


def _find(text: str, place: Span, last: bool, asked: Asked) -> Span | None:
    """Find the option that a place names, by letter or by its own text."""
    if last:
        found = [_letter_span(m) for m in _ANYWHERE.finditer(text, *place)]
        found = [s for s in found if _index(text[s.start : s.end], asked) is not None]
        return found[-1] if found else None
    return _own_text(text, place, asked) or _by_letter(text, place) or _by_value(text, place, asked)


def _letter_span(m: re.Match[str]) -> Span:
    return Span(*m.span("in" if m["in"] else "bare"))


def _by_letter(text: str, place: Span) -> Span | None:
    """Find a letter at the start of a place, or in brackets anywhere; two of them are none."""
    if _DENIED.match(text, *place):
        return None
    found = _LETTER.match(text, *place) or _INSIDE.search(text, *place)
    if found is None or _SECOND.match(text, found.end(), place.end):
        return None
    return Span(*found.span("in")) if found["in"] else _letter_span(found)


def _own_text(text: str, place: Span, asked: Asked) -> Span | None:
    """Take the place itself, if it is the text of an option."""
    whole = trimmed(text, place)
    return whole if _same_text(text[whole.start : whole.end], asked) is not None else None


def _by_value(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the text of one option in a place, or its number; two different ones are none."""
    if not asked.choices or _DENIED.match(text, *place):
        return None
    if found := _NONE.search(text, *place):
        return Span(*found.span())
    options = [re.escape(c.strip()) for c in sorted(asked.choices, key=len, reverse=True)]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(options)})(?!\w)", re.IGNORECASE)
    spans = [Span(*m.span()) for m in pattern.finditer(text, *place)]
    told = {_index(text[s.start : s.end], asked) for s in spans}
    if len(told) == 1:
        return spans[0]
    return None if told else number.KIND.find(text, place, False, asked)


def _canonical(text: str, asked: Asked) -> str | None:
    """Spell an option as its capital letter."""
    index = _index(text, asked)
    return None if index is None else ascii_uppercase[index]


def _index(text: str, asked: Asked) -> int | None:
    """Which option a text means: by its text, its letter, or its number."""
    same = _same_text(text, asked)
    if same is not None:
        return same
    found = _LETTER.match(text.strip())
    if found and not text.strip()[found.end() :].strip(" ).}*\"'"):
        return _in_range(found["in"] or found["bare"], asked)
    return _same_number(text, asked)


def _in_range(letter: str, asked: Asked) -> int | None:
    index = ascii_uppercase.index(letter.upper())
    return index if index < (len(asked.choices) or _UNTOLD) else None


def _same_text(text: str, asked: Asked) -> int | None:
    """The only option with this text; a single letter is none, since it may name another."""
    plain = span.KIND.canonical(text, asked)
    if plain is None or (len(plain) == 1 and plain.isalpha()):
        return None
    if _NONE.fullmatch(text.strip(" .")):
        return _only(bool(_NONE.search(c)) for c in asked.choices)
    return _only(span.KIND.canonical(c, asked) == plain for c in asked.choices)


def _same_number(text: str, asked: Asked) -> int | None:
    """The only option with this number."""
    value = number.number_value(text)
    if value is None:
        return None
    return _only(number.number_value(c) == value for c in asked.choices)


def _only(hits: Iterable[bool]) -> int | None:
    found = [i for i, hit in enumerate(hits) if hit]
    return found[0] if len(found) == 1 else None


KIND = Kind(
    (
        Rule("marker", after_marker),
        Rule("hash", after_hash(_HASH)),
        Rule("boxed", in_box),
        Rule("short-reply", short_reply),
        Rule("last-choice", anywhere, last=True),
    ),
    _find,
    _canonical,
)
