"""An evaluation in tables: accuracy, changes, controls, cost, votes, confidence.

Pure functions from ``Evaluation``; computes nothing that is not in the record.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from lmsi_cli.formats import decimal, moved, p_text, percent, points, tone, with_interval
from lmsi_cli.reporting.comparison import control_lines, sentences
from lmsi_cli.reporting.digest import Section, Sheet
from lmsi_cli.reporting.results import Evaluation, Figure, Pair

SIDE_BY_SIDE = 2  # models at most; more of them go in rows of their own
FLIPS, QUESTION = 10, 80  # questions listed of either kind; characters shown of one


def eval_parts(e: Evaluation) -> list[Sheet | str]:
    """What `lmsi eval` shows: the tables that have any rows, then the results in sentences."""
    return [*(s for s in _sheets(e) if s.rows), *result_lines(e)]


def result_section(e: Evaluation, number: int) -> Section:
    """A data set in a report: the same, then the changes, the flips and the confidence.

    ``number`` is that of the data set in the report; it makes the section's key unique.
    """
    changes = changes_sheet("changes, paired by question; p by Holm", e.pairs)
    sheets = (*_sheets(e), changes, flips_sheet(e, e.primary), *_confidence(e))
    shown = [s for s in sheets if s.rows]
    return Section(f"result-{number}", f"Result: {e.data}", list(result_lines(e)), shown)


def _sheets(e: Evaluation) -> tuple[Sheet, ...]:
    """Accuracy, cost, controls, temperatures and seeds, votes."""
    return accuracy_sheet(e), cost_sheet(e), _controls(e), _sweep(e), _curves(e)


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
    rows: list[tuple[str, ...]] = []
    pairs: list[Pair | None] = []  # the change of each row
    models = columns = [v.model for v in e.mains]
    if len(models) > SIDE_BY_SIDE:
        columns = ["model", "% right"]
        for name, model, f in _figures(e, _lines(e)):
            rows.append((name, model, with_interval(f.accuracy)))
            pairs.append(e.pair(f.name, model))
    else:
        for line in _lines(e):
            figures = [v.figure(line) for v in e.mains]
            rows.append((line, *(with_interval(f.accuracy if f else None) for f in figures)))
            pairs.append(e.pair(line, models[-1]))
    if e.pairs:
        rows = [(f"{row[0]} *", *row[1:]) if row[0] == e.primary else row for row in rows]
    if len(models) > 1:
        columns = [*columns, "change, paired", "p"]
        changes = [(points(p.change, ""), p_text(p.p_holm)) if p else ("", "") for p in pairs]
        rows = [(*row, *change) for row, change in zip(rows, changes, strict=True)]
    several = len({v.seed for v in e.of_model(models[0])}) > 1
    seeds = f"The figures are of seed {e.mains[0].seed}, the changes of all seeds."
    return Sheet(
        f"{e.data}: {e.n} questions, % right [95% interval]",
        ["", *columns],
        rows,
        note=seeds if several else "",
        tones=[tone(p.change, p.p_holm) if p else "" for p in pairs],
    )


def _figures(e: Evaluation, lines: Iterable[str]) -> Iterator[tuple[str, str, Figure]]:
    """Each model's figure of each line, with their names; a line is named where it begins."""
    for line in lines:
        name = line
        for v in e.mains:
            if (f := v.figure(line)) is not None:
                yield name, v.model, f
                name = ""


def _lines(e: Evaluation) -> list[str]:
    return list(dict.fromkeys(f.name for v in e.mains for f in v.figures))


def cost_sheet(e: Evaluation) -> Sheet:
    """What each figure costs; the ceiling costs as much as the vote and is left out."""
    rows = []
    for line in (n for n in _lines(e) if not n.startswith("any of")):
        figures = [f for v in e.mains if (f := v.figure(line)) is not None]
        told = [
            (f"{f.parsed:.0%}", f"{f.cut_off:.0%}", f"{f.tokens:.0f}", f"{f.seconds:.2f}")
            for f in figures
        ]
        rows.append((line, *map(" > ".join, zip(*told, strict=True))))
    return Sheet("form and cost of an answer", ("", "parsed", "cut off", "tokens", "seconds"), rows)


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
    columns = ("", "models", "points [95% interval]", "questions", "p")
    return Sheet(title, columns, rows, tones=[tone(p.change, p.p_holm) for p in pairs])


