"""Tables of the experiments as Markdown, from their results alone.

Knows the results' records and how a figure is written; runs nothing.

    table(["formats", "CoT"], [["all four", "52.7 > 70.1"]]) -> "| formats | CoT |..."
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.grouping import Row
from benchmarks.paper.records import GREEDY
from lmsi_cli.records import Paired


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def percent(value: float | None) -> str:
    """A fraction as percent, one decimal; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference in percentage points."""
    return f"{100 * value:+.1f}"


def pair(row: Row, line: str | None) -> str:
    """Before and after, with the change and its range over seeds."""
    if line is None or row.before(line) is None:
        return ""
    if row.after(line) is None:
        return f"{percent(row.before(line))}, not trained"
    return f"{percent(row.before(line))} → {percent(row.after(line))} ({spread(row.changes(line))})"


def spread(changes: Sequence[float]) -> str:
    """The mean change; with several seeds, the smallest and the largest."""
    mean = sum(changes) / len(changes)
    if len(changes) == 1:
        return points(mean)
    return f"{points(mean)}; {points(min(changes))} to {points(max(changes))}"


def greedy(row: Row) -> str:
    """Greedy accuracy before and after, with the interval of the change over questions."""
    change = row.change()
    if change is None:
        before = row.before(GREEDY)
        return f"{percent(before)}, not trained" if before is not None else ""
    return f"{percent(row.before(GREEDY))} → {percent(row.after(GREEDY))} ({interval(change)})"


def interval(p: Paired) -> str:
    """A change with its 95% interval, in points."""
    return f"{points(p.difference)} [{points(p.low)}, {points(p.high)}]"


def p_value(p: Paired) -> str:
    """The p-value as it is usually written."""
    return "<0.001" if p.p_value < 0.001 else f"{p.p_value:.3f}"
