"""Two evaluations on the same questions: what differs in how they were made, and in what came out.

Knows the record of an evaluation and pairing; the statistics are in ``stats``, the drawing in
``opposing_tables.py``. Questions are the same if id, words and right answer are.

    opposed(Side("runs/a", before, base), Side("runs/b", after, adapter), intersect=False)
    -> Opposed(n=300, lines=(OpposedLine(line="CoT greedy", change=Paired(...), ...),),
               differences=(Difference(name="temperature", a="0.7", b="1"),), flips=(...))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lmsi_cli.config import EngineConfig, ServerConfig
from lmsi_cli.contamination import same_words
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Interval, Paired, Record
from lmsi_cli.report.figures import accuracy
from lmsi_cli.report.results import Answer, Evaluation, Figure, Labelled, Variant, clusters_of
from lmsi_cli.stats import holm, paired

NAMED = 5  # of the questions that differ; the rest are counted
SPEED = {*EngineConfig.__struct_fields__, *ServerConfig.__struct_fields__, "modes", "limit", "seed"}
UNKNOWN, NONE = "not known", "none"


class Side(NamedTuple):
    """One of the two: where it comes from, its evaluation, the model in it, and its texts."""

    name: str
    evaluation: Evaluation
    variant: Variant
    answers: Sequence[Answer] = ()


class Difference(Record, frozen=True, kw_only=True):
    """A setting, a file or a version that the two do not share."""

    name: str
    a: str
    b: str


class OpposedLine(Record, frozen=True, kw_only=True):
    """One line of both; ``p_holm`` as in ``results.Pair``: the line that decides stands alone."""

    line: str
    a: Interval
    b: Interval
    tokens: tuple[float, float]
    seconds: tuple[float, float]
    change: Paired
    p_holm: float


class Flip(Record, frozen=True, kw_only=True):
    """A question whose score changed, with the texts behind it; none where the files are gone."""

    question: Labelled
    a: float
    b: float
    texts_a: tuple[Answer, ...]
    texts_b: tuple[Answer, ...]


class Opposed(Record, frozen=True, kw_only=True):
    """A compared with B; positive changes are for B.

    ``left_out`` counts questions that only one of them has; ``unpaired`` are lines of one alone.
    ``flips`` are those of ``line``, gains first.
    """

    a: str
    b: str
    n: int
    left_out: int
    differences: tuple[Difference, ...]
    lines: tuple[OpposedLine, ...]
    unpaired: tuple[str, ...]
    line: str
    flips: tuple[Flip, ...]


def opposed(a: Side, b: Side, line: str = "", intersect: bool = False, seed: int = 0) -> Opposed:
    """Compare two sides.

    Args:
        a: The first, "before".
        b: The second, "after".
        line: Whose flips are told; empty: the line that decides, or the first that both have.
        intersect: Compare the questions that both have, where they differ.
        seed: Of the bootstrap.

    Raises:
        LmsiError: The questions differ and ``intersect`` is off, none is common, or there is no
            common line.
    """
    common = _common(a, b, intersect)
    lines = [f.name for f in a.variant.figures if b.variant.figure(f.name)]
    if not lines:
        raise LmsiError(
            f"{a.name} and {b.name} have no line in common: {_told(a.variant)}; {_told(b.variant)}",
            hint="evaluate both with the same --modes and --paths",
        )
    primary = next((p for x in (b, a) if (p := x.evaluation.primary) in lines), lines[0])
    line = line or primary
    if line not in lines:
        raise LmsiError(f"no line {line!r} in both", hint=f"lines: {', '.join(lines)}")
    found = [_line(name, a, b, common, seed) for name in lines]
    return Opposed(
        a=_label(a),
        b=_label(b),
        n=len(common),
        left_out=len({*a.evaluation.gold, *b.evaluation.gold}) - len(common),
        differences=tuple(differences(a, b)),
        lines=tuple(_corrected(found, primary)),
        unpaired=tuple(
            f.name for v in (a.variant, b.variant) for f in v.figures if f.name not in lines
        ),
        line=line,
        flips=tuple(sorted(_flips(line, a, b, common), key=lambda f: f.a - f.b)),
    )


def differences(a: Side, b: Side) -> Iterator[Difference]:
    """What the two were not made with alike, files first."""
    one, two = _made_of(a), _made_of(b)
    for name in dict.fromkeys([*one, *two]):
        left, right = one.get(name, UNKNOWN), two.get(name, UNKNOWN)
        if left != right:
            yield Difference(name=name, a=left, b=right)


def _made_of(side: Side) -> dict[str, str]:
    e, v = side.evaluation, side.variant
    source, sampled = e.source, any(f.mode == "sc" for f in v.figures)
    settings = {k: x for k, x in e.settings.items() if k not in SPEED | {"temperature", "scale"}}
    told: dict[str, Any] = {
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
    return {k: _plain(x) for k, x in told.items()}


def _file(name: object, sha256: object) -> str:
    return f"{name} ({str(sha256)[:8]})" if name else UNKNOWN


def _plain(value: Any) -> str:  # noqa: ANN401 - any setting
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or NONE
    return UNKNOWN if value in (None, "") else str(value)


def _label(side: Side) -> str:
    return f"{side.name}: {side.variant.name} on {side.evaluation.data}"


def _told(variant: Variant) -> str:
    return ", ".join(f.name for f in variant.figures) or NONE


def _common(a: Side, b: Side, intersect: bool) -> list[Labelled]:
    """The questions that both answered, in the order of A."""
    theirs = {q.id: q for q in b.evaluation.questions}
    common = [q for q in a.evaluation.questions if q.id in theirs and _same(q, theirs[q.id])]
    odd = {*a.evaluation.gold, *b.evaluation.gold} - {q.id for q in common}
    if not common:
        raise LmsiError(
            f"{a.name} and {b.name} have no question in common",
            hint="questions are matched by id, words and right answer",
        )
    if odd and not intersect:
        changed = sorted(q for q in odd if q in a.evaluation.gold and q in theirs)
        raise LmsiError(_odd(a, b, sorted(odd), changed), hint=(
            f"--intersect compares the {len(common)} that are the same"))  # fmt: skip
    return common


def _odd(a: Side, b: Side, odd: Sequence[str], changed: Sequence[str]) -> str:
    more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
    why = f" ({len(changed)} with other words or another right answer)" if changed else ""
    return (
        f"{a.name} has {a.evaluation.n} questions and {b.name} {b.evaluation.n}, and {len(odd)} "
        f"are not in both{why}: {', '.join(odd[:NAMED])}{more}"
    )


def _same(one: Labelled, other: Labelled) -> bool:
    """Files of older versions hold no words."""
    known = one.question and other.question
    words = not known or same_words(one.question) == same_words(other.question)
    return words and one.gold == other.gold


def _scores(side: Side, line: str) -> dict[str, float]:
    figure = _figure(side, line)
    return dict(zip(side.evaluation.gold, figure.scores, strict=True))


def _figure(side: Side, line: str) -> Figure:
    found = side.variant.figure(line)
    assert found is not None  # the lines are those of both
    return found


def _line(line: str, a: Side, b: Side, common: Sequence[Labelled], seed: int) -> OpposedLine:
    one, two = ([_scores(s, line)[q.id] for q in common] for s in (a, b))
    left, right = _figure(a, line), _figure(b, line)
    clusters = clusters_of(common)
    return OpposedLine(
        line=line,
        a=accuracy(one, clusters),
        b=accuracy(two, clusters),
        tokens=(left.tokens, right.tokens),
        seconds=(left.seconds, right.seconds),
        change=paired(one, two, seed, clusters),
        p_holm=1.0,
    )


def _corrected(lines: Sequence[OpposedLine], primary: str) -> Iterator[OpposedLine]:
    """Correct the lines that do not decide among themselves."""
    others = [x.line for x in lines if x.line != primary]
    adjusted = holm([x.change.p_value for x in lines if x.line in others])
    values = dict(zip(others, adjusted, strict=True))
    for x in lines:
        fields = {name: getattr(x, name) for name in x.__struct_fields__}
        yield OpposedLine(**{**fields, "p_holm": values.get(x.line, x.change.p_value)})


def _flips(line: str, a: Side, b: Side, common: Sequence[Labelled]) -> Iterator[Flip]:
    one, two = _scores(a, line), _scores(b, line)
    texts_a, texts_b = _texts(a, line), _texts(b, line)
    for q in common:
        if one[q.id] != two[q.id]:
            yield Flip(
                question=q,
                a=one[q.id],
                b=two[q.id],
                texts_a=tuple(texts_a.get(q.id, ())),
                texts_b=tuple(texts_b.get(q.id, ())),
            )


def _texts(side: Side, line: str) -> Mapping[str, list[Answer]]:
    """The answers behind a line, by question; more of them may be in the file than were asked."""
    mode = _figure(side, line).mode
    paths = int(side.evaluation.settings.get("paths", 0)) if mode == "sc" else 1
    found: dict[str, list[Answer]] = {}
    for x in sorted(side.answers, key=lambda x: x.path):
        if x.mode == mode and (x.path < paths or not paths):
            found.setdefault(x.question_id, []).append(x)
    return found
