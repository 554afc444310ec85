"""Sections and tables in the terminal and as Markdown, from the records that the page is made of.

Knows Rich and Markdown; nothing of runs. Charts become tables. A section in Markdown:

    ## The vote

    1,212 paths of 303 of 400 questions are kept; ...

    |  | all | kept |
    |---|---|---|
    | sound | 2,521 | 1,212 |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec
from rich.table import Table
from rich.text import Text

from lmsi_cli.reporting.digest import Chart, Digest, Section, Series, Sheet
from lmsi_cli.reporting.formats import number, printable

Part = Digest | Section | Sheet | Chart | Text | str
ROWS = 12  # of a long curve's table
BAR = 24  # characters of the longest bar
COLOURS = {"good": "green", "care": "yellow", "bad": "red"}
VERDICTS = {"train": "good", "train with care": "care", "do not train": "bad"}
_FIGURE = re.compile(r"[-+<?]?\d|[-?]?$")  # what a column of figures holds
# What Markdown, HTML within it, or a hub that makes links of addresses would take for more.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|!~&^$@]|(?<=www)\.|:(?=//))")


def rendered(*parts: Part) -> Iterator[Table | Text]:
    """What a command shows as Rich renderables, with an empty line around every table.

    No text of it is taken for markup.
    """
    before: object = None
    for part in flat(parts):
        if before is not None and Sheet in (type(before), type(part)):
            yield Text("")
        if isinstance(part, Sheet):
            if part.title:  # not Rich's, which folds it to the width of the table
                yield Text(printable(part.title), style="italic")
            yield _table(part)
            if part.note:
                yield Text(printable(part.note))
        else:
            yield part if isinstance(part, Text) else Text(printable(part))
        before = part


def flat(parts: Iterable[Part]) -> Iterator[Sheet | Text | str]:
    """Digests, sections and charts taken apart, in the order in which they are read."""
    for part in parts:
        if isinstance(part, Digest):
            yield part.title
            yield part.headline
            yield from flat([part.picture] if part.picture else [])
            yield from (f"next: {part.next.why}: {part.next.command}", *part.notes)
            for section in part.sections:
                yield f"\n{section.title}\n{'-' * len(section.title)}"
                yield from flat([section])
        elif isinstance(part, Section):
            yield from part.lines
            yield from flat((*part.sheets, *_charts(part)))
        else:
            yield _chart(part) if isinstance(part, Chart) else part


def verdict_line(verdict: str, before: str = "verdict: ") -> Text:
    """The verdict in its colour."""
    return Text.assemble(before, (verdict, COLOURS.get(VERDICTS.get(verdict, ""), "")))


def _table(sheet: Sheet) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(sheet.columns))
    for place in range(len(sheet.columns or (sheet.rows or ((),))[0])):
        name = sheet.columns[place] if sheet.columns else ""
        figures = bool(sheet.columns and place) and all(_FIGURE.match(r[place]) for r in sheet.rows)
        table.add_column(
            Text(printable(name)),
            justify="right" if figures else "left",
            no_wrap=figures or place == 0,
            overflow="fold",
        )
    tones = sheet.tones or ("",) * len(sheet.rows)
    for row, tone in zip(sheet.rows, tones, strict=True):
        table.add_row(*(Text(printable(cell)) for cell in row), style=COLOURS.get(tone))
    return table


def _charts(section: Section) -> list[Chart]:
    """Those that say more than the tables beside them, as text."""
    return [c for c in section.charts if c.kind != "intervals"]


def _chart(chart: Chart) -> Sheet:
    """A chart's table; counts get bars of block characters beside them."""
    sheet = msgspec.structs.replace(chart_sheet(chart), note=chart.note)
    if chart.kind != "bars":
        return sheet
    counts = chart.series[0].y
    most = max(1.0, *counts)
    rows = [(*row, "█" * round(BAR * n / most)) for row, n in zip(sheet.rows, counts, strict=True)]
    return msgspec.structs.replace(sheet, columns=(*sheet.columns, ""), rows=tuple(rows))


def chart_sheet(chart: Chart) -> Sheet:
    """A chart's figures: a row for each place, a column for each series; long curves thinned."""
    places = sorted({x for s in chart.series for x in s.x})
    step = max(1, -(-len(places) // ROWS))
    at = [_values(s, chart) for s in chart.series]
    rows = []
    for x in places[::step]:
        name = chart.ticks[round(x)] if chart.ticks else number(x, "x" in chart.percent)
        rows.append((name, *(a.get(x, "") for a in at)))
    title = f"{chart.title}, %" if "y" in chart.percent else chart.title
    columns = (chart.x_label, *(s.name for s in chart.series))
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def _values(series: Series, chart: Chart) -> dict[float, str]:
    """What stands at each place: the value, with its interval if it has one."""
    found: dict[float, str] = {}
    for n, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        whole = f"{y:,.0f}" if y == round(y) else f"{y:.4g}"
        shown = f"{100 * y:.1f}" if "y" in chart.percent else whole
        if series.low:
            shown += f" [{100 * series.low[n]:.0f}, {100 * series.high[n]:.0f}]"
        found[x] = shown
    return found


def markdown(digest: Digest) -> str:
    """The report as Markdown; text of models and files is escaped."""
    return "\n".join(_markdown(digest)).rstrip() + "\n"


def _markdown(digest: Digest) -> Iterator[str]:
    yield f"# {escaped(digest.title)}\n"
    yield f"**{escaped(digest.headline)}**\n"
    if digest.picture:
        yield from _titled(_chart(digest.picture))
    yield f"Next: {escaped(digest.next.why)}: {escaped(digest.next.command)}\n"
    for line in digest.notes:
        yield f"{escaped(line)}\n"
    for section in digest.sections:
        yield f"\n## {escaped(section.title)}\n"
        for line in section.lines:
            yield f"{escaped(line)}\n"
        for sheet in (*section.sheets, *map(chart_sheet, _charts(section))):
            yield from _titled(sheet)


def _titled(sheet: Sheet) -> Iterator[str]:
    yield f"### {escaped(sheet.title)}\n"
    yield markdown_table(sheet)
    yield f"\n{escaped(sheet.note)}\n" if sheet.note else ""


def markdown_table(sheet: Sheet) -> str:
    """A table without its title, on lines of its own."""
    head = sheet.columns or ("",) * len(sheet.rows[0])
    rows = ["| " + " | ".join(map(escaped, row)) + " |" for row in (head, *sheet.rows)]
    return "\n".join([rows[0], "|" + "---|" * len(head), *rows[1:]])


def escaped(text: str) -> str:
    """A stranger's text as harmless Markdown on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
