"""An evaluation in words, tables and charts: accuracy, changes, cost, curves, confidence.

Pure functions from ``Evaluation`` to ``Section``; computes nothing that is not in the record.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.records import Interval
from lmsi_cli.report.digest import Chart, Section, Series, Sheet, curve
from lmsi_cli.report.formats import (
    CLEAR,
    decimal,
    p_text,
    p_words,
    percent,
    points,
    signed,
    tone,
    with_interval,
)
from lmsi_cli.report.results import Evaluation, Pair, Variant

SIDE_BY_SIDE = 2  # models; more of them go below one another
DRAWN = 2  # models in one picture: before and after


def eval_parts(e: Evaluation) -> list[Sheet | Chart | str]:
    """What `lmsi eval` shows: the tables, then what they come to."""
    s = result_section(e)
    return [*s.sheets, *s.charts, *s.lines, *confidence_lines(e)]


def headline(e: Evaluation) -> Iterator[str]:
    """The result of a data set in a sentence per model; the base's figure where it is alone."""
    first = [p for p in e.pairs if p.primary]
    if not first:
        for v in e.mains:
            if (f := v.figure(e.primary)) is not None:
                yield f"{e.data}: {v.model}, {e.primary}: {with_interval(f.accuracy)}% right."
    for p in first:
        yield _pair_sentence(p, e)
    for model, r in e.rivals.items():
        yield f"{e.data}: {model}: {r.sentence}" if len(e.rivals) > 1 else f"{e.data}: {r.sentence}"


def _pair_sentence(p: Pair, e: Evaluation) -> str:
    """One comparison as a sentence."""
    c = p.change
    word = "not clearly different from"
    if p.p_holm < CLEAR:
        word = "better than" if c.difference > 0 else "worse than"
    ends = [_mean(e, model, p) for model in (p.before, p.after)]
    return (
        f"{p.line} on {e.data}: {p.after} is {word} {p.before}: {' to '.join(ends)}, {points(c)}, "
        f"p {p_words(p.p_holm)}; smallest difference that these {c.n} questions could show: "
        f"{100 * c.smallest_visible:.1f} points."
    )


def _mean(e: Evaluation, model: str, p: Pair) -> str:
    """Accuracy of a line, the mean over seeds."""
    variants = [v for v in e.of_model(model) if p.temperature in (None, v.temperature)]
    values = [f.accuracy.value for v in variants if (f := v.figure(p.line)) is not None]
    return percent(sum(values) / len(values))


def result_section(e: Evaluation, number: int = 1) -> Section:
    """What a data set shows: accuracy, changes, cost, curves.

    Args:
        e: The evaluation.
        number: Of the data set in the report; makes the section's key unique.
    """
    lines = [*headline(e), *([e.corrected] if e.corrected else [])]
    if e.skipped:
        lines.append(f"{len(e.skipped)} too long for the model's context; they count as wrong.")
    if e.imported is not None:
        lines.append(f"Answers imported from {e.imported.program}: {e.imported.file}.")
        lines += _disagreements(e)
    return Section(
        key=f"result-{number}",
        title=f"Result: {e.data}",
        lines=tuple(lines),
        sheets=(accuracy_sheet(e), cost_sheet(e), *_replicated(e)),
        charts=(*_curves(e), *_costs(e)),
    )


def _disagreements(e: Evaluation) -> Iterator[str]:
    """Where the program that the answers come from marked them otherwise."""
    if e.imported is not None:
        for name, n in e.imported.disagreements.items():
            marks = e.imported.marks[name]
            own = percent(sum(marks) / max(1, len(marks)))
            yield f"{name}: {own} by {e.imported.program}, {n} marked otherwise here."


def accuracy_sheet(e: Evaluation) -> Sheet:
    """A row per line, and of many models per line and model."""
    title = f"{e.data}: {e.n} questions, % right [95% interval]"
    note = ""
    if any(len(r.seeds) > 1 for r in e.replicated):
        note = f"The figures are of seed {e.mains[0].seed}, the changes of all seeds."
    rows: list[tuple[str, ...]] = []
    tones: list[str] = []
    long = len(e.mains) > SIDE_BY_SIDE
    for line in _lines(e):
        name = f"{line} *" if line == e.primary and e.pairs else line
        pairs = [p for v in e.mains[1:] if (p := e.pair(line, v.model))]
        if long:
            found = [_model_row(e, line, v) for v in e.mains if v.figure(line)]
            rows += [(name if n == 0 else "", *row) for n, (row, _) in enumerate(found)]
            tones += [own for _, own in found]
        else:
            figures = [f.accuracy if (f := v.figure(line)) else None for v in e.mains]
            changes = [x for p in pairs for x in (signed(p.change), p_text(p.p_holm))]
            change = changes or [""] * 2 * (len(e.mains) - 1)
            rows.append((name, *map(with_interval, figures), *change))
            tones.append("".join(tone(p.change, p.p_holm) for p in pairs))
    models = ["model", "% right"] if long else [v.model for v in e.mains]
    columns = ("", *models, *(["change, paired", "p"] if len(e.mains) > 1 else []))
    return Sheet(title=title, columns=columns, rows=tuple(rows), tones=tuple(tones), note=note)


