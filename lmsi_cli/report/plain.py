"""A report in the terminal and as Markdown, from the same record as the HTML page.

Knows Rich and Markdown; nothing of runs. Charts become tables. A section in Markdown:

    ## The vote

    1,212 paths of 303 of 400 questions are kept; ...

    |  | all | kept |
    |---|---|---|
    | sound | 2,521 | 1,212 |
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from lmsi_cli.report.digest import Chart, Digest, Section, Series, Sheet
from lmsi_cli.report.printable import cell, printable
from lmsi_cli.report.svg import number

ROWS = 12  # of a long curve's table
# What Markdown, or HTML within it, would take for more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def text_parts(digest: Digest) -> list[Table | Text]:
    """The report as Rich renderables, in order."""
    return list(_text(digest))


def _text(digest: Digest) -> Iterator[Table | Text]:
    yield cell(digest.title)
    if digest.verdict:
        yield cell(f"verdict before training: {digest.verdict}")
    for line in digest.headline:
        yield cell(line)
    for line in digest.missing:
        yield cell(f"missing: {line}")
    for section in digest.sections:
        yield from section_parts(section)


def section_parts(section: Section) -> Iterator[Table | Text]:
    """One section as Rich renderables, in order; its charts as tables."""
    yield cell(f"\n{section.title}\n{'-' * len(section.title)}")
    for line in section.lines:
        yield cell(line)
    for sheet in (*section.sheets, *map(chart_sheet, section.charts)):
        yield _table(sheet)


def _table(sheet: Sheet) -> Table:
    table = Table(title=cell(f"\n{sheet.title}"), title_justify="left", box=None, pad_edge=False)
    table.padding = (0, 2, 0, 0)
    for name in sheet.columns:
        table.add_column(cell(name), overflow="fold")
    for row in sheet.rows:
        table.add_row(*(cell(c) for c in row))
    return table


def chart_sheet(chart: Chart) -> Sheet:
    """A chart's figures: a row for each place, a column for each series; long curves thinned."""
    places = list(dict.fromkeys(x for s in chart.series for x in s.x))
    step = max(1, -(-len(places) // ROWS))
    at = [dict(zip(s.x, _values(s, chart), strict=True)) for s in chart.series]
    rows = [(_place(chart, x), *(a.get(x, "") for a in at)) for x in places[::step]]
    names = (s.name for s in chart.series)
    return Sheet(title=chart.title, columns=(chart.x_label, *names), rows=tuple(rows))


def _place(chart: Chart, x: float) -> str:
    return chart.ticks[round(x)] if chart.bars else number(x, "x" in chart.percent)


def _values(series: Series, chart: Chart) -> list[str]:
    """Each point's value, with its interval and its name if it has them."""
    percent = "y" in chart.percent
    shown = [number(y, percent) for y in series.y]
    if series.low:
        ends = zip(shown, series.low, series.high, strict=True)
        shown = [f"{v} [{number(a, percent)}, {number(b, percent)}]" for v, a, b in ends]
    if series.labels:
        shown = [f"{label}: {v}" for v, label in zip(shown, series.labels, strict=True)]
    return shown


def markdown(digest: Digest) -> str:
    """The report as Markdown; text of models and files is escaped."""
    return "\n".join(_markdown(digest)).rstrip() + "\n"


def _markdown(digest: Digest) -> Iterator[str]:
    yield f"# {_plain(digest.title)}\n"
    if digest.verdict:
        yield f"Verdict before training: **{_plain(digest.verdict)}**\n"
    for line in digest.headline:
        yield f"{_plain(line)}\n"
    for line in digest.missing:
        yield f"- missing: {_plain(line)}"
    for section in digest.sections:
        yield from _part(section)


def _part(section: Section) -> Iterator[str]:
    yield f"\n## {_plain(section.title)}\n"
    for line in section.lines:
        yield f"{_plain(line)}\n"
    for sheet in (*section.sheets, *map(chart_sheet, section.charts)):
        yield f"### {_plain(sheet.title)}\n"
        yield _row(sheet.columns)
        yield "|" + "---|" * len(sheet.columns)
        yield from (_row(row) for row in sheet.rows)
        yield ""


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_plain(c) for c in cells) + " |"


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
