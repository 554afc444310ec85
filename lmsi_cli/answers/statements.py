r"""Headings and sentences that state an answer in a model's own words, and those that give none.

Knows words such as "**Final Answer:**" and "The correct option is", and those of a refusal; nothing
of values, nor of the words that a task asked for, which ``sentences`` reads:

    headings("So it is.\n\n**Final Answer:** 42 pens\n\nNote: ...") -> [Said(at=11, Span(29, 36))]
    wordings("The correct answer is **B**.") -> [Said(at=0, place=Span(24, 26))]
    refusal("I'm sorry, but I can't help with this. In an emergency call 112.")
    -> [Said(at=0, place=Span(0, 28))]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmsi_cli.answers.places import MOST, Said, Span
from lmsi_cli.answers.sentences import LEAD, said_after

_NOUN = re.compile(r"[aAoOcC](?:nswer|ption|hoice|ns|NS(?:WER)?)\b")
_BEHIND = 48  # characters before the noun that its own label may take
# The label opens a line, or follows a sentence on it.
_LABEL = re.compile(
    r"(?:(?P<line>(?:\A|(?<=\n))[ \t>\-\u2022]*(?P<marks>[#*_]*)[ \t]*(?:[0-9]+[.)][ \t]*)?[*_]*)"
    r"|(?<=[.!?;:)*][ ])[*_]*)"
    r"(?:(?:the|my|our)[ ])?(?P<final>(?:final|correct|right|numerical|overall)[ ])*\Z",
    re.IGNORECASE,
)
_LEADS = re.compile(
    rf"(?:[ ]?\([^()\n]{{1,40}}\))?[*_]*[ \t]*(?::|\uff1a|=|->|\u2192){LEAD}"
    rf"|(?P<below>[*_]*[ \t]*(?=\n){LEAD})"
)
_DEFINITE = re.compile(
    r"\b(?:the|my|our)\s+(?:(?:final|correct|right|best|numerical|overall|required|exact|actual|likely"
    r"|most|multiple|appropriate|whole|simplified)\s+){0,2}\Z",
    re.IGNORECASE,
)
_IS = re.compile(
    r"(?:\s(?:to|for|of|here|from|among|choice|option|letter)\b"
    r"(?:[^.,?:=\n\"\u201c]|[\"\u201c][^\"\u201d\n]{1,300}[\"\u201d]){0,80}?)??\s+"
    rf"(?:is|was|would be|will be|must be|should be|has to be|comes (?:out )?to|equals)\b{LEAD}"
    rf"|[*_]*[ ]?:{LEAD}",
    re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>([^<]{1,300})</answer>", re.IGNORECASE)
# "42 is the answer": what stands before "is", unless it only points to an earlier sentence.
_IS_THE = re.compile(
    r"[^\S\n]+(?:is|was|must be|would be)[ ](?:the|my|our)[ ]"
    r"(?:(?:final|correct|right|best|only|most|likely|appropriate)[ ])*\Z",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"\A|\n|[.!?,:;][ ]|\b(?:so|thus|hence|therefore|that|conclude|confirming|means)\b[, ]*",
    re.IGNORECASE,
)
_POINTING = re.compile(
    r"\W*(?:this|that|it|which|what|who|here|there|he|she|these|those|the|one)\b", re.IGNORECASE
)
_SUBJECT = 80  # most characters of such a subject, and most words
_WORDS = 6
_FEW = 3  # words of an answer that stands first, with an explanation behind it
_OPTION = re.compile(r"[*_(]*[A-J][).:]")


def headings(text: str, trigger: str = "") -> list[Said]:
    """Places: what stands behind or below a heading such as "Answer:", or in tags of its name."""
    found = [said for noun in _nouns(text, trigger) for said in _heading(text, noun)]
    return found + [Said(m.start(), Span(*m.span(1))) for m in list(_TAGGED.finditer(text))[-MOST:]]


def wordings(text: str, trigger: str = "") -> list[Said]:
    """Places: the rest of a sentence such as "The correct option is", or what stands before it."""
    found: list[Said] = []
    for noun in _nouns(text, trigger):
        found += _subject(text, noun)
        lead = _IS.match(text, noun.end)
        begins = lead and _DEFINITE.search(text, max(0, noun.start - _BEHIND), noun.start)
        if lead and begins:
            found.append(Said(begins.start(), said_after(text, begins.start(), lead.end())))
    return found


def _nouns(text: str, trigger: str) -> list[Span]:
    """Where nouns such as "answer" stand, except in the trigger, which has a rule of its own."""
    found: list[Span] = []
    for noun in list(_NOUN.finditer(text))[-MOST:]:
        within = trigger.lower().find(noun[0].lower())
        at = noun.start() - within
        if within < 0 or text[at : at + len(trigger)].lower() != trigger.lower():
            found.append(Span(*noun.span()))
    return found


def _heading(text: str, noun: Span) -> Iterator[Said]:
    """The answer after a label, or the whole line where that begins a solution."""
    lead = _LEADS.match(text, noun.end) if text[noun.start] in "aA" else None
    label = lead and _LABEL.search(text, max(0, noun.start - _BEHIND), noun.start)
    if not (lead and label) or (lead["below"] and not (label["marks"] or label["final"])):
        return
    place = said_after(text, noun.start, lead.end())
    newline = text.find("\n", place.end)
    line = newline if newline >= 0 else len(text)
    alone = not text[place.end : line].strip(" \t.*_")  # one sentence is all of the line
    if not alone and not _stands_first(text[slice(*place)]):
        place = Span(place.start, line)
    ends = not text[line:].strip()
    if label["final"] or ends or _stands_first(text[slice(*place)]):
        yield Said(label.start(), place, running=not alone and place.end == line)


def _stands_first(words: str) -> bool:
    """Whether words are an answer before its explanation, not part of a solution."""
    short = len(words.split()) <= _FEW or _OPTION.match(words)
    return "=" not in words and bool(short)


def _subject(text: str, noun: Span) -> Iterator[Said]:
    """What is said to be the answer: "So (B) is the correct answer"."""
    verb = _IS_THE.search(text, max(0, noun.start - _BEHIND), noun.start)
    if verb is None:
        return
    cuts = _CUT.finditer(text, max(0, verb.start() - _SUBJECT), verb.start())
    start = max((cut.end() for cut in cuts), default=verb.start())
    words = text[start : verb.start()]
    if 0 < len(words.split()) <= _WORDS and not _POINTING.match(words):
        yield Said(start, Span(start, verb.start()))


_SORRY = re.compile(
    r"[\s*_\"]*(?:(?:I['\u2019]m|I am|we['\u2019]re)[ ](?:\w+[ ])?sorry|sorry|apologies"
    r"|unfortunately|as an AI\b|I(?:['\u2019]m| am)?[ ]"
    r"(?:apologi[sz]e|can|unable|not able|won['\u2019]t|will not))",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\b(?:I|we)(?:['\u2019](?:m|re)|[ ]am|[ ]are)?[ ](?:\w+[ ])?"
    r"(?:can(?:not|['\u2019]?t|[ ]not)|unable to|not able to|won['\u2019]t|will not)[ ](?:\w+[ ])?"
    r"(?:help|assist|provide|answer|fulfil\w*|comply|engage|discuss|support|continue"
    r"|do (?:that|this)"
    r"|solve|complete|access|browse|respond|create|generate)\b",
    re.IGNORECASE,
)
_REFUSAL = 250  # characters of a reply in which it refuses
_NO_ANSWER = re.compile(
    r"\b(?:(?:can(?:not|['\u2019]t|[ ]not)|could not|impossible to|not possible to|unable to"
    r"|no way to)"
    r"(?: be)?(?: \w+ly)? (?:determined?|told|tell|known?|calculated?|answer(?:ed)?|sa(?:y|id)"
    r"|solved?|found|find|inferred|computed?)|(?:not|n['\u2019]t) (?:have |given |provided )?"
    r"(?:enough|sufficient) (?:info|data|detail)|insufficient (?:info|data)|undetermined"
    r"|indeterminate)",
    re.IGNORECASE,
)
_NONE = re.compile(r"\b(?:unknown|not (?:given|known|stated)|none|no (?:answer|solution))\b", re.I)


def refusal(text: str, _trigger: str = "") -> list[Said]:
    """Places: the beginning of a reply that refuses to answer."""
    begins = text[:_REFUSAL]
    found = _REFUSED.search(begins) if _SORRY.match(begins) else None
    return [Said(0, Span(0, found.end()))] if found else []


def no_answer(text: str, _trigger: str = "") -> list[Said]:
    """Places: words at the end of a reply which say that there is no answer."""
    ends = text.rstrip()
    line = max(ends.rfind("\n"), ends.rfind(". ")) + 1
    found = _NO_ANSWER.search(ends, line)
    return [Said(line, Span(*found.span()))] if found else []


def declines(text: str, place: Span) -> bool:
    """Whether a statement says that there is no answer."""
    return bool(_NO_ANSWER.search(text, *place) or _NONE.search(text, *place))
