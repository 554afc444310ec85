"""An evaluation as tables for the terminal; the same record goes out as JSON.

Knows Rich's tables and the record; computes nothing that is not in it.

                          base        adapter      change, paired       p
    CoT greedy *   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lmsi_cli.report.figures import ONE
from lmsi_cli.report.results import Evaluation, Figure, Pair, Variant
from lmsi_cli.report.tables import change, columns, p_text, percent, with_interval

SIDE_BY_SIDE = 2  # models; more of them go below one another
Part = Table | Text | str


def eval_tables(e: Evaluation) -> list[Part]:
    """Before and after on one data set: accuracy, cost, curves, sweeps, and what it comes to."""
    parts: list[Part] = [_accuracy(e), "", _cost(e), ""]
    parts += _spaced([_curves(e), _temperatures(e), _seeds(e)])
    parts += [Text(s) for s in (*conclusions(e), e.rivals, e.corrected) if s]
    if e.skipped:
        parts.append(f"{len(e.skipped)} too long for the model's context; they count as wrong.")
    return [*parts, ""]


def conclusions(e: Evaluation) -> list[str]:
    """A sentence per model on the line that decides."""
    found = [_conclusion(e, p) for p in e.pairs if p.primary]
    first = e.variants[0].figure(e.primary) if e.variants else None
    if not found and first is not None:
        return [f"{e.primary}: {percent(first.accuracy.value)} of {e.n} questions."]
    return found + _best_temperatures(e)


def _conclusion(e: Evaluation, p: Pair) -> str:
    d = p.change
    clear = p.p_holm < 0.05
    told = ("better" if d.difference > 0 else "worse") if clear else "not clearly different"
    return (
        f"{p.line} on {e.data}: {p.after} is {told}, {100 * d.difference:+.1f} points "
        f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]; smallest difference that these {d.n} "
        f"questions could show: {100 * d.smallest_visible:.1f}."
    )


def _accuracy(e: Evaluation) -> Table:
    title = f"{e.data}: {e.n} questions, % right [95% interval]"
    if len(e.mains) > SIDE_BY_SIDE:
        return _long(e, title)
    adapted = [e.mains[1].model, "change, paired", "p"] if len(e.mains) > 1 else []
    table = columns(title, ["", *(v.model for v in e.mains[:1]), *adapted])
    for line in _lines(e.mains):
        cells = [with_interval(f.accuracy) if f else "" for f in _of(e.mains, line)]
        pairs = [p for v in e.mains[1:] if (p := e.pair(line, v.model))]
        table.add_row(_name(e, line), *cells, *(x for p in pairs for x in _change(p)))
    return table


def _long(e: Evaluation, title: str) -> Table:
    """A row per line and model, where there are too many models for columns."""
    table = columns(title, ["", " ", "% right", "change, paired", "p"])
    table.columns[1].justify = "left"
    for line in _lines(e.mains):
        for place, (v, f) in enumerate(zip(e.mains, _of(e.mains, line), strict=True)):
            pair = e.pair(line, v.model)
            if f is not None:
                name = _name(e, line) if place == 0 else ""
                told = _change(pair) if pair else []
                table.add_row(name, escape(v.model), with_interval(f.accuracy), *told)
    return table


def _change(p: Pair) -> list[Text | str]:
    return [change(p.change, p.p_holm), p_text(p.p_holm)]


def _name(e: Evaluation, line: str) -> str:
    """A line's name; the star marks the one that decides."""
    return f"{line} *" if line == e.primary and e.pairs else line


def _lines(variants: Iterable[Variant]) -> list[str]:
    return list(dict.fromkeys(f.name for v in variants for f in v.figures))


def _of(variants: Sequence[Variant], line: str) -> list[Figure | None]:
    return [v.figure(line) for v in variants]


def _cost(e: Evaluation) -> Table:
    """What each figure costs; the ceiling costs as much as the vote and is left out."""
    table = columns("parsed, and the cost of a question", ["", "parsed", "tokens", "seconds"])
    for line in (n for n in _lines(e.mains) if not n.startswith("any of")):
        both = [f for f in _of(e.mains, line) if f is not None]
        table.add_row(
            line,
            " > ".join(f"{100 * f.parsed:.0f}%" for f in both),
            " > ".join(f"{f.tokens:.0f}" for f in both),
            " > ".join(f"{f.seconds:.2f}" for f in both),
        )
    return table