def _model_row(e: Evaluation, line: str, v: Variant) -> tuple[tuple[str, ...], str]:
    figure, pair = v.figure(line), e.pair(line, v.model)
    change = ("", "") if pair is None else (signed(pair.change), p_text(pair.p_holm))
    own = "" if pair is None else tone(pair.change, pair.p_holm)
    return (v.model, with_interval(figure.accuracy if figure else None), *change), own


def _lines(e: Evaluation) -> list[str]:
    return list(dict.fromkeys(f.name for v in e.mains for f in v.figures))


def cost_sheet(e: Evaluation) -> Sheet:
    """What each figure costs; the ceiling costs as much as the vote and is left out."""
    rows = []
    for line in (n for n in _lines(e) if not n.startswith("any of")):
        figures = [f for v in e.mains if (f := v.figure(line)) is not None]
        parsed = " > ".join(f"{100 * f.parsed:.0f}%" for f in figures)
        tokens = " > ".join(f"{f.tokens:.0f}" for f in figures)
        seconds = " > ".join(f"{f.seconds:.2f}" for f in figures)
        rows.append((line, parsed, tokens, seconds))
    columns = ("", "parsed", "tokens", "seconds")
    return Sheet(title="parsed, and the cost of a question", columns=columns, rows=tuple(rows))


def _replicated(e: Evaluation) -> Iterator[Sheet]:
    """Sampled lines at each temperature, over the seeds."""
    rows = []
    for r in e.replicated:
        v, c = r.values, r.changes
        least_to_most = f"{100 * v.smallest:.1f} to {100 * v.largest:.1f}"
        change = ""
        if c is not None:
            change = f"{100 * c.mean:+.1f}"
            change += "" if c.low is None else f" [{100 * c.low:+.1f}, {100 * (c.high or 0):+.1f}]"
        sd = "" if v.sd is None else f"{100 * v.sd:.1f}"
        where = f"{r.line}, t {r.temperature:g}"
        rows.append((where, r.model, f"{100 * v.mean:.1f}", sd, least_to_most, change))
    if rows:
        seeds = len(e.replicated[0].seeds)
        title = f"by temperature, over {seeds} seed{'s' * (seeds > 1)} of the paths"
        columns = ("", "model", "mean", "sd", "least to most", "change [95%]")
        note = "The best of several temperatures is chosen on these questions: a little too good."
        note = note if len({r.temperature for r in e.replicated}) > 1 else ""
        yield Sheet(title=title, columns=columns, rows=tuple(rows), note=note)


def _curves(e: Evaluation) -> Iterator[Chart]:
    """What k paths are worth, by their vote and by the best of them."""
    drawn = [v for v in e.mains if len(v.curve) > 1][:DRAWN]
    if drawn:
        yield Chart(
            title=f"What more paths give: {e.data}",
            series=tuple(
                series
                for v in drawn
                for series in (
                    curve(f"{v.model}, maj@k", ((float(p.k), p.majority) for p in v.curve)),
                    curve(f"{v.model}, pass@k", ((float(p.k), p.any) for p in v.curve)),
                )
            ),
            x_label="paths a question (k)",
            y_label="right",
            log_x=True,
            percent="y",
            note="maj@k: what voting gives; pass@k: what any selection could give. Bands: 95%.",
        )


def _costs(e: Evaluation) -> Iterator[Chart]:
    drawn = {v.model: sorted(_priced(v)) for v in e.mains}
    if sum(map(len, drawn.values())) < 2:
        return
    yield Chart(
        title=f"Cost against accuracy: {e.data}",
        series=tuple(
            Series(
                name=model,
                x=tuple(x for x, _, _ in of),
                y=tuple(y for _, y, _ in of),
                labels=tuple(label for _, _, label in of),
                joined=False,
            )
            for model, of in drawn.items()
            if of
        ),
        x_label="tokens a question",
        y_label="right",
        log_x=True,
        percent="y",
        note="Up and to the left is better: more right answers for fewer tokens.",
    )


