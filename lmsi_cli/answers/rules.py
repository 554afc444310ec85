"""The places that all kinds of answer look at, in their order, and replies that give no answer.

Knows the words of a refusal and nothing of values. A number in such a reply is not its answer:

    [r.name for r in rules(Rule("whole", anywhere, states=False))]
    -> ["marker", "heading", "sentence", "boxed", "hash", "refusal", "whole"]
    refusal("I'm sorry, but I can't help with this. In an emergency call 112.")
    -> [Said(at=0, place=Span(0, 28))]
    no_answer("He has 3 pens. It cannot be determined.") -> [Said(at=14, place=Span(18, 38))]
"""

from __future__ import annotations

import re

from lmsi_cli.answers.places import Rule, Said, Span, boxes, hashes
from lmsi_cli.answers.sentences import markers
from lmsi_cli.answers.statements import headings, wordings

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
# One of these stands in all of them.
_NEGATIVE = ("not", "n't", "n\u2019t", "mpossible", "nable to", "no way", "nsuffic", "determin")
_NONE = re.compile(r"\b(?:unknown|not (?:given|known|stated)|none|no (?:answer|solution))\b", re.I)


def refusal(text: str, _trigger: str = "") -> list[Said]:
    """Places: the beginning of a reply that refuses to answer."""
    begins = text[:_REFUSAL]
    found = _REFUSED.search(begins) if _SORRY.match(begins) else None
    return [Said(0, Span(0, found.end()))] if found else []


def no_answer(text: str, _trigger: str = "") -> list[Said]:
    """Places: words at the end of a reply that there is no answer."""
    ends = text.rstrip()
    line = max(ends.rfind("\n"), ends.rfind(". ")) + 1
    likely = any(word in ends[line:] for word in _NEGATIVE)
    found = _NO_ANSWER.search(ends, line) if likely else None
    return [Said(line, Span(*found.span()))] if found else []


def declines(text: str, place: Span) -> bool:
    """Whether a statement says that there is no answer."""
    return bool(_NO_ANSWER.search(text, *place) or _NONE.search(text, *place))


MARKER = Rule("marker", markers)
REFUSAL = Rule("refusal", refusal, states=False, find=lambda *_: None)
NO_ANSWER = Rule("no-answer", no_answer, states=False, find=lambda *_: None)


def rules(*likely: Rule, hashed: re.Pattern[str] | None = None) -> tuple[Rule, ...]:
    """What states an answer, then a refusal, then where else a kind's answer is likely to stand.

    Args:
        likely: The kind's own rules, in their order.
        hashed: Matches what an answer of the kind begins with behind hashes.
    """
    return (
        MARKER,
        Rule("heading", headings),
        Rule("sentence", wordings),
        Rule("boxed", boxes),
        Rule("hash", hashes(hashed)),
        REFUSAL,
        *likely,
    )
