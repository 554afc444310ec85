"""The parts of a report that an evaluation fills: result, curves, costs, temperatures, parts.

Pure functions from ``Evaluation`` to ``Section``. Knows words and figures; reads no file and draws
nothing.

    result_section(Evaluation(data="test", n=300, ...))
    -> Section(key="result-test", title="Result: test", lines=("CoT greedy: better, ...",), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmsi_cli.records import Interval
from lmsi_cli.report.digest import Chart, Section, Series, Sheet
from lmsi_cli.report.results import Evaluation, Figure, Pair, Variant
from lmsi_cli.report.tables import p_text, with_interval

CLEAR = 0.05  # corrected p below which a change is called one


def headline(e: Evaluation) -> Iterator[str]:
    """The result of a data set in a sentence per model; the base's figure where it is alone."""
    first = [p for p in e.pairs if p.primary]
    if not first:
        for v in e.mains:
            if (f := v.figure(e.primary)) is not None:
                yield f"{e.data}: {v.model}, {e.primary}: {with_interval(f.accuracy)}% right."
    for p in first:
        yield f"{e.data}, {told(p, e)}"
    for r in e.rivals.values():
        yield f"{e.data}: {r.sentence}"


def told(p: Pair, e: Evaluation) -> str:
    """One comparison as a sentence."""
    c = p.change
    word = "not clearly different from"
    if p.p_holm < CLEAR:
        word = "better than" if c.difference > 0 else "worse than"
    ends = [_percent(e, model, p) for model in (p.before, p.after)]
    figures = f"{ends[0]} to {ends[1]}, " if all(ends) else ""
    return (
        f"{p.line}: {p.after} is {word} {p.before}: {figures}{100 * c.difference:+.1f} points "
        f"[{100 * c.low:+.1f}, {100 * c.high:+.1f}], {p_of(p)}, n = {c.n}; "
        f"{100 * c.smallest_visible:.1f} points could have been seen."
    )


def p_of(p: Pair) -> str:
    """The corrected p-value, in words."""
    text = p_text(p.p_holm)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _percent(e: Evaluation, model: str, p: Pair) -> str:
    variants = [v for v in e.of_model(model) if p.temperature in (None, v.temperature)]
    figures = [v.figure(p.line) for v in variants]
    values = [f.accuracy.value for f in figures if f is not None]
    return f"{100 * sum(values) / len(values):.1f}%" if values else ""


def result_section(e: Evaluation, number: int) -> Section:
    """What a data set shows: accuracy, changes, curves, costs.

    Args:
        e: The evaluation.
        number: Of the data set in the report; makes the section's key unique.
    """
    lines = [*headline(e), *([e.corrected] if e.corrected else [])]
    if e.skipped:
        lines.append(f"{len(e.skipped)} questions were too long; they count as wrong.")
    if e.imported is not None:
        lines.append(f"Answers imported from {e.imported.program}: {e.imported.file}.")
    sheets = [_accuracy(e), _changes(e), *_rivals(e), _strata(e), _seeds(e)]
    charts = [*_curves(e), *_costs(e), *_temperatures(e)]
    return Section(
        key=f"result-{number}",
        title=f"Result: {e.data}",
        lines=tuple(lines),
        sheets=tuple(s for s in sheets if s.rows),
        charts=tuple(charts),
    )


def _accuracy(e: Evaluation) -> Sheet:
    rows = [
        (
            f.name,
            v.name,
            with_interval(f.accuracy),
            f"{100 * f.parsed:.0f}%",
            f"{f.tokens:,.0f}",
            f"{f.seconds:.3g}",
        )
        for v in e.variants
        for f in v.figures
    ]
    columns = ("", "model", "% right [95% interval]", "parsed", "tokens", "seconds a question")
    title = f"{e.data}: {e.n:,} questions, and what one costs"
    return Sheet(title=title, columns=columns, rows=tuple(_together(rows)))