def _priced(v: Variant) -> Iterator[tuple[float, float, str]]:
    """Single answers by mode, and votes by k; the best of k is no method of answering."""
    for f in v.figures:
        if f.mode != "sc" and f.tokens > 0:
            yield f.tokens, f.accuracy.value, f.name
    for p in v.curve:
        if p.tokens > 0:
            yield p.tokens, p.majority.value, f"vote of {p.k}" if p.k > 1 else "one path"


def details_section(e: Evaluation, number: int) -> Section | None:
    """Every change with its own p-value, and parts of the questions; None if there is neither.

    Args:
        e: The evaluation.
        number: Makes the section's key unique.
    """
    changes = changes_sheet("Changes, paired by question", e.pairs)
    sheets = tuple(s for s in (changes, _strata(e)) if s.rows)
    if not sheets:
        return None
    return Section(key=f"details-{number}", title=f"In detail: {e.data}", sheets=sheets)


def changes_sheet(title: str, pairs: Sequence[Pair]) -> Sheet:
    """Every change with its own p-value and the corrected one."""
    rows = [
        (
            p.line + ("" if p.temperature is None else f", t {p.temperature:g}"),
            f"{p.before} to {p.after}",
            signed(p.change),
            f"+{p.change.gained} -{p.change.lost}",
            p_text(p.change.p_value),
            p_text(p.p_holm),
        )
        for p in pairs
    ]
    return Sheet(
        title=title,
        columns=("", "models", "points [95% interval]", "questions", "p", "p, Holm"),
        rows=tuple(rows),
        tones=tuple(tone(p.change, p.p_holm) for p in pairs),
    )


def _strata(e: Evaluation) -> Sheet:
    models = [v.model for v in e.mains]
    rows = [
        (s.name, s.by, f"{s.n:,}", *(with_interval(s.accuracy.get(m)) for m in models))
        for s in e.strata
    ]
    columns = ("", "by", "questions", *models)
    title = f"{e.primary} by part of the questions, % right [95% interval]"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def confidence_lines(e: Evaluation) -> Iterator[str]:
    """What training did to agreement and to right votes; models whose order is upside down."""
    c = e.confidence
    if c is None:
        return
    if c.surer is not None and c.righter is not None:
        yield (
            f"Agreement {points(c.surer)}, votes that are right {points(c.righter)}, on "
            f"{c.surer.n} questions."
        )
    yield from c.findings


def confidence_section(e: Evaluation, number: int) -> Section | None:
    """Whether agreement is worth anything, per model; None where nothing was sampled.

    Args:
        e: The evaluation.
        number: Makes the section's key unique.
    """
    if e.confidence is None:
        return None
    rows = [
        (
            name,
            f"{t.questions:,}" + (f" and {t.silent:,} without an answer" if t.silent else ""),
            f"{t.confidence:.2f}",
            with_interval(t.accuracy),
            f"{t.ece:.3f}",
            decimal(t.auroc),
        )
        for name, t in e.confidence.models.items()
    ]
    columns = ("", "questions", "mean share", "vote right, %", "ECE", "AUROC")
    drawn = list(e.confidence.models.items())[:DRAWN]
    return Section(
        key=f"confidence-{number}",
        title=f"Is agreement worth anything? {e.data}",
        lines=tuple(confidence_lines(e)),
        sheets=(
            Sheet(
                title="Share of the winner as confidence",
                columns=columns,
                rows=tuple(rows),
                note="ECE: 0 is best. AUROC: 0.5 tells nothing, less is upside down.",
            ),
        ),
        charts=(
            reliability_chart(
                "Reliability: share of the winner against accuracy",
                {name: [(b.confidence, b.accuracy) for b in t.reliability] for name, t in drawn},
            ),
        ),
    )


def reliability_chart(title: str, tables: Mapping[str, Sequence[tuple[float, Interval]]]) -> Chart:
    """How often the winner is right by its share; ``tables`` holds (share, right) per name."""
    return Chart(
        title=title,
        series=tuple(curve(name, table) for name, table in tables.items()),
        x_label="share of the winner",
        y_label="winner is right",
        percent="xy",
        diagonal=True,
        note="Below the dotted line the model is surer than right. Bands: 95%.",
    )
