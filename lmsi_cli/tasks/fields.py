r"""The fields of one entry into a question, whatever kind of file they were in.

A ``passage`` or ``context`` is put above its question; true and false as answers are yes and no.
Knows no files but the place that an entry names:

    Row("q.jsonl:2", {"passage": "Iron rusts.", "question": "Does iron rust?", "answer": True})
    -> Question(id="q-1d4e...", question="Iron rusts.\n\nDoes iron rust?", answer="yes")
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import NamedTuple, TypeGuard

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.tasks.entries import Missing, Row, named

HINT = (
    'a question file is JSONL ({"question": "..."} a line), CSV with a `question` column, '
    "or text with one question a line"
)
PASSAGES = ("passage", "context")  # what a question is about
FIELDS = ("id", *PASSAGES, "question", "answer", "family", "group")


class Placed(NamedTuple):
    """A question, where it was written, and what became of its answer if that is not there."""

    where: str
    question: Question
    gap: str = ""


def placed(row: Row) -> Placed:
    """Check one entry and make it a question.

    Raises:
        LmsiError: A field is missing or not what it should be; says where, and which.
    """
    where, fields = row
    if "question" not in fields:
        raise LmsiError(f"{where}: missing field 'question'", hint=HINT)
    asked = _words(where, "question", fields["question"])
    if not asked:
        raise LmsiError(f"{where}: field 'question': is blank", hint="fill it in, or delete it")
    passages = [_words(where, p, fields[p]) for p in PASSAGES if _filled(fields.get(p))]
    text = "\n\n".join(filter(None, [*passages, asked]))
    answer, gap = _answer(where, fields.get("answer"))
    question = Question(
        id=_id(where, fields.get("id")) or f"q-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        question=text,
        answer=answer,
        family=_text(where, "family", fields.get("family")),
        group=_text(where, "group", fields.get("group")),
    )
    return Placed(where, question, gap)


def _filled(value: object) -> bool:
    """Say whether a field holds something; pandas writes NaN where it does not."""
    return value is not None and not (isinstance(value, Decimal) and value.is_nan())


def _words(where: str, field: str, value: object) -> str:
    """Take text, without its outer blanks."""
    if not isinstance(value, str):
        raise LmsiError(f"{where}: field '{field}': expected text, got {named(value)}")
    if "\0" in value:
        raise LmsiError(f"{where}: field '{field}': holds a NUL character", hint="take it out")
    return value.strip()


def _answer(where: str, value: object) -> tuple[str | None, str]:
    """The right answer as text, and why it is missing if something stands in its place."""
    if isinstance(value, Missing):
        return None, value.why
    if value is not None and not _filled(value):
        return None, "it is NaN"
    answer = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
    return _text(where, "answer", answer), ""


def _id(where: str, value: object) -> str | None:
    if _is_plain(value) and value == value.to_integral_value():
        value = int(value)  # pandas makes 1.0 of 1 if an id is missing elsewhere
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return _text(where, "id", value)
    raise LmsiError(f"{where}: field 'id': expected text or a whole number, got {named(value)}")


def _text(where: str, field: str, value: object) -> str | None:
    """Take text or a number as text; blank is None."""
    if not _filled(value):
        return None
    if isinstance(value, str):
        return _words(where, field, value) or None
    if _is_plain(value):
        return f"{value:f}"  # 1e3 as 1000
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise LmsiError(f"{where}: field '{field}': expected text or a number, got {named(value)}")
    return str(value)


def _is_plain(value: object) -> TypeGuard[Decimal]:
    """Say whether a fraction can be written without an exponent."""
    return isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 30
