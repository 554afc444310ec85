r"""Which of the statements of a text is its answer, as a person reads a reply to its end.

Knows statements and their values, and not how either is found:

- The last statement with a value is the conclusion; those before it are steps, or corrected.
- But two different values that are stated side by side, with nothing between them that computes
  or corrects, are a contradiction, and the text has no answer:
  "The answer is 5.\n\n**Final Answer:** 6".
- A statement without a value ("The answer is unknown.") takes the place of what stands before it,
  since an earlier number is a step of the solution. What follows it may still conclude.
- A hash line counts as the last of all, and without the sentence that the task asked for: four
  hashes also open a heading.

Sampling stops at the first answer sentence, so that only other texts hold several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.answers.places import Extraction, Span
from lmsi_cli.answers.rules import declines

CONTRADICTION, MARKER, HASH = "contradiction", "marker", "hash"
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correct(?:ion|ed|ing)?|mistake\w*|errors?|wrong|incorrect|instead|oops"
    r"|sorry|apolog\w+|rather|hold on|however|but|no,|(?:let me|let['\u2019]s|let us|we)"
    r" (?:re|double|check|verify|try)|re-?(?:check|evaluat|consider|calculat|comput|examin)\w*"
    r"|on second thought|should (?:be|have)|revis\w+)\b",
    re.IGNORECASE,
)
_BESIDE = 8  # words between two statements that stand side by side
_CLOSING = " \t\r\n.,;:!?*_`$\\()[]{}\"'"  # what may close a text behind its last statement


class Step(NamedTuple):
    """One rule: where it looked, what it found there, and whether it decided.

    ``place`` is ``None`` if the text has no such place. A rule that fired and found nothing says
    that the text has no answer. ``found`` is told of the rules that did not decide, too. ``at`` is
    where the words before the place begin.
    """

    rule: str
    place: Span | None
    found: Extraction | None
    fired: bool = False
    at: int = 0


def concluded(text: str, stated: Sequence[Step]) -> Step | None:
    """The statement that tells a text's answer, or that it has none; None if none of them does."""
    hashed = stated and stated[-1].rule == HASH and not any(s.rule == MARKER for s in stated)
    stated = stated if hashed else [s for s in stated if s.rule != HASH] or stated
    valued = [step for step in stated if step.found]
    if not valued:
        return stated[-1] if stated and not _following(text, stated[-1]) else None
    last = valued[-1]
    after = stated[stated.index(last) + 1 :]
    if after and after[-1].place and declines(text, after[-1].place):
        return after[-1]
    rival = next((s for s in reversed(valued) if _value(s) != _value(last)), None)
    if rival and rival.place and last.place and _side_by_side(text, rival, last):
        return Step(CONTRADICTION, Span(rival.place.start, last.place.end), None)
    return last


def rest(text: str, stated: Sequence[Step]) -> int:
    """Where the part of a text begins that statements without a value leave to the other rules."""
    if any(step.found for step in stated):
        return 0
    return stated[-1].place.end if stated and stated[-1].place else 0


def _following(text: str, step: Step) -> bool:
    """Whether a statement without a value leaves the answer to the words that follow it."""
    assert step.place is not None
    return bool(text[step.place.end :].strip(_CLOSING)) and not declines(text, step.place)


def _side_by_side(text: str, one: Step, other: Step) -> bool:
    """Whether nothing between two statements computes the second or corrects the first."""
    assert one.place is not None
    between = text[one.place.end : max(other.at, one.place.end)]
    if len(between.split()) >= _BESIDE or re.search("[0-9]", between):
        return False
    return not _CORRECTION.search(between)


def _value(step: Step) -> str:
    return step.found.value if step.found else ""
