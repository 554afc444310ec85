"""Two evaluations on the same questions: how their settings and their results differ.

Knows the record of an evaluation and pairing; the statistics are in ``stats``. Two questions are
the same if their ids, words and right answers are.

    opposed(Side("runs/a", before, base), Side("runs/b", after, adapter))
    -> Opposed(evaluation=Evaluation(n=300, pairs=(Pair(line="CoT greedy", ...),), ...),
               differences=(Difference(name="temperature", a="0.7", b="1"),), flips=(...))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import EngineConfig, ServerConfig
from lmsi_cli.contamination import same_words
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.reporting.comparison import compared, sentences
from lmsi_cli.reporting.digest import Section, Sheet, fragment
from lmsi_cli.reporting.evaluation import accuracy_sheet, cost_sheet, flips_sheet
from lmsi_cli.reporting.results import Answer, Evaluation, Figure, Labelled, Variant
from lmsi_cli.stats.intervals import score_interval

SPEED = {*EngineConfig.__struct_fields__, *ServerConfig.__struct_fields__, "modes", "limit", "seed"}
UNKNOWN, NONE = "not known", "none"


class Side(NamedTuple):
    """One of the two: its origin, its evaluation, one model of it, and that model's answers."""

    name: str
    evaluation: Evaluation
    variant: Variant
    answers: Sequence[Answer] = ()

    def figure(self, line: str) -> Figure:
        """The figure of a line; LmsiError: there is none."""
        found = self.variant.figure(line)
        if found is None:
            lines = ", ".join(f.name for f in self.variant.figures) or NONE
            raise LmsiError(f"{self.name}: no line {line!r}", hint=f"--line; there are: {lines}")
        return found

    def scores(self, line: str) -> dict[str, float]:
        """The scores of a line by question id, 0 to 1."""
        return dict(zip(self.evaluation.gold, self.figure(line).scores, strict=True))

    def texts(self, line: str) -> dict[str, list[Answer]]:
        """The answers behind a line by question id; the file may hold more than were asked."""
        mode = self.figure(line).mode
        paths = int(self.evaluation.settings.get("paths", 0)) if mode == "sc" else 1
        found: dict[str, list[Answer]] = {}
        for x in sorted(self.answers, key=lambda x: x.path):
            if x.mode == mode and (x.path < paths or not paths):
                found.setdefault(x.question_id, []).append(x)
        return found


class Difference(Record, frozen=True, kw_only=True):
    """A setting, a file or a version in which the two differ."""

    name: str
    a: str
    b: str


class Flip(Record, frozen=True, kw_only=True):
    """A question whose score changed, with the texts behind it; no texts if the files are gone."""

    question: Labelled
    a: float
    b: float
    texts_a: tuple[Answer, ...]
    texts_b: tuple[Answer, ...]


class Opposed(Record, frozen=True, kw_only=True):
    """A compared with B; positive changes are for B.

    ``evaluation`` covers the common questions, with both sides as its models ``A`` and ``B``.
    ``left_out`` counts questions that are not the same in both, ``unpaired`` are lines that only
    one side has, ``flips`` are those of ``line``, gains first.
    """

    a: str
    b: str
    evaluation: Evaluation
    left_out: int
    differences: tuple[Difference, ...]
    unpaired: tuple[str, ...]
    line: str
    flips: tuple[Flip, ...]

    def _repr_html_(self) -> str:  # for notebooks
        return fragment(opposed_section(self))


def opposed(a: Side, b: Side, line: str = "") -> Opposed:
    """Compare two sides, ``a`` before and ``b`` after, on the questions that both have.

    ``line`` is the one whose flips are listed; empty: the deciding one, or the first in both.
    LmsiError: they have no question or no line in common.
    """
    common = _common(a, b)
    lines = [f.name for f in a.variant.figures if b.variant.figure(f.name)]
    if not lines:
        raise LmsiError(
            f"{a.name} and {b.name} have no line in common",
            hint="evaluate both with the same --modes and --paths",
        )
    primary = next((p for x in (b, a) if (p := x.evaluation.primary) in lines), lines[0])
    line = line or primary
    joint = Evaluation(
        data="A and B",
        n=len(common),
        primary=primary,
        kind=b.evaluation.kind,
        task=b.evaluation.task,
        questions=tuple(common),
    )
    both = tuple(_restricted(s, name, lines, joint) for s, name in ((a, "A"), (b, "B")))
    return Opposed(
        a=f"{a.name}: {a.variant.name} on {a.evaluation.data}",
        b=f"{b.name}: {b.variant.name} on {b.evaluation.data}",
        evaluation=compared([msgspec.structs.replace(joint, variants=both)])[0],
        left_out=len({*a.evaluation.gold, *b.evaluation.gold}) - len(common),
        differences=tuple(differences(a, b)),
        unpaired=tuple(f.name for s in (a, b) for f in s.variant.figures if f.name not in lines),
        line=line,
        flips=tuple(sorted(_flips(line, a, b, common), key=lambda f: f.a - f.b)),
    )


