r"""Multiple choice: an option named by its letter, however written, or by its own text.

Knows the options if the question lists them, one a line; otherwise a letter must be one of the
first ten.

    listed("Which is wet?\n(A) sand\n(B) water") -> ("sand", "water")
    canonical, with these options: "(b)" -> "B"   "option B" -> "B"   "water" -> "B"   "(c)" -> None

Running text is read from its end. A sentence that rules an option out names none. A line that
opens with a letter discusses the options one by one: it counts only if it says which one is right,
or if no other is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import ascii_uppercase

from lmsi_cli.answers import number, span
from lmsi_cli.answers.numerals import number_value
from lmsi_cli.answers.places import WRAPPED, Asked, Span, unwrapped
from lmsi_cli.answers.sentences import sentences

_LISTED = r"(?m)^[ \t]*\(?([%s])[).:][ \t]+(\S.*)$"
_NEAR = 40  # characters before a letter that may deny it
_UNTOLD = 10  # letters that count where the options are unknown
_NAMED = (
    r"(?:the[ ])?(?:(?:correct|right|best|final)[ ])?"
    r"(?:option|choice|answer|letter)[ \t]*(?:is|:)?[ \t]*"
)
_CLOSE = r"[ \t]*(?:[.,;:*_}\"'\]\n`$\\]|\Z|(?:because|since|as)\b)"
_ENCLOSED = r"\((?P<in>[A-Za-z])\)"
# "A", "I" and any small letter may be words: bare, they need punctuation or an end behind them.
_BARE = rf"(?P<bare>(?:[B-HJ-Z]|[A-Za-z](?=\)|{_CLOSE})))(?![\w'\u2019])"
_SURELY = (
    r"(?i:(?:clearly|definitely|likely|probably|obviously|simply|indeed|therefore|thus),?[ ])?"
)
_LETTER = re.compile(rf"{WRAPPED}{_SURELY}(?i:{_NAMED})?{WRAPPED}\{{?(?:{_ENCLOSED}|{_BARE})")
_INSIDE = re.compile(_ENCLOSED)
_ANYWHERE = re.compile(
    rf"(?:{_ENCLOSED}|(?i:\b{_NAMED}){WRAPPED}(?P<bare>[A-HJ-Z]|I(?={_CLOSE}))(?![\w'\u2019])"
    r"|(?:\b(?:is|be|was|['\u2019]s|choose|pick|select|with|say)[ ]"
    r"|(?i:so|thus|hence|therefore),?[ ]|\*\*|\A|(?<=\n))[ \t*_`$\[]{0,8}+"
    r"(?P<said>[A-Z])(?=[*_`$\]]{0,8}+(?:[.,;:)!]|[ \t]*+(?:\n|\Z)|[ ]is (?:correct|right)\b)))"
)
_SECOND = re.compile(
    r"\)?(?:[ ]*[/&][ ]*|,?[ ]+(?:or|and)[ ]+)(?i:option[ ]+)?"
    r"(?:\([A-Za-z]\)|[A-Z](?![\w'])|[a-z]\))"
    r"|[ ]*,[ ]*(?:\([A-Za-z]\)|[A-HJ-Z](?![\w']))|[ ]*\\text\{ ?(?:and|or)\b"
)
_DENIED = re.compile(r"[\s*]*(?:definitely |clearly )?(?:not|neither)\b", re.IGNORECASE)
_RULED_OUT = re.compile(
    r"\b(?:rul(?:e[sd]?|ing) (?:\w+ ){0,3}out|eliminat\w*|exclud\w*|discard\w*|not|neither|cannot"
    r"|incorrect|wrong|false|unlikely|unlike|except)\b|n['\u2019]t\b|[\u2717\u2718\u274c]",
    re.IGNORECASE,
)
_NOT_THIS = re.compile(
    r"(?:\b(?:not|cannot|unlike|rather than|instead of|excluding)|n['\u2019]t)"
    r"[ ](?:\w+[ ])?[*_(]*\Z",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    r"\b(?:correct|right|answer|best|true|fits|choose|select|pick)\b|[\u2713\u2714\u2705]",
    re.IGNORECASE,
)
_REASON = re.compile(r",?[ ](?:because|since|as|while|whereas|but)\b")
_THIS = re.compile(r"[\s*_]*(?:this|that|it|which) (?:is|must be)\b", re.IGNORECASE)
_SO = re.compile(r"[\s*_]*(?:so|therefore|thus|hence|in conclusion|consequently)\b", re.IGNORECASE)
_ITEM = re.compile(r"[ \t>*_#\-\u2022]*(?i:option[ ])?\(?[A-Za-z][).:]")
_BEHIND = re.compile(r"[).:*_]{1,4}[ \t]?([^\n]{1,80})(?:\n|\Z)")
_NONE = re.compile(r"\bnone of (?:the above|these|those|the others|them)\b", re.IGNORECASE)
HASHED = r"[*_`$]*\(?[A-Za-z]\)?[ \t.*_`$]*+(?:\n|\Z)"


def listed(question: str) -> tuple[str, ...]:
    """Read a question's options, lettered from A (or a) without a gap; empty if it lists none.

    A list of statements ("I. A point") may come before them: the last "A" opens the options.
    """
    for case in ("A-Z", "a-z"):
        found = re.findall(_LISTED % case, question)
        letters = "".join(letter.upper() for letter, _ in found)
        first = max(letters.rfind("A"), 0)
        if len(letters) - first > 1 and ascii_uppercase.startswith(letters[first:]):
            return tuple(option.rstrip(" \t") for _, option in found[first:])
    return ()


def find(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the option that a statement names, by letter or by its own text."""
    letter = _by_letter(text, place)
    if letter and _gainsaid(text, letter, place, asked):
        return None
    whole = unwrapped(text, place)
    if _same_text(text[slice(*whole)], asked):
        return whole
    return letter or _by_value(text, place, asked)


