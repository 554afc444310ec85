r"""Numbers as answers: which number a statement, or the end of a solution, arrives at.

Knows equations, units, ranges and denials; ``numerals`` knows how a number is written. An
equation's value follows its last equals sign. Without an equation there must be a single value: two
side by side ("3 hours and 30 minutes", "10 or 15") give none:

    "5 hours * $12/hour = $60" -> "60"      "not 5 but 6" -> "6"      "between 10 and 15" -> None
    "42 pens in 7 boxes" -> "42"            "7 (3 + 4 = 7)" -> "7"    "50% of 84" -> None
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from lmsi_cli.answers.numerals import (
    CURRENCY,
    MINUS,
    NUMBER,
    SYMBOLIC,
    WORDS,
    number_of,
    number_value,
    spell,
)
from lmsi_cli.answers.places import Asked, Said, Span, boxes
from lmsi_cli.answers.sentences import sentences

Numeral = re.Match[str]
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)|\u2248|\\approx\b")
_UNKNOWN = re.compile(r"[ ]*\\?[A-Za-z]\w*[ .$\\)]*")  # of "10 = b"
_NEXT_EQUATION = re.compile(r"[,;](?![0-9])|\b(?:and|or)\b|\n")
_UNFINISHED = re.compile(
    rf"[ \t]*(?:[{MINUS}+*/\u00d7\u00f7:]|x(?=[ ])|\\(?:times|cdot|div)\b)[ \t]*[({CURRENCY}0-9\\]"
    r"|\^[ ]?\{?[0-9A-Za-z]|[.,][0-9]"
    r"|[ ]?(?:\\?%|percent)?(?:\\text\{)?[ ](?:of|out of)[ ](?:the[ ]|\})?\$?[0-9]"
)
# "x - 15": an unknown before the number, not a letter that is a unit or a label.
_TERM = re.compile(rf"(?<![A-Za-z\\])[nqu-zDXYZ][ ]?[{MINUS}+*/][ ]?\Z")
# In a box, no value: "Jim - 3", "1.1D + 2100", "60b_1", "5!"; but not "24-hour" or "1e-5".
_FORMULA = re.compile(
    r"(?<![\\A-Za-z])(?![eE][-+])[A-Za-z]\w*[ ]?[-+*][ ]?[0-9]|[0-9][A-Za-z]\w*_"
    r"|[A-Za-z0-9](?:[ ][-+*][ ]|[ ]?\+[ ]?)[A-Za-z]|[0-9]!"
)
# What may follow an answer without being part of it; "which" and "since" may also lead to one.
_REASON = r",?[ ](?:because|given that|due to)\b"
_AT = r"(?:\$|\\\))?,?[ ](?:attained[ ])?(?:when|if|at|for|with)[ ](?:\$|\\\()?[a-z][ ]?="
_REMARK = re.compile(
    rf"{_REASON}|{_AT}|,?[ ](?:since|as there|where|which)\b"
    r"|[ ]\([^()\n]*+\)?+(?![ ]*[-+*/=^\u00d7\u00f70-9])"
)
_BECAUSE = re.compile(
    rf"{_REASON}|{_AT}|,?[ ](?:since|as there)\b(?=[^=]*\Z)|[ ]\([^()\n]*+\)(?=[\W_]*\Z)"
)
_SINCE = re.compile(rf"{_REASON}|,?[ ]since\b")
_TURNED = re.compile(r"(?:,|\b(?:or|so|get))[ ]*\Z")
_ROUNDED = re.compile(r"\b(?:round|approx|about)")
_DENIED = re.compile(
    r"(?:\bnot|n['\u2019]t|\binstead of|\brather than|\bnever)[\s*]+(?:[a-z]+[\s*]+){0,2}\Z"
)
_UNIT = (
    r"(?:hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|days?|weeks?|months?|years?|feet|foot|ft"
    r"|inch(?:es)?|yards?|pounds?|lbs?|ounces?|oz|dollars?|cents?|kg|g|km|cm|mm|meters?|metres?"
    r"|miles?|gallons?|quarts?|pints?|cups?|degrees?|dozens?|['\u2032\u00b0\"])"
)
_PARTS = rf"[ \t]*(?:\\text\{{ ?)?{_UNIT}[ .,}}]*(?:and[ ]}}?)?[ ]*"  # "3 hours and 30"
_BESIDE = re.compile(
    rf"{_PARTS}|\W*(?:[^\W\d]+\W+){{0,3}}?(?:or|to|plus|&|versus|vs\.)\W*(?:\w+\W+)?"
    r"|\W*(?:[^\W\d]+\W+){0,6}?and\W*(?:[^\W\d]+\W+){0,3}"
    r"|\W*(?:[^\W\d]+[ ]){0,2}(?:[^\W\d]+)?[ ]*[,;/]\W*(?:[A-Z][a-z]+(?::|[ ]has)|[a-z]\))?\W*"
    r"|\s*(?:in|of|out of|over|by|divided by|times|minus)\s*"
    r"|.*\n.*",
    re.DOTALL,
)
_LATEX = re.compile(r"(?:\\(?:text|mathrm)[ ]?\{|[{}]|\\[ ,;:!]|[ ])+")  # spaces, words in formulas
_SO = re.compile(r"\b(?:so|hence|thus|therefore|making|giving|means|then)\b")
# Numbers that count steps or digits: "Step 3:", "2 decimal places", "to the nearest 10".
_COUNTED = re.compile(r"[ -](?:decimals?|significant|places|digits|d\.?p\b|s\.?f\b)", re.IGNORECASE)
_COUNTING = re.compile(
    r"\b(?:steps?|example|equation|method|case|part|nearest)[ ]\(?#?\Z", re.IGNORECASE
)
# In running text: "10 or 15", "between 10 and 15", "3 hours and 30 minutes".
_EITHER = re.compile(rf"{_PARTS.replace(',', '')}|\W*(?:[^\W\d]+\W+){{0,2}}or\W*")
_RANGES = (
    (re.compile(r"\bbetween\W*\Z"), re.compile(r"\band\W*\Z")),
    (re.compile(r"\bfrom\W*\Z"), re.compile(r"\A\W*to\W*\Z")),
)
_ASIDE = re.compile(r"\b(?:after|in|with|for|of|on|at|by|if|when|per|from|out)\b", re.IGNORECASE)
_ADJECTIVE = re.compile(r"-[A-Za-z]|(?:st|nd|rd|th)\b")
_ITEM = re.compile(r"(?:\A|(?<=\n))[-*\u2022># \t]*+\(?[0-9]{1,2}[.)](?=[ \t])")
_BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*(?![ ]?:)")
# A prompt says "The answer is X.", and some models repeat it.
_PLACEHOLDER = re.compile(
    r"\W*(?:[XYN]|\[[^\]\n0-9]{0,40}\]|_{2,})(?=[\s,.;:]|\Z)(?!\s*(?:=|is\b))"
)
_EARLIER = 2000  # characters before a sentence that are searched for its numbers
_NEAR, _STEPS = 120, 8  # most characters between numbers side by side; sentences looked back
_FEW, _BARE = 4, 3  # most words of a value in bold, and of a sentence that is an answer
# What opens a sentence that states a result, even if the question gives that number, too.
_CONCLUDES = re.compile(
    r"\W*(?i:so|thus|hence|therefore|consequently|finally|overall|altogether|as a result"
    r"|in (?:total|conclusion)|(?:this|that|which) means)\b"
)
# Four hashes are also a Markdown heading ("#### Step 2", "#### 1. Costs"): only a number counts.
HASHED = rf"(?:[*_`]+|\\[(\[])?[ \t]*+(?![0-9]+[.)][ \t]+[^\W\d])[{MINUS}+.0-9\\{CURRENCY}]"
_PERCENT = re.compile(r"[ \t]?(?:\\?%|percent\b|per cent\b)")


def find(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the number that a statement arrives at."""
    if _PLACEHOLDER.match(text, *place) or _is_formula(text, place):
        return None
    place, numbers = _before(_REMARK, text, place)
    if not numbers:
        words = WORDS.match(text, *place)  # at the beginning; elsewhere "one" is a pronoun
        return Span(*words.span("number")) if words else None
    if _SINCE.search(text, place.start, numbers[0].start()):  # "reasonable, since 5 is small"
        return None
    signs = _signs(text, place)
    found = _result(text, place, numbers, signs) if signs else _only(text, place, numbers)
    return _span(text, found, place, asked)


