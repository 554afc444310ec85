"""What `lmsi questions` made, as tables for the terminal; the same record goes out as JSON.

Knows Rich and the record of a generation; computes nothing that is not in it.

    how varied              10 seeds     100 kept
    words, median             28.0         26.0
    distinct pairs, by 10      62%          58%
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.markup import escape
from rich.table import Table

from lmsi_cli.generation.diversity import Quantiles, Spread
from lmsi_cli.generation.outcome import Generation
from lmsi_cli.report.printable import printable
from lmsi_cli.report.tables import columns, facts, percent

NONE = "\u2013"
ENDED = {
    "enough": "as many as were asked for",
    "effort": "--effort is used up",
    "no new questions": "the last drafts brought no new question",
}


def generation_parts(g: Generation) -> list[Table]:
    """All tables of a generation."""
    return [_made(g), _lost(g), _varied(g)]


def next_step(g: Generation, folder: str) -> str:
    """Say how to go on; of fewer questions than were asked for, say so first."""
    short = ""
    if g.kept < g.wanted:
        short = f"{g.kept} of {g.wanted} questions: {ENDED[g.ended]}\n"
    return f"{short}next: lmsi vote {folder} {vote_flags(g)}"


def vote_flags(g: Generation) -> str:
    """The settings of `lmsi vote` that keep the same questions."""
    return f"--min-share {g.min_share:g} --min-votes {g.min_votes}"


def _made(g: Generation) -> Table:
    each = max(1, g.drafts)
    rows = [
        ("questions kept", f"{g.kept} of {g.wanted} wanted: {ENDED[g.ended]}"),
        ("drafts", f"{g.drafts} ({g.new_drafts} new)"),
        ("candidates", f"{g.candidates} ({percent(g.candidates / each)} of the drafts)"),
        ("voted on", f"{g.sampled}, {g.paths} paths each; {g.waiting} were not needed"),
        ("mean share of all paths", f"{g.mean_share:.2f}; kept from {g.min_share:g} on"),
        ("time", f"{g.seconds:.0f} s"),
    ]
    if g.prompts_too_long:
        rows.append(("prompts too long", f"{g.prompts_too_long}"))
    return facts("questions", rows)


def _lost(g: Generation) -> Table:
    table = columns("dropped", ["", "number", "of"])
    table.columns[2].justify = "left"
    for whole, reasons in (("drafts", g.dropped), ("candidates", g.rejected)):
        for reason, count in reasons.items():
            table.add_row(reason, f"{count}", whole)
    return table


def _varied(g: Generation) -> Table:
    table = columns("how varied", ["", f"{g.seeds} seeds", f"{g.kept} kept"])
    for name, seeds, kept in _figures(g):
        table.add_row(name, seeds, kept)
    return table


def _figures(g: Generation) -> Iterator[tuple[str, str, str]]:
    own, made = g.seed_spread, g.spread
    yield "words, median", *_both(own, made, lambda s: f"{s.words.median:g}")
    yield "  5% to 95%", *_both(own, made, lambda s: f"{s.words.low:g} to {s.words.high:g}")
    for i, what in enumerate(("words", "pairs of words", "triples of words")):
        before, after = percent(own.distinct[i]), percent(made.distinct[i]) if made else NONE
        yield f"distinct {what}", before, after
        grouped = made.grouped_distinct if made else None
        by = percent(grouped[i]) if grouped else NONE
        yield f"  by {g.seeds} questions", percent(own.distinct[i]), by
    yield "nearest other one, median and 95%", *_both(own, made, lambda s: _near(s.nearest))
    by_group = made.grouped_nearest if made else None
    near = own.nearest.median if own.nearest else None
    yield f"  median by {g.seeds} questions", _share(near), _share(by_group)
    yield "nearest seed, median and 95%", NONE, _near(g.to_seeds)
    if a := g.answers:
        yield "different answers", NONE, f"{a.distinct}"
        commonest = escape(printable(a.commonest[:20]))
        yield "commonest answer", NONE, f"{commonest}: {percent(a.commonest_share)}"
        yield "entropy of the answers, nats", NONE, f"{a.entropy:.2f}"


def _both(own: Spread, made: Spread | None, tell: Callable[[Spread], str]) -> tuple[str, str]:
    return tell(own), NONE if made is None else tell(made)


def _near(q: Quantiles | None) -> str:
    return NONE if q is None else f"{q.median:.2f}, {q.high:.2f}"


def _share(x: float | None) -> str:
    return NONE if x is None else f"{x:.2f}"