def _gainsaid(text: str, letter: Span, place: Span, asked: Asked) -> bool:
    """Whether a letter is followed by the text of another option: "(A) 21" where 21 is (C)."""
    behind = _BEHIND.match(text, letter.end, place.end)
    other = behind and _same_text(behind[1], asked)
    return bool(other) and other != _in_range(text[letter.start], asked)


def reply(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the option in a one-line reply, which may also be a whole sentence."""
    several = len(_names(text, _letters(text, place, asked))) > 1
    found = None if several else find(text, place, asked)
    return found or last(text, place, asked)


def last(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the option that running text concludes with."""
    items: list[Span] = []  # options that are only discussed
    right = False  # "This is the correct option." refers to the line before
    for sentence in reversed(sentences(text, place)):
        stated, letters = _without_reason(text, sentence, asked)
        words = text[slice(*stated)]
        denies = bool(_RULED_OUT.search(words))
        if not letters:
            if _SO.match(words) and not denies:
                return _by_value(text, stated, asked)
            right = not denies and bool(_THIS.match(words) and _RIGHT.search(words))
            continue
        if denies and not right:
            if kept := _kept(text, stated, letters):
                return kept
        elif len(_names(text, letters)) > 1:
            return None
        elif right or _RIGHT.search(words) or not (items or _ITEM.match(words)):
            return letters[-1]
        else:
            items += letters
        right = False
    return items[0] if len(_names(text, items)) == 1 else None


def _without_reason(text: str, sentence: Span, asked: Asked) -> tuple[Span, list[Span]]:
    """A sentence up to the reason that it gives, and the letters of options that it names."""
    letters = _letters(text, sentence, asked)
    reason = _REASON.search(text, letters[0].end, sentence.end) if letters else None
    end = reason.start() if reason else sentence.end
    return Span(sentence.start, end), [s for s in letters if s.end <= end]


def _kept(text: str, sentence: Span, letters: list[Span]) -> Span | None:
    """The only option that a sentence does not rule out: "(B), not (A)"."""
    begin = sentence.start
    kept = [s for s in letters if not _NOT_THIS.search(text[max(begin, s.start - _NEAR) : s.start])]
    return kept[0] if len(kept) == 1 < len(letters) else None


def _letters(text: str, place: Span, asked: Asked) -> list[Span]:
    """The letter of every option that a place names."""
    found = [Span(*m.span(m.lastgroup or 0)) for m in _ANYWHERE.finditer(text, *place)]
    known = [s for s in found if _in_range(text[s.start], asked)]
    return [s for s in known if not _gainsaid(text, s, place, asked)]


def _names(text: str, letters: list[Span]) -> set[str]:
    return {text[letter.start].upper() for letter in letters}


def _by_letter(text: str, place: Span) -> Span | None:
    """Find a letter at the start of a place, or in brackets anywhere; None if another follows."""
    if _DENIED.match(text, *place):
        return None
    found = _LETTER.match(text, *place) or _INSIDE.search(text, *place)
    if found is None or _SECOND.match(text, found.end(), place.end):
        return None
    return Span(*found.span(found.lastgroup or 0))


def _by_value(text: str, place: Span, asked: Asked) -> Span | None:
    """Find one option's text in a place, or its number; None if the place names two options."""
    if not asked.choices or _DENIED.match(text, *place):
        return None
    if found := _NONE.search(text, *place):
        return Span(*found.span())
    options = [re.escape(c.strip()) for c in sorted(asked.choices, key=len, reverse=True)]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(options)})(?!\w)", re.IGNORECASE)
    spans = [Span(*m.span()) for m in pattern.finditer(text, *place)]
    if not spans:
        return number.find(text, place, asked)
    return spans[0] if len({canonical(text[slice(*s)], asked) for s in spans}) == 1 else None


def canonical(text: str, asked: Asked) -> str | None:
    """Spell an option, given by its text, letter or number, as its capital letter."""
    if same := _same_text(text, asked):
        return same
    found = _LETTER.match(text.strip())
    if found and not text.strip()[found.end() :].strip(" ).}*\"'`$"):
        return _in_range(found["in"] or found["bare"], asked)
    value = number_value(text)
    return _only(value is not None and number_value(c) == value for c in asked.choices)


def _in_range(letter: str, asked: Asked) -> str | None:
    """The capital of a letter, if it may be an option's."""
    known = ascii_uppercase[: len(asked.choices) or _UNTOLD]
    return letter.upper() if letter.upper() in known else None


def _same_text(text: str, asked: Asked) -> str | None:
    """The only option with this text; a single letter never counts, since it may name another."""
    plain = span.canonical(text, asked)
    if plain is None or (len(plain) == 1 and plain.isalpha()):
        return None
    if _NONE.fullmatch(text.strip(" .")):
        return _only(bool(_NONE.search(c)) for c in asked.choices)
    return _only(span.canonical(c, asked) == plain for c in asked.choices)


def _only(hits: Iterable[bool]) -> str | None:
    """The letter of the only hit."""
    found = [letter for letter, hit in zip(ascii_uppercase, hits, strict=False) if hit]
    return found[0] if len(found) == 1 else None