def _is_formula(text: str, place: Span) -> bool:
    """Whether a place is, or holds, a box with a formula in it instead of a value."""
    words = text[slice(*place)]
    inner = [words[slice(*box.place)] for box in boxes(words)]
    inner += [words] if text[place.start - 1 : place.start] == "{" else []
    return any("=" not in box and _FORMULA.search(box) for box in inner)


def last(text: str, place: Span, asked: Asked) -> Span | None:
    """Find the number that running text ends in, from its last sentence that has one."""
    steps = sentences(text, place)
    for at, step in reversed(list(enumerate(steps))):
        whole, numbers = _before(_BECAUSE, text, step)
        if not numbers:
            continue
        if signs := _signs(text, whole):
            found = _result(text, whole, numbers, signs)
        elif text[step.start : step.end + 1].rstrip().endswith("?"):
            return None  # a model without an answer repeats the question
        else:
            before = [*steps[max(0, at - _STEPS) : at], Span(whole.end, step.end)]
            found = _concluded(text, whole, numbers, before, asked)
        return _span(text, found, place, asked)
    return None


def _numbers(text: str, place: Span) -> list[Numeral]:
    """All numbers of a place without list labels; formulas are included, as opaque matches."""
    found = [n for n in NUMBER.finditer(text, *place) if not _counts(text, n)]
    labels = {m.end() for m in _ITEM.finditer(text, *place)}
    return [n for n in found if not labels & {n.end(), n.end() + 1}]