def _together(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Bring rows of one line together, in the order in which the lines first occur."""
    lines = list(dict.fromkeys(row[0] for row in rows))
    return sorted(rows, key=lambda row: lines.index(row[0]))


def _changes(e: Evaluation) -> Sheet:
    rows = [
        (
            p.line + ("" if p.temperature is None else f", T {p.temperature:g}"),
            f"{p.before} to {p.after}",
            f"{100 * p.change.difference:+.1f} [{100 * p.change.low:+.1f}, "
            f"{100 * p.change.high:+.1f}]",
            f"+{p.change.gained} -{p.change.lost}",
            p_text(p.change.p_value),
            p_text(p.p_holm),
        )
        for p in e.pairs
    ]
    columns = ("", "models", "points [95% interval]", "questions", "p", "p, Holm")
    return Sheet(title="Changes, paired by question", columns=columns, rows=tuple(rows))


def _rivals(e: Evaluation) -> Iterator[Sheet]:
    """Each adapter's single answer beside votes of the base: what it gains, at what cost."""
    for model, r in e.rivals.items():
        rows = [
            (
                f"base, vote of {rung.k}",
                with_interval(rung.accuracy),
                f"{rung.tokens:,.0f}",
                f"{rung.seconds:.3g}",
                f"{100 * rung.change.difference:+.1f}",
                p_text(rung.p_value),
            )
            for rung in r.rungs
        ]
        own = (f"{model}, one answer", with_interval(r.accuracy), f"{r.tokens:,.0f}")
        rows.append((*own, f"{r.seconds:.3g}", "", ""))
        columns = ("", "% right", "tokens", "seconds a question", f"{model} minus it", "p, Holm")
        title = f"Rivals: one answer of {model}, or just voting"
        yield Sheet(title=title, columns=columns, rows=tuple(rows))


def _strata(e: Evaluation) -> Sheet:
    models = [v.model for v in e.mains]
    rows = [
        (s.name, s.by, f"{s.n:,}", *(_maybe(s.accuracy.get(m)) for m in models)) for s in e.strata
    ]
    columns = ("", "by", "questions", *models)
    title = f"{e.primary} by part of the questions, % right [95% interval]"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def _maybe(interval: Interval | None) -> str:
    return "" if interval is None else with_interval(interval)


def _seeds(e: Evaluation) -> Sheet:
    rows = [
        (
            r.line,
            f"{r.model}, T {r.temperature:g}",
            ", ".join(map(str, r.seeds)),
            f"{100 * r.values.mean:.1f}, from {100 * r.values.smallest:.1f} to "
            f"{100 * r.values.largest:.1f}",
        )
        for r in e.replicated
    ]
    columns = ("", "model", "seeds", "mean % right, spread")
    return Sheet(title="Seeds as replicates", columns=columns, rows=tuple(rows))


def _curves(e: Evaluation) -> Iterator[Chart]:
    drawn = [v for v in e.mains if len(v.curve) > 1]
    if not drawn:
        return
    series = [
        Series(
            name=f"{v.model}, {word}",
            x=tuple(float(p.k) for p in v.curve),
            y=tuple(i.value for i in of),
            low=tuple(i.low for i in of),
            high=tuple(i.high for i in of),
        )
        for v in drawn[:2]
        for word, of in (
            ("vote", [p.majority for p in v.curve]),
            ("any", [p.any for p in v.curve]),
        )
    ]
    yield Chart(
        title=f"What more paths give: {e.data}",
        series=tuple(series),
        x_label="paths a question (k)",
        y_label="right",
        log_x=True,
        percent="y",
        note="vote: maj@k, what voting gives; any: pass@k, what any selection could give. "
        "Bands: 95%.",
    )


def _costs(e: Evaluation) -> Iterator[Chart]:
    points = {v.model: list(_points(v)) for v in e.mains}
    if sum(map(len, points.values())) < 2:
        return
    series = [
        Series(
            name=model,
            x=tuple(x for x, _, _ in of),
            y=tuple(y for _, y, _ in of),
            labels=tuple(label for _, _, label in of),
            joined=False,
        )
        for model, of in points.items()
        if of
    ]
    yield Chart(
        title=f"Cost against accuracy: {e.data}",
        series=tuple(series),
        x_label="tokens a question",
        y_label="right",
        log_x=True,
        percent="y",
        note="Up and to the left is better: more right answers for fewer tokens.",
    )


def _points(v: Variant) -> Iterator[tuple[float, float, str]]:
    """Single answers by mode, and votes by k; the best of k is no method of answering."""
    for f in v.figures:
        if f.mode != "sc" and f.tokens > 0:
            yield f.tokens, f.accuracy.value, f.name
    for p in v.curve:
        if p.tokens > 0:
            yield p.tokens, p.majority.value, f"vote of {p.k}" if p.k > 1 else "one path"


def _temperatures(e: Evaluation) -> Iterator[Chart]:
    drawn = {m: t for m in _models(e) if len(t := _by_temperature(e, m)) > 1}
    if not drawn:
        return
    series = [
        Series(
            name=model,
            x=tuple(by),
            y=tuple(f.accuracy.value for f in by.values()),
            low=tuple(f.accuracy.low for f in by.values()),
            high=tuple(f.accuracy.high for f in by.values()),
        )
        for model, by in drawn.items()
    ]
    yield Chart(
        title=f"Accuracy by temperature, one sampled path: {e.data}",
        series=tuple(series),
        x_label="temperature",
        y_label="right",
        percent="y",
    )


def _models(e: Evaluation) -> list[str]:
    return list(dict.fromkeys(v.model for v in e.variants))


def _by_temperature(e: Evaluation, model: str) -> dict[float, Figure]:
    found: dict[float, Figure] = {}
    for v in e.of_model(model):
        if (f := v.figure("one sampled path")) is not None:
            found.setdefault(v.temperature, f)
    return dict(sorted(found.items()))


def order(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those with a comparison first: they say whether training helped."""
    return sorted(evaluations, key=lambda e: not e.pairs)
