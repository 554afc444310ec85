r"""Find the answer in a text, by the rules of its kind.

Knows the kinds by name and how rules are applied; nothing of models, files or votes. What a text
*states* comes first, in whatever words: the sentence that the task asked for, a heading, another
sentence, a box, a hash line. If nothing is stated, a refusal has no answer. Otherwise the kind's
own rules decide in order: the first that finds its *place* wins, whether or not it holds a value.
Of several statements, the one counts that a person would take after reading to the end:

- The last statement with a value is the conclusion; those before it are steps, or corrected.
- But two different values stated side by side, with nothing between them that computes or
  corrects, are a contradiction, and the text has no answer:
  "The answer is 5.\n\n**Final Answer:** 6".
- A statement without a value ("The answer is unknown.") overrides what stands before it, since
  an earlier number is a step of the solution. The text after it may still conclude.
- Beside other statements, a hash line counts only if it is the last one and the sentence that the
  task asked for is missing: four hashes also open a heading.

Sampling stops at the first answer sentence, so only other texts hold several.

    explain("6 * 7 = 42. The answer is 42.")
    -> (Step(rule="contradiction", place=None, found=None, fired=False),
        Step(rule="marker", place=Span(26, 28), found=Extraction("42", ...), fired=True), ...)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import NamedTuple

from lmsi_cli.answers import choice, date, latex, number, span, yesno
from lmsi_cli.answers.numerals import ascii_digits
from lmsi_cli.answers.places import TRIGGER, Asked, Said, Span, anywhere, boxes, hashes, short_reply
from lmsi_cli.answers.sentences import before_run_on, markers
from lmsi_cli.answers.statements import declines, headings, no_answer, refusal, wordings
from lmsi_cli.errors import LmsiError

NOTHING = Asked()
CONTRADICTION, MARKER, HASH = "contradiction", "marker", "hash"
Places = Callable[[str, str], list[Said]]  # of a text and its trigger
Finder = Callable[[str, Span, Asked], Span | None]


class Rule(NamedTuple):
    """A named kind of place to look for the answer; ``find`` is its own way to read it, if any."""

    name: str
    places: Places
    find: Finder | None = None


class Kind(NamedTuple):
    """What answers of one kind look like.

    ``stating`` are rules for places whose words say that it is the answer, ``likely`` those for
    other places. ``find`` reads a place that states the answer, ``last`` running text that leads to
    it. ``reach`` is how many characters of a statement are read; of running text, four times as
    many are read, counted from its end.
    """

    stating: tuple[Rule, ...]
    likely: tuple[Rule, ...]
    find: Finder
    last: Finder
    canonical: Callable[[str, Asked], str | None]
    reach: int = 1000


_MARKER, _WHOLE = Rule(MARKER, markers), Rule("whole", anywhere)
_REFUSAL = Rule("refusal", refusal, find=lambda *_: None)
_NO_ANSWER = Rule("no-answer", no_answer, find=lambda *_: None)


def _row(module: ModuleType, *likely: Rule, reach: int = 1000) -> Kind:
    """A kind whose module reads and spells its values."""
    stating = (
        _MARKER,
        Rule("heading", headings),
        Rule("sentence", wordings),
        Rule("boxed", boxes),
        Rule(HASH, hashes(module.HASHED)),
    )
    return Kind(stating, (_REFUSAL, *likely), module.find, module.last, module.canonical, reach)


_SHORT = "short-reply"
KINDS: dict[str, Kind] = {
    "choice": _row(choice, Rule(_SHORT, short_reply, choice.reply), Rule("last-choice", anywhere)),
    "date": _row(date, _NO_ANSWER, Rule("last-date", anywhere), reach=500),
    "latex": _row(latex, _NO_ANSWER, Rule("last-formula", anywhere)),
    "number": _row(number, _NO_ANSWER, Rule("bold", number.bold), Rule("last-number", anywhere)),
    "span": _row(span, Rule(_SHORT, short_reply)),
    "text": Kind((_MARKER,), (_REFUSAL, _WHOLE), span.whole, span.whole, span.collapsed, 10**9),
    "yesno": _row(yesno, Rule("last-yesno", anywhere)),
}
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correct(?:ion|ed|ing)?|mistake\w*|errors?|wrong|incorrect|instead|oops"
    r"|sorry|apolog\w+|rather|hold on|however|but|no,|(?:let me|let['\u2019]s|let us|we)"
    r" (?:re|double|check|verify|try)|re-?(?:check|evaluat|consider|calculat|comput|examin)\w*"
    r"|on second thought|should (?:be|have)|revis\w+)\b",
    re.IGNORECASE,
)
_BESIDE = 8  # two statements with fewer words between them stand side by side
_CLOSING = " \t\r\n.,;:!?*_`$\\()[]{}\"'"  # what may close a text behind its last statement


class Extraction(NamedTuple):
    """An answer: its canonical value, the words it was read from, where, and by which rule."""

    value: str
    raw: str
    rule: str
    start: int
    end: int


class Step(NamedTuple):
    """One rule: where it looked, what it found there, and whether it decided.

    A rule that fired but found nothing says that the text has no answer. ``place`` is ``None`` if
    the text has no such place, and ``at`` is where the words that introduce it begin.
    """

    rule: str
    place: Span | None
    found: Extraction | None
    fired: bool = False
    at: int = 0


def extract(
    text: str, kind: str = "number", trigger: str = TRIGGER, asked: Asked = NOTHING
) -> Extraction | None:
    """Read the answer out of one path; ``None`` if there is none, or if two contradict each other.

    Args:
        text: What the model wrote after the prompt; a run-on next question is ignored.
        kind: A key of ``KINDS``.
        trigger: The words before an answer; matched in any case and spacing.
        asked: What the question says about its answer, such as its options.

    Raises:
        LmsiError: The kind is unknown, or needs a package that is not installed.
    """
    read = _Text(before_run_on(text), _kind(kind), trigger, asked)
    stated = read.stated()
    decided = _concluded(read.plain, stated) or next(read.likely(stated), None)
    return decided.found if decided else None


def explain(
    text: str, kind: str = "number", trigger: str = TRIGGER, asked: Asked = NOTHING
) -> tuple[Step, ...]:
    """Report where each rule of a kind looks in a text, and what it finds; see ``extract``."""
    way = _kind(kind)
    read = _Text(before_run_on(text), way, trigger, asked)
    stated = read.stated()
    likely = list(read.likely(stated))
    decided = _concluded(read.plain, stated) or next(iter(likely), None)
    steps = {step.rule: step for step in (*stated, *likely)}
    if decided:
        steps[decided.rule] = decided._replace(fired=True)
    names = (CONTRADICTION, *(rule.name for rule in way.stating + way.likely))
    return tuple(steps.get(name, Step(name, None, None)) for name in names)


def canonical(value: str, kind: str = "number", asked: Asked = NOTHING) -> str | None:
    """Spell a written answer, such as a gold answer, in its kind's one canonical form.

    For numbers: an integer as ``42``, a terminating decimal as ``0.75``, else lowest terms ``1/3``.
    Equal values have equal spellings; currency and units are dropped. For the other kinds see
    their modules. ``None`` if the text does not hold exactly one value; raises as ``extract`` does.
    """
    return _kind(kind).canonical(ascii_digits(value), asked)


class _Text:
    """One text and how it is read; ``plain`` has ASCII digits at the same positions."""

    def __init__(self, text: str, way: Kind, trigger: str, asked: Asked) -> None:
        self.text, self.way, self.trigger, self.asked = text, way, trigger, asked
        self.plain = ascii_digits(text)

    def stated(self) -> list[Step]:
        """All statements of an answer in text order, with their values."""
        rules = self.way.stating
        found = [(said, r) for r in rules for said in r.places(self.plain, self.trigger)]
        return [self._step(rule, said) for said, rule in _apart(found)]

    def likely(self, stated: Sequence[Step]) -> Iterator[Step]:
        """Other places where an answer may stand, in the order of the rules.

        If no statement has a value, they begin behind the last one.
        """
        valued = any(step.found for step in stated)
        start = 0 if valued else max((s.place.end for s in stated if s.place), default=0)
        for rule in self.way.likely:
            said = next(iter(rule.places(self.plain, self.trigger)), None)
            if said and said.place.end > start:
                place = Span(max(said.place.start, start), said.place.end)
                yield self._step(rule, said._replace(place=place))

    def _step(self, rule: Rule, said: Said) -> Step:
        """Read the value in a place."""
        (start, end), find, reach = said.place, self.way.find, self.way.reach
        if said.running:
            start, find = max(start, end - 4 * reach), self.way.last
        else:
            end = min(end, start + reach)
        span = (rule.find or find)(self.plain, Span(start, end), self.asked)
        value = self.way.canonical(self.plain[slice(*span)], self.asked) if span else None
        found = None
        if span and value:
            found = Extraction(value, self.text[slice(*span)], rule.name, *span)
        return Step(rule.name, said.place, found, at=said.at)


def _apart(found: list[tuple[Said, Rule]]) -> list[tuple[Said, Rule]]:
    """Sort statements; of nested ones the inner counts, but a box is the outer one's value.

    Two that share their opening words count once, under the rule that is listed first.
    """
    kept: list[tuple[Said, Rule]] = []
    for said, rule in sorted(found, key=lambda pair: pair[0].place.start):
        if kept and said.place.start < kept[-1][0].place.end:
            if rule.name == "boxed" or said.at < kept[-1][0].place.start:
                continue
            kept.pop()
        kept.append((said, rule))
    return kept


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise LmsiError(f"unknown answer kind {name!r}", hint=f"kinds: {', '.join(sorted(KINDS))}")
    return KINDS[name]


def _concluded(text: str, stated: Sequence[Step]) -> Step | None:
    """The statement that gives a text's answer, or says that it has none; None if none does."""
    hashed = stated and stated[-1].rule == HASH and not any(s.rule == MARKER for s in stated)
    stated = stated if hashed else [s for s in stated if s.rule != HASH] or stated
    valued = [(step.found.value, step) for step in stated if step.found]
    ends = stated[-1] if stated else None
    declined = ends and ends.place and declines(text, ends.place)
    if not valued:
        follows = ends and ends.place and text[ends.place.end :].strip(_CLOSING)
        return ends if declined or not follows else None
    value, last = valued[-1]
    if ends is not last and declined:
        return ends
    rival = next((step for other, step in reversed(valued) if other != value), None)
    if rival and rival.place and last.place:
        between = text[rival.place.end : max(last.at, rival.place.end)]
        if _is_beside(between):
            return Step(CONTRADICTION, Span(rival.place.start, last.place.end), None)
    return last


def _is_beside(between: str) -> bool:
    """Whether nothing between two statements computes the second or corrects the first."""
    if len(between.split()) >= _BESIDE or re.search("[0-9]", between):
        return False
    return not _CORRECTION.search(between)