def _counts(text: str, number: Numeral) -> bool:
    """Whether a number only counts steps or digits."""
    before = text[max(0, number.start() - 12) : number.start()]
    return bool(_COUNTED.match(text, number.end()) or _COUNTING.search(before))


def _signs(text: str, place: Span) -> list[int]:
    """Where the equals signs of a place end."""
    return [m.end() for m in _EQUALS.finditer(text, *place)]


def _before(remarks: re.Pattern[str], text: str, place: Span) -> tuple[Span, list[Numeral]]:
    """Cut off a remark that only explains the answer; return the rest and its numbers."""
    numbers = _numbers(text, place)
    remark = remarks.search(text, numbers[0].end(), place.end) if numbers else None
    while remark:
        before = Span(place.start, remark.start())
        if _finished(text, numbers[0], before) or _EQUALS.search(text, *before):
            return before, [n for n in numbers if n.end() <= before.end]
        remark = remarks.search(text, remark.end(), place.end)
    return place, numbers


def _finished(text: str, number: Numeral, place: Span) -> bool:
    """Whether a number is a value by itself, not part of arithmetic, a formula or a range."""
    before = max(place.start, number.start() - 4), number.start()
    behind = number.end(), place.end
    goes_on = _UNFINISHED.match(text, *behind) or SYMBOLIC.match(text, *behind)
    return not (number["opaque"] or goes_on or _TERM.search(text, *before))


def _result(text: str, place: Span, numbers: list[Numeral], signs: list[int]) -> Numeral | None:
    """The value after an equation's last sign, or before it if only an unknown follows."""
    *_, begin, last = place.start, *signs
    left = [n for n in numbers if begin <= n.start() < last]
    right = [n for n in numbers if n.start() >= last]
    if not right:
        turned = left and _UNKNOWN.fullmatch(text, signs[-1], place.end)
        alone = turned and (len(left) == 1 or _TURNED.search(text[: left[-1].start()]))
        return left[-1] if alone else None
    if not _finished(text, right[0], place):  # "42 = 6 * 7"
        return left[0] if len(left) == 1 and _finished(text, left[0], place) else None
    if right[1:] and _ROUNDED.search(text, right[0].end(), right[1].start()):
        return right[1]
    if right[1:] and _beside(text, right[0], right[1]):
        return None
    other = _NEXT_EQUATION.search(text, signs[-2], signs[-1]) if signs[1:] and left else None
    if other and left[-1].start() < other.start():  # "x = 5 and y = 7" computes nothing
        return right[0] if number_of(left[0]) == number_of(right[0]) else None
    return right[0]


def _only(text: str, place: Span, numbers: Sequence[Numeral]) -> Numeral | None:
    """The one number that a place without an equation names; None if it names several."""
    kept = [n for n in numbers if not _denied(text, n, place)]
    if not kept or not _finished(text, kept[0], place):
        return None
    first, *others = kept
    if all(number_of(n) == number_of(first) for n in others):
        return first
    aside = _ASIDE.search(text, place.start, first.start())
    aside = aside or _SO.search(text, first.end(), others[-1].start())
    return None if aside or _beside(text, first, others[0]) else first


def _beside(text: str, one: Numeral, other: Numeral) -> bool:
    """Whether two different numbers stand side by side, so that there is no single value."""
    if number_of(one) == number_of(other) or other.start() - one.end() > _NEAR:
        return False
    return bool(_BESIDE.fullmatch(_LATEX.sub(" ", text[one.end() : other.start()])))


