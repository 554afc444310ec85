"""Questions that are trained on and measured on: found by their words, and refused.

Knows questions and the names of files; reads none. Two questions are the same if their normalised
words are: case, spaces, Unicode forms and the punctuation of sentences do not count, everything
that carries meaning in a sum (digits, decimal points, operators) does.

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

NAMED = 5  # of the questions that are found; the rest are counted
# A point or comma between digits is part of a number.
_PUNCTUATION = re.compile(r"(?<![0-9])[.,]|[.,](?![0-9])|[;:!?\"'`\u2018\u2019\u201c\u201d\u2026]")
APART = (
    "an evaluation's questions must not be trained on, shown as solved or used to choose: take "
    "them out of one of the two"
)
# What the questions are in a message, and what goes on all the same.
USES = {
    "train": ("questions to train on", "; --force goes on"),
    "measure": ("questions that the adapter was trained on", "; --allow-overlap goes on"),
    "show": ("seeds", ""),
    "probe": ("questions of the probe", ""),
}


def same_words(text: str) -> str:
    """Normalise a question's words; equal results mean the same question."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_PUNCTUATION.sub(" ", plain).split())


def check_apart(
    questions: Iterable[Question],
    exams: Mapping[str, Iterable[Question]],
    use: Literal["train", "measure", "show", "probe"] = "train",
) -> None:
    """Refuse to use questions for one thing that an evaluation will ask, or has asked.

    Args:
        questions: Those that are trained on, shown as solved, or marked by a probe.
        exams: Those that are kept for measuring, by the name of their file or set.
        use: What the questions are for.

    Raises:
        LmsiError: Some occur in both; names them and the first exam that holds them.
    """
    what, anyway = USES[use]
    asked = [(q.id, same_words(q.question)) for q in questions]
    for name, exam in exams.items():
        known = {same_words(q.question) for q in exam}
        found = [question_id for question_id, words in asked if words in known]
        if found:
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            named = f"{', '.join(found[:NAMED])}{more}"
            raise LmsiError(
                f"{name} holds {len(found)} of the {len(asked)} {what}: {named}", APART + anyway
            )
