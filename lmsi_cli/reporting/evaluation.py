"""An evaluation in words, tables and charts: accuracy, changes, cost, curves, confidence.

Pure functions from ``Evaluation`` to ``Section``; computes nothing that is not in the record.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmsi_cli.reporting.controls import control_lines, control_sheet
from lmsi_cli.reporting.digest import Chart, Section, Sheet, curve
from lmsi_cli.reporting.formats import (
    CLEAR,
    decimal,
    least_change,
    p_text,
    p_words,
    percent,
    points,
    signed,
    tone,
    with_interval,
)
from lmsi_cli.reporting.results import Evaluation, Pair

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
        yield pair_sentence(p, e)
    for model, r in e.rivals.items():
        yield f"{e.data}: {model}: {r.sentence}" if len(e.rivals) > 1 else f"{e.data}: {r.sentence}"


def outcome(p: Pair) -> str:
    """What a change came to: better, worse, or no clear change."""
    if p.p_holm >= CLEAR:
        return "no clear change"
    return "better" if p.change.difference > 0 else "worse"


def pair_sentence(p: Pair, e: Evaluation) -> str:
    """One comparison as a sentence; accuracies are means over seeds."""
    c = p.change
    word = f"{outcome(p)} than"
    visible = ""
    if p.p_holm >= CLEAR:
        word = "not clearly different from"
        visible = f"; this set could only have shown {least_change(c.smallest_visible)}"
    ends = []
    for model in (p.before, p.after):
        variants = [v for v in e.of_model(model) if p.temperature in (None, v.temperature)]
        values = [f.accuracy.value for v in variants if (f := v.figure(p.line)) is not None]
        ends.append(percent(sum(values) / len(values)))
    return (
        f"{p.line} on {e.data}: {p.after} is {word} {p.before}: {' to '.join(ends)} of {c.n} "
        f"questions right, {points(c)}, p {p_words(p.p_holm)}{visible}."
    )


def result_section(e: Evaluation, number: int = 1) -> Section:
    """What a data set shows: accuracy, changes, cost, curves.

    Args:
        e: The evaluation.
        number: Of the data set in the report; makes the section's key unique.
    """
    lines = [*headline(e), *control_lines(e), *([e.corrected] if e.corrected else [])]
    if e.skipped:
        lines.append(f"{len(e.skipped)} too long for the model's context; they count as wrong.")
    if (other := e.imported) is not None:
        lines.append(f"Answers imported from {other.program}: {other.file}.")
        for name, n in other.disagreements.items():
            own = percent(sum(other.marks[name]) / max(1, len(other.marks[name])))
            lines.append(f"{name}: {own} by {other.program}, {n} marked otherwise here.")
    return Section(
        key=f"result-{number}",
        title=f"Result: {e.data}",
        lines=tuple(lines),
        sheets=(
            accuracy_sheet(e),
            cost_sheet(e),
            *([control_sheet(e)] if e.nulls else []),
            *_replicated(e),
        ),
        charts=tuple(_curves(e)),
    )


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
        figures = [(v, v.figure(line), e.pair(line, v.model)) for v in e.mains]
        shares = [with_interval(f.accuracy if f else None) for _, f, _ in figures]
        changes = [(signed(p.change), p_text(p.p_holm)) if p else ("", "") for _, _, p in figures]
        colours = [tone(p.change, p.p_holm) if p else "" for _, _, p in figures]
        if not long:
            rows.append((name, *shares, *(cell for pair in changes[1:] for cell in pair)))
            tones.append("".join(colours))
            continue
        for place, (v, figure, _) in enumerate(figures):
            if figure is not None:
                rows.append((name, v.model, shares[place], *changes[place]))
                tones.append(colours[place])
                name = ""
    models = ["model", "% right"] if long else [v.model for v in e.mains]
    columns = ("", *models, *(["change, paired", "p"] if len(e.mains) > 1 else []))
    return Sheet(title=title, columns=columns, rows=tuple(rows), tones=tuple(tones), note=note)


def _lines(e: Evaluation) -> list[str]:
    return list(dict.fromkeys(f.name for v in e.mains for f in v.figures))


def cost_sheet(e: Evaluation) -> Sheet:
    """What each figure costs; the ceiling costs as much as the vote and is left out."""
    rows = []
    for line in (n for n in _lines(e) if not n.startswith("any of")):
        figures = [f for v in e.mains if (f := v.figure(line)) is not None]
        parsed = " > ".join(f"{100 * f.parsed:.0f}%" for f in figures)
        cut_off = " > ".join(f"{100 * f.cut_off:.0f}%" for f in figures)
        tokens = " > ".join(f"{f.tokens:.0f}" for f in figures)
        seconds = " > ".join(f"{f.seconds:.2f}" for f in figures)
        rows.append((line, parsed, cut_off, tokens, seconds))
    columns = ("", "parsed", "cut off", "tokens", "seconds")
    title = "form and cost of an answer"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


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
    series = []
    for v in [v for v in e.mains if len(v.curve) > 1][:DRAWN]:
        series.append(curve(f"{v.model}, maj@k", [(float(p.k), p.majority) for p in v.curve]))
        series.append(curve(f"{v.model}, pass@k", [(float(p.k), p.any) for p in v.curve]))
    if series:
        yield Chart(
            title=f"What more paths give: {e.data}",
            series=tuple(series),
            x_label="paths a question (k)",
            y_label="right",
            log_x=True,
            percent="y",
            note="maj@k: what voting gives; pass@k: what any selection could give. Bands: 95%.",
        )


def details_section(e: Evaluation, number: int) -> Section | None:
    """Every change with its own p-value, and parts of the questions; None if there is neither.

    Args:
        e: The evaluation.
        number: Makes the section's key unique.
    """
    models = [v.model for v in e.mains]
    strata = Sheet(
        title=f"{e.primary} by part of the questions, % right [95% interval]",
        columns=("", "by", "questions", *models),
        rows=tuple(
            (s.name, s.by, f"{s.n:,}", *(with_interval(s.accuracy.get(m)) for m in models))
            for s in e.strata
        ),
    )
    sheets = [s for s in (changes_sheet("Changes, paired by question", e.pairs), strata) if s.rows]
    if not sheets:
        return None
    title = f"In detail: {e.data}"
    return Section(key=f"details-{number}", title=title, sheets=tuple(sheets))


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
    sheet = Sheet(
        title="Share of the winner as confidence",
        columns=columns,
        rows=tuple(rows),
        note="ECE: 0 is best. AUROC: 0.5 tells nothing, less is upside down.",
    )
    chart = Chart(
        title="Reliability: share of the winner against accuracy",
        series=tuple(
            curve(name, [(b.confidence, b.accuracy) for b in t.reliability])
            for name, t in list(e.confidence.models.items())[:DRAWN]
        ),
        x_label="share of the winner",
        y_label="winner is right",
        percent="xy",
        diagonal=True,
        note="Below the dotted line the model is surer than right. Bands: 95%.",
    )
    return Section(
        key=f"confidence-{number}",
        title=f"Is agreement worth anything? {e.data}",
        lines=tuple(confidence_lines(e)),
        sheets=(sheet,),
        charts=(chart,),
    )