def _denied(text: str, number: Numeral, place: Span) -> bool:
    """Whether a number is said not to be the answer: "not 5 but 6"."""
    return bool(_DENIED.search(text[max(place.start, number.start() - 40) : number.start()]))


def _concluded(
    text: str, place: Span, numbers: Sequence[Numeral], steps: Sequence[Span], asked: Asked
) -> Numeral | None:
    """The number of a concluding sentence: a new one, else a step's result, else the last one."""
    kept = [n for n in numbers if not _denied(text, n, place)]
    kept = [n for n in kept if _finished(text, n, place)] or kept
    kept = [n for n in kept if not _ADJECTIVE.match(text, n.end())] or kept
    if not kept:
        return None
    if len({number_of(n) for n in kept}) > 1:
        if _is_range(text, *kept[-2:]):
            return None
        kept = [_new(text, kept, place, asked) or _repeated(text, kept, steps) or kept[-1]]
    repeats = _only_given(text, kept[-1], place, steps, asked)
    return kept[-1] if _finished(text, kept[-1], place) and not repeats else None


def _only_given(
    text: str, number: Numeral, place: Span, steps: Sequence[Span], asked: Asked
) -> bool:
    """Whether a number is only repeated from the question: no step or conclusion arrives at it."""
    given = _values(asked.question, 0, _EARLIER)
    if number_of(number) not in given or _CONCLUDES.match(text, *place):
        return False
    if len(text[slice(*place)].split()) <= _BARE or any(NUMBER.finditer(text, *steps[-1])):
        return False  # it stands alone, or is reasoned: "8 ounces because 32 minus 24 equals 8"
    return not _repeated(text, [number], [s for s in steps if _signs(text, s)])


def _values(text: str, start: int, end: int) -> set[Fraction | None]:
    return {number_of(n) for n in NUMBER.finditer(text, start, end)}


def _new(text: str, numbers: Sequence[Numeral], place: Span, asked: Asked) -> Numeral | None:
    """The last number of a sentence that is neither in the text before it nor in the question."""
    before = _values(text, max(0, place.start - _EARLIER), place.start)
    known = before | _values(asked.question, 0, _EARLIER)
    new = [n for n in numbers if number_of(n) not in known]
    return new[-1] if known and new else None


def _is_range(text: str, one: Numeral, other: Numeral) -> bool:
    """Whether two numbers that end a sentence are two values: "between 10 and 15", "10-15"."""
    between = text[one.end() : other.start()]
    if _EITHER.fullmatch(between) or between in tuple(MINUS):
        return True
    before = text[max(0, one.start() - 12) : one.start()]
    return any(opens.search(before) and closes.search(between) for opens, closes in _RANGES)


def _repeated(text: str, numbers: Sequence[Numeral], steps: Sequence[Span]) -> Numeral | None:
    """The number of a conclusion that repeats a step's result, that of the latest such step."""
    for step in reversed(steps):
        sign = max(_signs(text, step), default=step.start)
        own = [n for n in NUMBER.finditer(text, sign, step.end) if _finished(text, n, step)]
        result = number_of(own[0] if sign > step.start else own[-1]) if own else None
        same = [n for n in numbers if result is not None and number_of(n) == result]
        if same:
            return same[-1]
    return None


def _span(text: str, found: Numeral | None, place: Span, asked: Asked) -> Span | None:
    """Where a number stands, with its percent sign if that matters."""
    if found is None:
        return None
    sign = _PERCENT.match(text, found.end(), place.end) if asked.percent else None
    return Span(found.start(), (sign or found).end())


def canonical(text: str, asked: Asked) -> str | None:
    """Spell the only number of a short text as integer, terminating decimal or ``p/q``."""
    if (value := number_value(text)) is None:
        return None
    return spell(value / 100 if asked.percent and _PERCENT.search(text) else value)


def bold(text: str, _trigger: str) -> list[Said]:
    """Places: what the last line sets in bold, if that is a number and not a label."""
    end = len(text.rstrip())
    line = text.rfind("\n", 0, end) + 1
    bold = [m for m in _BOLD.finditer(text, line, end) if not m[1].rstrip().endswith((":", "."))]
    valued = [m for m in bold if NUMBER.search(m[1]) and len(m[1].split()) <= _FEW]
    return [Said(line, Span(*valued[0].span(1)))] if len(valued) == 1 else []
