"""Yes, no, and "it is not possible to tell", as natural-language inference needs it.

Knows the words for each of the three; nothing of the questions. True and correct mean yes, false
and incorrect no, and "not" inverts them:

    canonical: "True" -> "yes"   "not correct" -> "no"   "cannot be determined" -> UNKNOWN

A "no" inside a sentence is mostly a determiner ("there is no rain"): only one that stands alone,
between stops or at an end, is an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmsi_cli.answers.places import WRAPPED, Asked, Span
from lmsi_cli.answers.sentences import sentences

UNKNOWN = "it is not possible to tell"
_UNKNOWN = (
    r"(?:it(?:['\u2019]s| is) )?(?:not possible|impossible) to (?:tell|say|know|determine)"
    r"|(?:it )?(?:cannot|can ?not|can['\u2019]t) be (?:determined|told|known|inferred)"
    r"|(?:we|I) (?:cannot|can ?not|can['\u2019]t) (?:determine|tell|say|know|conclude|answer)"
    r"|not enough (?:information|evidence)|undetermined|unknown"
)
_NOT = r"\b(?:not|\w{2,7}n['\u2019]t|never)[ ](?:[a-z]+ly[ ])?(?:be[ ])?"
_VALUE = re.compile(
    rf"(?P<pair>\b(?:yes or no|true or false)\b)|(?P<unknown>\b(?:{_UNKNOWN})\b)"
    rf"|(?P<not>{_NOT})?\b(?:(?P<yes>yes|yeah|yep)|(?P<no>nope"
    r"|no(?! (?:one|doubt|idea|way|matter|longer|more|less)\b))|(?P<true>true|correct)"
    r"|(?P<false>false|untrue|incorrect))\b",
    re.IGNORECASE,
)
_TRUTH = {"true": ("yes", "no"), "false": ("no", "yes")}  # as it stands, and behind "not"
_ALONE = re.compile(r"[\s*_\"'`)\]}\u201d]*(?:[.,!?;:\n\u2013\u2014]|\Z)")
_BEGINS = re.compile(rf"{WRAPPED}(?:that[ ])?\Z")
_SAYS = re.compile(  # what makes "true" a verdict rather than an ordinary word
    r"(?:\A|\b(?:is|are|was|be|as|it['\u2019]s|that['\u2019]s|so|thus|hence|therefore)|[.:,;\n])[\s*_\"`]*\Z",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"(?:\A|[.!?:\n]|\b(?:so|thus|hence|therefore|in conclusion|in short|in summary|overall"
    r"|I(?:['\u2019]d| would) say),?)[\s*_\"`>#\u2022-]*(?:\(?[0-9AB]+[.)][ ]+)?[*_]*"
    r"(?:(?:that|this|it)(?:['\u2019]s| is) )?\Z",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"\b(?:statement|claim|assertion|hypothesis|conclusion|sentence|proposition|answer|premise|it)\b"
    r"[^.!?\n]{0,120}\b(?:is|be|was)[\s*_\"`]*\Z",
    re.IGNORECASE,
)
_ISNT = re.compile(r"(?:is|was)n['\u2019]t\b", re.IGNORECASE)
_WHETHER = re.compile(r"[ ](?:for (?:sure|certain) )?(?:whether|if|that)\b", re.IGNORECASE)
_DOUBT = re.compile(  # before "true": it could be, or nothing says that it is
    r"(?:\bwhether\b|\b(?:tell|know|see|say|determine|unclear|unsure) if\b|\b(?:no|nothing|cannot"
    r"|not|\w{2,7}n['\u2019]t)\b[^.!?\n]*\b(?:that|means?|shows?|imply|implies|whether)\b)[^.!?\n]*\Z"
    r"|\b(?:could|may|might)(?:[ ][a-z]+)?[ ]be[\s*_\"`]*\Z",
    re.IGNORECASE,
)
_EITHER = re.compile(r"\b(?:neither|either)\b", re.IGNORECASE)
_REASON = re.compile(r",?[ ](?:because|since|as)\b", re.IGNORECASE)
_BACK = 150  # characters before a value that tell what it is
HASHED = r"[*_`]*(?i:yes|no|true|false)\b"


def find(text: str, place: Span, _asked: Asked) -> Span | None:
    """Find the one value that a statement says."""
    reason = _REASON.search(text, *place)
    said = list(_values(text, place))
    before = [(value, span) for value, span in said if reason and span.end <= reason.start()]
    values = dict(before or said)
    if len(values) != 1 or _EITHER.search(text, *place):
        return None
    [(value, span)] = values.items()
    return span if value else None


def last(text: str, place: Span, _asked: Asked) -> Span | None:
    """Find the last verdict: a value alone where a sentence opens, or as in "the claim is true"."""
    for sentence in reversed(sentences(text, place)):
        found = [said for said in _values(text, sentence) if _is_verdict(text, *said)]
        if found:
            value, span = found[-1]
            return span if value else None
    return None


def _values(text: str, place: Span) -> Iterator[tuple[str | None, Span]]:
    """Every value that a place says, and where; ``None`` is one that is denied ("not yes")."""
    for m in _VALUE.finditer(text, *place):
        name, span = str(m.lastgroup), Span(*m.span())
        before = text[max(place.start, m.start() - _BACK) : m.start()]
        alone = _ALONE.match(text, m.end(), place.end) or _BEGINS.match(before)
        if name == "unknown":
            yield UNKNOWN, span
            if _WHETHER.match(text, m.end(), place.end):
                return  # what follows is what nobody can tell
        elif name == "yes" or (name == "no" and alone):
            yield None if m["not"] else name, span
        elif name in _TRUTH and (m["not"] or _SAYS.search(before)) and not _DOUBT.search(before):
            yield _TRUTH[name][bool(m["not"])], span


def _is_verdict(text: str, value: str | None, span: Span) -> bool:
    before = text[max(0, span.start - _BACK) : span.start]
    before += "is" * bool(_ISNT.match(text, span.start))
    if _VERDICT.search(before) and text[span.start : span.end].lower() not in ("yes", "no"):
        return True
    return bool(_OPENS.search(before) and (value == UNKNOWN or _ALONE.match(text, span.end)))


def canonical(text: str, _asked: Asked) -> str | None:
    """Spell a value that stands alone: ``yes``, ``no`` or ``UNKNOWN``."""
    found = _VALUE.fullmatch(text.strip(" \t\n\"'*."))
    if found is None:
        return None
    name, denied = str(found.lastgroup), bool(found["not"])
    if name in _TRUTH:
        return _TRUTH[name][denied]
    return UNKNOWN if name == "unknown" else None if denied else name
