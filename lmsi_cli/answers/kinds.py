"""From a text to its answer, by the rules of a kind.

Knows the kinds by name and the one order of looking; nothing of models, files or votes. The first
rule that finds its *place* decides. If no value stands there, the text has no answer, because an
earlier value would be a step of the solution and not its result.

    explain("6 * 7 = 42. The answer is 42.")
    -> (Step(rule="marker", place=Span(26, 28), found=Extraction("42", ...), fired=True),
        Step(rule="hash", place=None, found=None, fired=False), ...)
"""

from __future__ import annotations

from typing import NamedTuple

from lmsi_cli.answers import choice, date, latex, number, span, text, yesno
from lmsi_cli.answers.places import (
    TRIGGER,
    Asked,
    Extraction,
    Kind,
    Rule,
    Span,
    anywhere,
    before_run_on,
)
from lmsi_cli.errors import LmsiError

KINDS: dict[str, Kind] = {
    "choice": choice.KIND,
    "date": date.KIND,
    "latex": latex.KIND,
    "number": number.KIND,
    "span": span.KIND,
    "text": text.KIND,
    "yesno": yesno.KIND,
}
NOTHING = Asked()


class Step(NamedTuple):
    """One rule: where it looked, what it found there, and whether it decided.

    ``place`` is ``None`` if the text has no such place. A rule that fired and found nothing says
    that the text has no answer. ``found`` is told of the rules that did not decide, too.
    """

    rule: str
    place: Span | None
    found: Extraction | None
    fired: bool


def extract(
    text: str, kind: str = "number", trigger: str = TRIGGER, asked: Asked = NOTHING
) -> Extraction | None:
    """Read the answer out of one path.

    Args:
        text: What the model wrote after the prompt; a run-on next question is ignored.
        kind: A key of ``KINDS``.
        trigger: The words before an answer; matched in any case and spacing.
        asked: What the question says of its answer, such as its options.

    Returns:
        The answer, or ``None`` if there is none. A marker with no value in its sentence ("The
        answer is unknown.") is none: the model declined, and an earlier number is only a step.

    Raises:
        LmsiError: The kind is unknown, or needs a package that is not installed.
    """
    way, text = _kind(kind), before_run_on(text)
    for rule in way.rules:
        place = rule.place(text, trigger)
        if place is not None:
            return _read(text, way, rule, place, asked)
    return None


def read_first(
    text: str, place: Span, kind: str, rule: str, asked: Asked = NOTHING
) -> Extraction | None:
    """Read the first value of a kind in a given place, whatever stands around it."""
    return _read(text, _kind(kind), Rule(rule, anywhere), place, asked)


def explain(
    text: str, kind: str = "number", trigger: str = TRIGGER, asked: Asked = NOTHING
) -> tuple[Step, ...]:
    """Tell of every rule of a kind where it looks in a text and what it finds; see ``extract``."""
    way, text = _kind(kind), before_run_on(text)
    steps: list[Step] = []
    for rule in way.rules:
        place = rule.place(text, trigger)
        found = _read(text, way, rule, place, asked) if place else None
        fired = place is not None and not any(step.fired for step in steps)
        steps.append(Step(rule.name, place, found, fired))
    return tuple(steps)


def canonical(value: str, kind: str = "number", asked: Asked = NOTHING) -> str | None:
    """Spell a written answer, such as a gold answer, in its kind's one canonical form.

    For numbers: an integer as ``42``, a terminating decimal as ``0.75``, else lowest terms ``1/3``.
    Equal values have equal spellings; currency and units are dropped. For the other kinds see
    their modules.

    Returns:
        ``None`` if the text does not hold exactly one value.

    Raises:
        LmsiError: The kind is unknown, or needs a package that is not installed.
    """
    return _kind(kind).canonical(value, asked)


def _read(text: str, way: Kind, rule: Rule, place: Span, asked: Asked) -> Extraction | None:
    """Read the value in a rule's place."""
    span = way.find(text, place, rule.last, asked)
    if span is None:
        return None
    raw = text[span.start : span.end]
    value = way.canonical(raw, asked)
    return None if value is None else Extraction(value, raw, rule.name, *span)


def _kind(name: str) -> Kind:
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        raise LmsiError(f"unknown answer kind {name!r}", hint=f"kinds: {known}") from None
