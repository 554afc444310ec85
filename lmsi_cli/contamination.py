"""Questions that are both trained on and measured on: found by their words, and refused.

Knows questions and the names of files; reads no file. Two questions are the same if their words
are, once normalised: case, spaces, Unicode forms and sentence punctuation do not count; whatever
carries meaning in a calculation (digits, decimal points, operators) does.

    same_words("Tom has 1.5 kg;  how many g?") == same_words("tom has 1.5 kg, how many g")
    check_apart(questions, {"test.jsonl": exam})
    -> LmsiError: test.jsonl holds 2 of the 400 questions to train on: q7, q19
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question

NAMED = 5  # questions that an error names; the others are only counted
# A point or comma before a digit is part of a number, unless a word ends there; a mark may be a
# factorial ("5! + 3") or a ratio ("3:4").
_PUNCTUATION = re.compile(
    r"[.,](?![0-9])|(?<=[^\W\d])[.,]|(?<![0-9.]),|(?<![0-9)])!|!(?![ ]?[-+*/=^)])"
    r"|(?<![0-9]):|:(?![0-9])|[;?\"'`\u2018\u2019\u201c\u201d\u2026]"
)
_PART = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")  # "1\u00bd" is not 11/2
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
_SIGNS = {0x2212: "-", **{ord(c): f"^{digit}" for digit, c in enumerate(_RAISED)}}
APART = (
    "an evaluation's questions must not be trained on, shown as solved or used to choose: take "
    "them out of one of the two"
)
# What a message calls the questions, and the flag that overrides the refusal.
USES = {
    "train": ("questions to train on", "; --force goes on"),
    "measure": ("questions that the adapter was trained on", "; --allow-overlap goes on"),
    "show": ("seeds", ""),
    "probe": ("questions of the probe", ""),
}


def same_words(text: str) -> str:
    """Normalise a question's words; equal results mean the same question."""
    plain = _PART.sub(" ", text).translate(_SIGNS)
    plain = unicodedata.normalize("NFKC", plain).casefold()
    return " ".join(_PUNCTUATION.sub(" ", plain).split())


def check_apart(
    questions: Iterable[Question],
    exams: Mapping[str, Iterable[Question]],
    use: Literal["train", "measure", "show", "probe"] = "train",
) -> None:
    """Refuse questions for another use if an evaluation asks them as well.

    ``exams`` are reserved for measuring, by the name of their file or set. LmsiError: some occur in
    both; names them and the first exam that holds them.
    """
    what, anyway = USES[use]
    asked = [(q.id, same_words(q.question)) for q in questions]
    for name, exam in exams.items():
        known = {same_words(q.question) for q in exam}
        if found := [question_id for question_id, words in asked if words in known]:
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            named = f"{', '.join(found[:NAMED])}{more}"
            raise LmsiError(
                f"{name} holds {len(found)} of the {len(asked)} {what}: {named}", APART + anyway
            )