def flips_sheet(e: Evaluation, line: str) -> Sheet:
    """Questions whose score on a line changed from the first model to the last, gains first.

    At most ``FLIPS`` of each kind are listed.
    """
    known = [f.scores for v in e.mains if (f := v.figure(line)) is not None]
    both = zip(e.questions, known[0], known[-1], strict=True) if known else ()
    changed = sorted(((q, a - b) for q, a, b in both if a != b), key=lambda pair: pair[1] > 0)
    up = [q for q, loss in changed if loss < 0]
    down = [q for q, loss in changed if loss > 0]
    rows = [
        (q.id, word, q.gold, textwrap.shorten(q.question, QUESTION, placeholder=" ..."))
        for word, questions in (("better", up), ("worse", down))
        for q in questions[:FLIPS]
    ]
    title = f"{line}, of {e.n} questions: better {len(up)}, worse {len(down)}"
    note = f"and {left} more" if (left := len(changed) - len(rows)) else ""
    return Sheet(title, ("", "", "right answer", "question"), rows, note)


def _controls(e: Evaluation) -> Sheet:
    """Every line of the controls; their p-values are left out."""
    sheet = changes_sheet("controls: changes that are no gain", e.nulls)
    return Sheet(sheet.title, sheet.columns[:-1], [row[:-1] for row in sheet.rows])


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
    several = len({v.temperature for v in drawn}) > 1
    title = "by temperature and seed, % right [95% interval]"
    return Sheet(title, ("", *lines), rows, note if several else "")


def _curves(e: Evaluation) -> Sheet:
    """What k paths are worth: maj@k is what voting gives, pass@k what perfect selection would."""
    drawn = [v for v in e.mains if len(v.curve) > 1]
    rows = [
        (f"{v.model}, k = {p.k}", with_interval(p.majority), with_interval(p.any))
        for v in drawn
        for p in v.curve
    ]
    title = f"what more paths give: {e.data}, % right [95% interval]"
    return Sheet(title, ("", "maj@k", "pass@k"), rows)


def _confidence(e: Evaluation) -> Iterator[Sheet]:
    """Whether agreement predicts right answers, per model; no rows where nothing was sampled."""
    rows = [
        (
            name,
            f"{t.questions:,}" + (f" and {t.silent:,} without an answer" if t.silent else ""),
            f"{t.confidence:.2f}",
            with_interval(t.accuracy),
            f"{t.ece:.3f}",
            decimal(t.auroc),
        )
        for name, t in e.confidence.items()
    ]
    columns = ("", "questions", "mean share", "vote right, %", "ECE", "AUROC")
    note = "ECE: 0 is best. AUROC: 0.5 tells nothing, less is upside down."
    yield Sheet("share of the winner as confidence", columns, rows, note)
    tenths = [
        (name, f"{b.low:.1f} to {b.high:.1f}", f"{b.n:,}", with_interval(b.accuracy))
        for name, t in e.confidence.items()
        for b in t.reliability
    ]
    headings = ("", "share of the winner", "questions", "vote right, %")
    yield Sheet("reliability: share against accuracy", headings, tenths)


def picture(e: Evaluation) -> Sheet:
    """Each model's deciding line, the vote and the ceiling, to be drawn with their intervals."""
    sampled = [f.name for v in e.mains for f in v.figures if f.mode == "sc"]
    lines = [e.primary, *(n for n in sampled if n.startswith(("majority", "any")))]
    found = list(_figures(e, dict.fromkeys(lines)))
    return Sheet(
        f"Right answers, {e.n} questions of {e.data}",
        ("", "model", "% right [95% interval]"),
        [(name, model, with_interval(f.accuracy)) for name, model, f in found],
        note=f"{e.primary} decides. Majority: what voting gives; any: the ceiling of any selection."
        " All with 95% intervals.",
        spans=[f.accuracy for _, _, f in found],
    )