def _curves(e: Evaluation) -> Table | None:
    """What k paths are worth, by their vote and by the best of them."""
    shown = [v for v in e.mains if len(v.curve) > 1]
    if not shown:
        return None
    names = [f"{v.model} {what}" for v in shown for what in ("maj@k", "pass@k")]
    at = f"at temperature {shown[0].temperature:g}"
    table = columns(f"k of the sampled paths {at}, all subsets", ["k", *names, "tokens"])
    for points in zip(*(v.curve for v in shown), strict=False):
        cells = [with_interval(i) for p in points for i in (p.majority, p.any)]
        table.add_row(f"{points[0].k}", *cells, " > ".join(f"{p.tokens:.0f}" for p in points))
    return table


def _temperatures(e: Evaluation) -> Table | None:
    """Sampled lines by temperature; a star marks the best one of each column."""
    rows = _by_temperature(e)
    if len(rows) < SIDE_BY_SIDE:
        return None
    keys = list(dict.fromkeys(key for cells in rows.values() for key in cells))
    best = {k: max(c[k] for c in rows.values() if k in c) for k in keys}
    table = columns("% right by temperature", ["", *(f"{m}: {line}" for line, m in keys)])
    for temperature, cells in rows.items():
        shown = [
            f"{100 * cells[k]:.1f}" + (" *" if cells[k] == best[k] else "  ") if k in cells else ""
            for k in keys
        ]
        table.add_row(f"{temperature:g}", *shown)
    return table


def _by_temperature(e: Evaluation) -> dict[float, dict[tuple[str, str], float]]:
    """Per temperature, by (line, model), the mean over seeds."""
    values: dict[float, dict[tuple[str, str], list[float]]] = {}
    for v in e.variants:
        for f in v.figures:
            if f.mode == "sc" and not f.name.startswith("any of"):
                cells = values.setdefault(v.temperature, {})
                cells.setdefault((f.name, v.model), []).append(f.accuracy.value)
    return {
        t: {key: sum(own) / len(own) for key, own in sorted(cells.items(), key=_one_first)}
        for t, cells in sorted(values.items())
    }


def _one_first(item: tuple[tuple[str, str], object]) -> bool:
    return item[0][0] != ONE


def _best_temperatures(e: Evaluation) -> list[str]:
    """Where the vote is best, per model."""
    rows = _by_temperature(e)
    if len(rows) < SIDE_BY_SIDE:
        return []
    lines = [f.name for f in e.variants[0].figures if f.name.startswith("majority")]
    told = []
    for model in (v.model for v in e.mains):
        own = {t: c[lines[0], model] for t, c in rows.items() if (lines[0], model) in c}
        best = max(own, key=lambda t: own[t])
        told.append(f"{model} {percent(own[best])} at {best:g}")
    return [
        f"best temperature of the vote: {', '.join(told)}; chosen on these questions, so a "
        "little too good."
    ]


def _seeds(e: Evaluation) -> Table | None:
    """Sampled lines over several seeds."""
    if not e.replicated:
        return None
    names = ["", " ", "mean", "sd", "least to most", "change [95%]"]
    table = columns(f"over {len(e.replicated[0].seeds)} seeds of the paths", names)
    table.columns[1].justify = "left"
    for r in e.replicated:
        v, c = r.values, r.changes
        table.add_row(
            f"{r.line}, t {r.temperature:g}",
            escape(r.model),
            f"{100 * v.mean:.1f}",
            f"{100 * (v.sd or 0):.1f}",
            f"{100 * v.smallest:.1f} to {100 * v.largest:.1f}",
            f"{100 * c.mean:+.1f} [{100 * (c.low or 0):+.1f}, {100 * (c.high or 0):+.1f}]"
            if c
            else "",
        )
    return table


def _spaced(tables: Iterable[Table | None]) -> list[Part]:
    return [part for t in tables if t is not None for part in (t, "")]
