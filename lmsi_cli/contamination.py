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
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question

NAMED = 5  # of the questions that are found; the rest are counted
# A point or comma between digits is part of a number.
_PUNCTUATION = re.compile(r"(?<![0-9])[.,]|[.,](?![0-9])|[;:!?\"'`\u2018\u2019\u201c\u201d\u2026]")
# What the questions are in a message, and what to do about them.
USES = {
    "train": (
        "questions to train on",
        "what is trained on cannot be measured on: take them out of one of the two; "
        "--force goes on",
    ),
    "measure": (
        "questions that the adapter was trained on",
        "take them out of the set: an answer that was learned shows nothing; "
        "--allow-overlap measures all the same",
    ),
    "show": (
        "seeds",
        "a question that is shown as solved cannot be measured on: take them out of one of the two",
    ),
    "probe": (
        "questions of the probe",
        "a probe decides what is trained on and kept, so an exam must not hold its questions: "
        "take them out of one of the two",
    ),
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
    what, hint = USES[use]
    asked = {name: {same_words(q.question) for q in exam} for name, exam in exams.items()}
    both: dict[str, list[str]] = {name: [] for name in asked}
    count = 0
    for count, question in enumerate(questions, 1):  # noqa: B007 - the count of all of them
        words = same_words(question.question)
        for name, known in asked.items():
            if words in known:
                both[name].append(question.id)
    for name, found in both.items():
        if found:
            raise LmsiError(f"{name} holds {_named(found, count, what)}", hint=hint)


def _named(found: Sequence[str], count: int, what: str) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{len(found)} of the {count} {what}: {', '.join(found[:NAMED])}{more}"
