"""The result of an evaluation in words, tables and charts: accuracy, changes, cost, curves.

Pure functions from ``Evaluation`` to ``Section``; computes nothing that is not in the record.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections.abc import Iterator

from lmsi_cli.report.breakdowns import DRAWN, confidence_lines
from lmsi_cli.report.digest import Chart, Section, Series, Sheet, curve
from lmsi_cli.report.formats import (
    CLEAR,
    p_text,
    p_words,
    percent,
    points,
    signed,
    tone,
    with_interval,
)
from lmsi_cli.report.grading import ONE
from lmsi_cli.report.results import Evaluation, Pair, Variant

SIDE_BY_SIDE = 2  # models; more of them go below one another


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
        yield _told(p, e)
    for model, r in e.rivals.items():
        yield f"{e.data}: {model}: {r.sentence}" if len(e.rivals) > 1 else f"{e.data}: {r.sentence}"


def _told(p: Pair, e: Evaluation) -> str:
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
        sheets=(accuracy_sheet(e), _cost(e), *_seeds(e)),
        charts=(*_curves(e), *_costs(e), *_temperatures(e)),
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
    if e.replicated:
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


def _cost(e: Evaluation) -> Sheet:
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


def _seeds(e: Evaluation) -> Iterator[Sheet]:
    """Sampled lines over several seeds."""
    rows = []
    for r in e.replicated:
        v, c = r.values, r.changes
        least_to_most = f"{100 * v.smallest:.1f} to {100 * v.largest:.1f}"
        change = ""
        if c is not None:
            low, high = 100 * (c.low or 0), 100 * (c.high or 0)
            change = f"{100 * c.mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        where, mean, sd = f"{r.line}, t {r.temperature:g}", 100 * v.mean, 100 * (v.sd or 0)
        rows.append((where, r.model, f"{mean:.1f}", f"{sd:.1f}", least_to_most, change))
    if rows:
        title = f"over {len(e.replicated[0].seeds)} seeds of the paths"
        columns = ("", "model", "mean", "sd", "least to most", "change [95%]")
        yield Sheet(title=title, columns=columns, rows=tuple(rows))


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


def _temperatures(e: Evaluation) -> Iterator[Chart]:
    """Sampled lines by temperature, the mean over seeds."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for v in sorted(e.variants, key=lambda v: v.temperature):
        for f in v.figures:
            if f.mode == "sc" and not f.name.startswith("any of"):
                values = found.setdefault((v.model, f.name), {})
                values.setdefault(v.temperature, []).append(f.accuracy.value)
    means = {
        key: {t: sum(own) / len(own) for t, own in values.items()}
        for key, values in found.items()
        if len(values) > 1
    }
    if not means:
        return
    yield Chart(
        title=f"by temperature: {e.data}",
        series=tuple(
            Series(name=f"{model}: {line}", x=tuple(by), y=tuple(by.values()))
            for (model, line), by in means.items()
        ),
        x_label="temperature",
        y_label="right",
        percent="y",
        note=_best_temperatures(means),
    )


def _best_temperatures(means: dict[tuple[str, str], dict[float, float]]) -> str:
    """Where the vote is best, per model."""
    best = []
    for (model, line), by in means.items():
        if line != ONE:
            t = max(by, key=lambda t: by[t])
            best.append(f"{model} {percent(by[t])} at {t:g}")
    return (
        f"best temperature of the vote: {', '.join(best)}; chosen on these questions, so a "
        "little too good."
    )
