"""Confidence figures for the terminal: what a share is worth, before and after, and where not.

Knows Rich and the records; computes nothing that is not in them.

    share        n   mean share   % right
    0.8 to 1.0  57         94.1   68.4 [55, 79]
"""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from lmsi_cli.records import Interval
from lmsi_cli.report.confidence import Confidence, Stratum, Trust
from lmsi_cli.report.tables import percent, with_interval

NONE = "-"  # no figure: all questions are right, or all are wrong


def confidence_tables(c: Confidence) -> list[Table | str]:
    """Figures of each model, reliability, strata, then the findings in words."""
    parts: list[Table | str] = [_figures(c), ""]
    for name, trust in c.models.items():
        parts += [_reliability(name, trust), ""]
    for by in dict.fromkeys(s.by for s in c.strata):
        parts += [_strata(by, [s for s in c.strata if s.by == by]), ""]
    return [*parts, *(escape(line) for line in sentences(c))]


def sentences(c: Confidence) -> list[str]:
    """What the figures say: the change of agreement and of accuracy, then any inversion."""
    told = []
    if c.surer is not None and c.righter is not None:
        s, r = c.surer, c.righter
        told.append(
            f"Agreement {_moved(s.difference, s.low, s.high)}, votes that are right "
            f"{_moved(r.difference, r.low, r.high)}, on {s.n} questions."
        )
    tested = f"{len(c.models)} models" if len(c.models) > 1 else "this model"
    return told + (list(c.findings) or [f"No inversion beyond chance for {tested}."])


def _moved(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _figures(c: Confidence) -> Table:
    table = _columns("is agreement worth anything? [95% interval]", ["", *c.models])
    trusts = list(c.models.values())
    table.add_row("questions with a vote", *(f"{t.questions}" for t in trusts))
    table.add_row("mean share, %", *(f"{100 * t.confidence:.1f}" for t in trusts))
    table.add_row("votes that are right, %", *(with_interval(t.accuracy) for t in trusts))
    table.add_row("AUROC; 0.5 tells nothing", *(_plain(t.auroc) for t in trusts))
    table.add_row("ECE; 0 is best", *(_plain(t.ece) for t in trusts))
    table.add_row("Brier; 0 is best", *(_plain(t.brier.score if t.brier else None) for t in trusts))
    for name, part in (("unreliable", "reliability"), ("tells apart", "resolution")):
        table.add_row(f"  {name}", *(_part(t, part) for t in trusts))
    table.add_row("risk over coverage", *(_plain(t.risk.aurc if t.risk else None) for t in trusts))
    table.add_row("  if shares told nothing", *(_risk(t, "chance") for t in trusts))
    table.add_row("  at best", *(_risk(t, "best") for t in trusts))
    return table


def _part(t: Trust, name: str) -> str:
    return f"{getattr(t.brier, name):.3f}" if t.brier else NONE


def _risk(t: Trust, name: str) -> str:
    return f"{getattr(t.risk, name):.2f}" if t.risk else NONE


def _plain(i: Interval | None) -> str:
    return f"{i.value:.2f} [{i.low:.2f}, {i.high:.2f}]" if i else NONE


def _reliability(name: str, trust: Trust) -> Table:
    table = _columns(f"{name}: right by share", ["share", "n", "mean share", "% right"])
    for b in trust.reliability:
        shares = f"{b.low:.1f} to {b.high:.1f}"
        table.add_row(shares, f"{b.n}", percent(b.confidence), with_interval(b.accuracy))
    return table


def _strata(by: str, strata: list[Stratum]) -> Table:
    """A line per stratum and model; of small ones only what a count can bear."""
    table = _columns(f"by {by}", ["", "model", "n", "mean share", "% right", "AUROC", ""])
    for s in strata:
        for name, t in s.models.items():
            table.add_row(
                escape(s.label),
                escape(name),
                f"{t.questions}",
                percent(t.confidence),
                with_interval(t.accuracy),
                NONE if s.small else _plain(t.auroc),
                "too few to rank" if s.small else "",
            )
    return table


def _columns(title: str, names: list[str]) -> Table:
    table = Table(
        title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for i, name in enumerate(names):
        table.add_column(escape(name), justify="right" if i else "left", no_wrap=True)
    return table
