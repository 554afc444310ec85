"""Training against its rivals, for the terminal.

Knows Rich and the records; computes nothing that is not in them.

    votes of the base       % right   adapter minus it       p   tokens   seconds
    8               61.0 [56, 66]   +1.7 [-2.9, +6.2]   0.512      496      0.40
"""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from lmsi_cli.report.distillation import Distillation
from lmsi_cli.report.rivals import Rivalry
from lmsi_cli.report.tables import change, p_text, with_interval

MIB = 2**20


def rivalry_tables(r: Rivalry) -> list[Table | str]:
    """A line per number of votes, the adapter's single answer, and the sentence."""
    names = ["votes of the base", "% right", "adapter minus it", "p, corrected"]
    table = _columns("one answer of the adapter against votes of the base", names)
    for x in r.rungs:
        figures = (with_interval(x.accuracy), change(x.change, x.p_value), p_text(x.p_value))
        table.add_row(f"{x.k}", *figures, f"{x.tokens:.0f}", f"{x.seconds:.2f}")
    own = with_interval(r.accuracy)
    table.add_row("adapter, one answer", own, "", "", f"{r.tokens:.0f}", f"{r.seconds:.2f}")
    return [table, "", r.sentence]


def distillation_tables(d: Distillation) -> list[Table | str]:
    """The models on the same questions, with size and cost, and what may be concluded."""
    title = f"distillation, {d.mode}: the same {d.n} questions"
    table = _columns(title, ["", "% right", "million", "MiB"])
    for row in d.rows:
        parameters = f"{row.parameters / 1e6:,.1f}" if row.parameters else "?"
        size, tokens, seconds = f"{row.size / MIB:,.0f}", f"{row.tokens:.0f}", f"{row.seconds:.2f}"
        table.add_row(row.name, with_interval(row.accuracy), parameters, size, tokens, seconds)
    return [table, "", d.sentence]


def _columns(title: str, names: list[str]) -> Table:
    table = Table(
        title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for i, name in enumerate([*names, "tokens", "seconds"]):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    return table