def _restricted(side: Side, name: str, lines: Sequence[str], joint: Evaluation) -> Variant:
    """A side's figures on the common questions alone, as if both were drawn in the same way."""
    place = {q: i for i, q in enumerate(side.evaluation.gold)}
    kept = [place[q.id] for q in joint.questions]
    figures = []
    for f in map(side.figure, lines):
        scores = tuple(f.scores[i] for i in kept)
        whole = tuple(f.whole[i] for i in kept) if f.whole else ()
        accuracy = score_interval(scores, joint.groups)
        figures.append(msgspec.structs.replace(f, scores=scores, whole=whole, accuracy=accuracy))
    return msgspec.structs.replace(
        side.variant,
        name=name,
        model=name,
        temperature=0.0,
        seed=0,
        main=True,
        figures=tuple(figures),
        curve=(),
    )


def differences(a: Side, b: Side) -> Iterator[Difference]:
    """The files, settings and versions in which the two differ, files first."""
    one, two = _made_of(a), _made_of(b)
    for name in dict.fromkeys([*one, *two]):
        left, right = one.get(name, UNKNOWN), two.get(name, UNKNOWN)
        if left != right:
            yield Difference(name=name, a=left, b=right)


def _made_of(side: Side) -> dict[str, str]:
    e, v = side.evaluation, side.variant
    source, sampled = e.source, any(f.mode == "sc" for f in v.figures)
    settings = {k: x for k, x in e.settings.items() if k not in SPEED | {"temperature", "scale"}}
    parts: dict[str, Any] = {
        "program": e.imported.program if e.imported else "lmsi",
        "model": _file(source.get("file"), source.get("sha256")),
        "tokenizer": str(source.get("tokenizer_sha256") or UNKNOWN)[:8],
        "adapter": _file(v.adapter, v.adapter_sha256) if v.adapter else NONE,
        "scale": f"{v.scale:g}" if v.adapter else NONE,
        "task": e.task,
        "answers": e.kind,
        **({"temperature": f"{v.temperature:g}"} if sampled else {}),
        **settings,
        **{f"version of {k}": x for k, x in e.versions.items()},
    }
    found = {}
    for name, value in parts.items():
        found[name] = UNKNOWN if value in (None, "") else str(value)
        if isinstance(value, list | tuple):
            found[name] = ",".join(map(str, value)) or NONE
    return found


def _file(name: object, sha256: object) -> str:
    return f"{name} ({str(sha256)[:8]})" if name else UNKNOWN


def _common(a: Side, b: Side) -> list[Labelled]:
    """The questions that both answered, in the order of A."""
    theirs = {(q.id, same_words(q.question), q.gold) for q in b.evaluation.questions}
    common = [q for q in a.evaluation.questions if (q.id, same_words(q.question), q.gold) in theirs]
    if not common:
        raise LmsiError(
            f"{a.name} and {b.name} have no question in common",
            hint="questions are matched by id, words and right answer",
        )
    return common


def _flips(line: str, a: Side, b: Side, common: Sequence[Labelled]) -> Iterator[Flip]:
    one, two = a.scores(line), b.scores(line)
    texts = a.texts(line), b.texts(line)
    for q in common:
        if one[q.id] != two[q.id]:
            left, right = (tuple(t.get(q.id, ())) for t in texts)
            yield Flip(question=q, a=one[q.id], b=two[q.id], texts_a=left, texts_b=right)


def opposed_section(o: Opposed) -> Section:
    """The comparison as it is shown: the result in sentences, what differs, the figures."""
    lines = [f"A  {o.a}", f"B  {o.b}", *sentences(o.evaluation)]
    if o.left_out:
        lines.append(f"left out: {o.left_out} questions that are not the same in both")
    if o.unpaired:
        lines.append(f"only in one of them: {', '.join(dict.fromkeys(o.unpaired))}")
    if not o.differences:
        lines.append("no setting differs")
    differing = [(d.name, d.a, d.b) for d in o.differences]
    tokenizers = any(d.name == "tokenizer" and UNKNOWN not in (d.a, d.b) for d in o.differences)
    note = "the tokenizers differ, so counts of tokens do not compare" if tokenizers else ""
    sheets = (
        Sheet("what differs", ("", "A", "B"), differing, note),
        accuracy_sheet(o.evaluation),
        cost_sheet(o.evaluation),
        flips_sheet(o.evaluation, o.line),
    )
    return Section("comparison", "A and B", lines, [s for s in sheets if s.rows])


def flip_texts(o: Opposed) -> Iterator[str]:
    """Each question that flipped, gains first, with both sides' answers.

    Of several answers of a side, their counts are given, and the text of the most frequent one.
    """
    for f in o.flips:
        word = "better" if f.b > f.a else "worse"
        yield f"\n{word} in B: {f.question.id}, right is {f.question.gold}"
        yield f.question.question
        for name, value, texts in (("A", f.a, f.texts_a), ("B", f.b, f.texts_b)):
            mark = "right" if value == 1 else "wrong" if value == 0 else f"{value:.2f} right"
            if not texts:
                yield f"{name} {mark}; the texts are no longer there"
                continue
            ballots = Counter(t.predicted_answer or "none" for t in texts).most_common()
            first = next(t for t in texts if (t.predicted_answer or "none") == ballots[0][0])
            counts = ", ".join(f"{a} {n} times" if len(texts) > 1 else a for a, n in ballots)
            yield f"{name} {mark}, {counts}:\n  {first.text.strip()}"
