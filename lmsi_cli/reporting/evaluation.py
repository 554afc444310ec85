"""An evaluation in tables: accuracy, changes, controls, cost, votes, confidence.

Pure functions from ``Evaluation``; computes nothing that is not in the record.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from lmsi_cli.formats import decimal, moved, p_text, percent, points, tone, with_interval
from lmsi_cli.reporting.comparison import control_lines, sentences
from lmsi_cli.reporting.digest import Section, Sheet
from lmsi_cli.reporting.results import Evaluation, Labelled, Pair

SIDE_BY_SIDE = 2  # models at most; more of them go in rows of their own
FLIPS, QUESTION = 10, 80  # questions listed of either kind; characters shown of one


def eval_parts(e: Evaluation) -> list[Sheet | str]:
    """What `lmsi eval` shows: the tables, then the results in sentences."""
    return [*result_sheets(e), *result_lines(e)]


def result_section(e: Evaluation, number: int) -> Section:
    """A data set in a report: the same, then the changes, the flips and the confidence.

    Args:
        e: The evaluation.
        number: That of the data set in the report; makes the section's key unique.
    """
    sheets = (
        *result_sheets(e),
        changes_sheet("changes, paired by question; p by Holm", e.pairs),
        _flips(e),
        *_confidence(e),
    )
    return Section(
        key=f"result-{number}",
        title=f"Result: {e.data}",
        lines=tuple(result_lines(e)),
        sheets=tuple(s for s in sheets if s.rows),
    )


def result_sheets(e: Evaluation) -> list[Sheet]:
    """The tables that have any rows: accuracy, cost, controls, temperatures and seeds, votes."""
    sheets = accuracy_sheet(e), cost_sheet(e), _controls(e), _sweep(e), _curves(e)
    return [s for s in sheets if s.rows]


def result_lines(e: Evaluation) -> Iterator[str]:
    """The results in sentences."""
    yield from (*sentences(e), *control_lines(e))
    if e.corrected:
        yield e.corrected
    if e.skipped:
        yield f"{len(e.skipped)} too long for the model's context; they count as wrong."
    if (other := e.imported) is not None:
        yield f"Answers imported from {other.program}: {other.file}."
        for name, n in other.disagreements.items():
            own = percent(sum(other.marks[name]) / max(1, len(other.marks[name])))
            yield f"{name}: {own} by {other.program}, {n} marked otherwise here."
    for model, t in e.confidence.items():
        if t.auroc is not None and t.auroc.high < 0.5:
            yield (
                f"{model}: more agreement, fewer right answers. The order is upside down: AUROC "
                f"{decimal(t.auroc)}. Filters by share keep the wrong paths."
            )


def accuracy_sheet(e: Evaluation) -> Sheet:
    """A row per line; with more than two models, a row per line and model."""
    note = ""
    if len({v.seed for v in e.of_model(e.mains[0].model)}) > 1:
        note = f"The figures are of seed {e.mains[0].seed}, the changes of all seeds."
    rows: list[tuple[str, ...]] = []
    tones: list[str] = []
    long = len(e.mains) > SIDE_BY_SIDE
    for line in _lines(e):
        name = f"{line} *" if line == e.primary and e.pairs else line
        figures = [(v, v.figure(line), e.pair(line, v.model)) for v in e.mains]
        shares = [with_interval(f.accuracy if f else None) for _, f, _ in figures]
        changes = [
            (points(p.change, ""), p_text(p.p_holm)) if p else ("", "") for _, _, p in figures
        ]
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
    return Sheet(
        title=f"{e.data}: {e.n} questions, % right [95% interval]",
        columns=("", *models, *(["change, paired", "p"] if len(e.mains) > 1 else [])),
        rows=tuple(rows),
        tones=tuple(tones),
        note=note,
    )


def _lines(e: Evaluation) -> list[str]:
    return list(dict.fromkeys(f.name for v in e.mains for f in v.figures))


def cost_sheet(e: Evaluation) -> Sheet:
    """What each figure costs; the ceiling costs as much as the vote and is left out."""
    rows = []
    for line in (n for n in _lines(e) if not n.startswith("any of")):
        figures = [f for v in e.mains if (f := v.figure(line)) is not None]
        cells = (
            [f"{f.parsed:.0%}" for f in figures],
            [f"{f.cut_off:.0%}" for f in figures],
            [f"{f.tokens:.0f}" for f in figures],
            [f"{f.seconds:.2f}" for f in figures],
        )
        rows.append((line, *map(" > ".join, cells)))
    columns = ("", "parsed", "cut off", "tokens", "seconds")
    return Sheet(title="form and cost of an answer", columns=columns, rows=tuple(rows))


def changes_sheet(title: str, pairs: Sequence[Pair]) -> Sheet:
    """Changes in points and questions, with their corrected p-values."""
    rows = [
        (
            p.line + ("" if p.temperature is None else f", t {p.temperature:g}"),
            f"{p.before} to {p.after}",
            points(p.change, ""),
            moved(p.change),
            p_text(p.p_holm),
        )
        for p in pairs
    ]
    return Sheet(
        title=title,
        columns=("", "models", "points [95% interval]", "questions", "p"),
        rows=tuple(rows),
        tones=tuple(tone(p.change, p.p_holm) for p in pairs),
    )


def flips_sheet(line: str, n: int, changed: Sequence[tuple[Labelled, float, float]]) -> Sheet:
    """Questions whose score changed, gains first; at most ``FLIPS`` of each kind.

    Args:
        line: The line that they changed on.
        n: How many were asked.
        changed: Each with its score before and after.
    """
    up = [q for q, before, after in changed if after > before]
    down = [q for q, before, after in changed if after < before]
    rows = [
        (q.id, word, q.gold, textwrap.shorten(q.question, QUESTION, placeholder=" ..."))
        for word, questions in (("better", up), ("worse", down))
        for q in questions[:FLIPS]
    ]
    left = len(changed) - len(rows)
    return Sheet(
        title=f"{line}, of {n} questions: better {len(up)}, worse {len(down)}",
        columns=("", "", "right answer", "question"),
        rows=tuple(rows),
        note=f"and {left} more" if left > 0 else "",
    )


def _flips(e: Evaluation) -> Sheet:
    """The questions that changed between the base and the last model on the deciding line."""
    known = [f.scores for v in e.mains if (f := v.figure(e.primary)) is not None]
    both = zip(e.questions, known[0], known[-1], strict=True) if known else ()
    return flips_sheet(e.primary, e.n, [(q, a, b) for q, a, b in both if a != b])


def _controls(e: Evaluation) -> Sheet:
    """Every line of the controls; their p-values are left out."""
    sheet = changes_sheet("controls: changes that are no gain", e.nulls)
    rows = tuple(row[:-1] for row in sheet.rows)
    return Sheet(title=sheet.title, columns=sheet.columns[:-1], rows=rows)


def _sweep(e: Evaluation) -> Sheet:
    """Sampled lines at each temperature and seed, where there are several."""
    drawn = [v for v in e.variants if not v.null and len(list(e.of_model(v.model))) > 1]
    lines = dict.fromkeys(f.name for v in drawn for f in v.figures if f.mode == "sc")
    rows = []
    for v in drawn:
        figures = [v.figure(line) for line in lines]
        shares = [with_interval(f.accuracy if f else None) for f in figures]
        rows.append((f"{v.model}, t {v.temperature:g}, seed {v.seed}", *shares))
    note = "The best of several temperatures is chosen on these questions: a little too good."
    return Sheet(
        title="by temperature and seed, % right [95% interval]",
        columns=("", *lines),
        rows=tuple(rows),
        note=note if len({v.temperature for v in drawn}) > 1 else "",
    )


def _curves(e: Evaluation) -> Sheet:
    """What k paths are worth: maj@k is what voting gives, pass@k what perfect selection would."""
    drawn = [v for v in e.mains if len(v.curve) > 1]
    rows = [
        (f"{v.model}, k = {p.k}", with_interval(p.majority), with_interval(p.any))
        for v in drawn
        for p in v.curve
    ]
    title = f"what more paths give: {e.data}, % right [95% interval]"
    return Sheet(title=title, columns=("", "maj@k", "pass@k"), rows=tuple(rows))


def _confidence(e: Evaluation) -> Iterator[Sheet]:
    """Whether agreement predicts right answers, per model; no rows where nothing was sampled."""
    models = e.confidence
    rows = [
        (
            name,
            f"{t.questions:,}" + (f" and {t.silent:,} without an answer" if t.silent else ""),
            f"{t.confidence:.2f}",
            with_interval(t.accuracy),
            f"{t.ece:.3f}",
            decimal(t.auroc),
        )
        for name, t in models.items()
    ]
    yield Sheet(
        title="share of the winner as confidence",
        columns=("", "questions", "mean share", "vote right, %", "ECE", "AUROC"),
        rows=tuple(rows),
        note="ECE: 0 is best. AUROC: 0.5 tells nothing, less is upside down.",
    )
    tenths = [
        (name, f"{b.low:.1f} to {b.high:.1f}", f"{b.n:,}", with_interval(b.accuracy))
        for name, t in models.items()
        for b in t.reliability
    ]
    columns = ("", "share of the winner", "questions", "vote right, %")
    yield Sheet(title="reliability: share against accuracy", columns=columns, rows=tuple(tenths))


def picture(e: Evaluation) -> Sheet:
    """Each model's deciding line, the vote and the ceiling, to be drawn with their intervals."""
    sampled = [f.name for v in e.mains for f in v.figures if f.mode == "sc"]
    lines = [e.primary, *(n for n in sampled if n.startswith(("majority", "any")))]
    found = [
        (line, v.model, f.accuracy)
        for line in dict.fromkeys(lines)
        for v in e.mains
        if (f := v.figure(line)) is not None
    ]
    names = ["" if n and found[n - 1][0] == line else line for n, (line, _, _) in enumerate(found)]
    return Sheet(
        title=f"Right answers, {e.n} questions of {e.data}",
        columns=("", "model", "% right [95% interval]"),
        rows=tuple((n, m, with_interval(i)) for n, (_, m, i) in zip(names, found, strict=True)),
        spans=tuple(i for _, _, i in found),
        note=f"{e.primary} decides. Majority: what voting gives; any: the ceiling of any selection."
        " All with 95% intervals.",
    )
