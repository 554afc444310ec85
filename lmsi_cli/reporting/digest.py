"""What a command or a report shows, once for all output forms: sentences, tables, one chart type.

The terminal, Markdown, JSON and the HTML page are written from the same records, so they cannot
disagree. The page is one file that needs no network and runs no script. All text goes through
jinja2's autoescaping, and a content security policy allows the one style sheet, by its hash, and
nothing else: even text that was mistaken for markup could not run. Colours come from the style
sheet by class (``s0``, ``s1``, ...), so one drawing serves light, dark and print. Knows Rich,
Markdown and HTML; nothing of runs. A section, and the same as Markdown:

    Section("vote", "The vote", lines=["1,212 paths of 303 questions are kept."],
            sheets=[Sheet("Kept", columns=("", "paths"), rows=[("sound", "1,212")])])

    ## The vote

    1,212 paths of 303 questions are kept.

    ### Kept

    |  | paths |
    |---|---|
    | sound | 1,212 |
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich.table import Table
from rich.text import Text

from lmsi_cli.formats import printable
from lmsi_cli.records import Interval, Record

if TYPE_CHECKING:
    import jinja2

BAR = 24  # characters of the longest bar
SHORT = 12  # most rows of a table that starts open on the page
LEFT, RIGHT, TOP, BOTTOM = 62, 536, 14, 250  # edges of a chart's axes, of 560 by 296 pixels
COLOURS = {"good": "green", "care": "yellow", "bad": "red"}
_FIGURE = re.compile(r"[-+<?]?\d|[-?]?$")  # what a column of figures holds
# What has a meaning in Markdown, in HTML within it, or for hubs that link addresses.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|!~&^$@]|(?<=www)\.|:(?=//))")


class Sheet(Record, frozen=True):
    """A table of finished text; the first column names the rows.

    Without ``columns`` it has no header: it lists names and values. ``tones`` marks each row as
    ``good``, ``care``, ``bad`` or neither (empty), for forms with colours. ``spans`` are the rows'
    figures, 0 to 1, for forms that draw; there a row without a name belongs to the one above.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[tuple[str, ...]] = ()
    note: str = ""
    tones: Sequence[str] = ()
    spans: Sequence[Interval] = ()


class Series(Record, frozen=True, kw_only=True):
    """Points (x, y) of one kind, at least one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Section(Record, frozen=True):
    """A part of the report; ``key`` names it in links.

    ``losses`` by the step of training are drawn on the page alone; a table holds their outcome.
    """

    key: str
    title: str
    lines: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    losses: tuple[Series, ...] = ()


class Step(Record, frozen=True):
    """What to do next: the reason, and the command to type."""

    why: str
    command: str


class Digest(Record, frozen=True, kw_only=True):
    """The whole report except for the individual questions.

    The first screen is ``headline`` (what happened, in a sentence), ``picture`` (None before
    anything is measured) and ``next``, with ``notes`` where a sentence is not enough. ``data``
    holds the records behind it, for programs.
    """

    title: str
    headline: str
    picture: Sheet | None
    next: Step
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    data: dict[str, Any] = msgspec.field(default_factory=dict)

    def _repr_html_(self) -> str:  # for notebooks
        return fragment(self)


def bars(title: str, counts: Mapping[str, int], columns: tuple[str, str]) -> Sheet:
    """Counts by name with a bar beside each; ``columns`` are the headings of both."""
    most = max([1, *counts.values()])
    rows = [(name, f"{n:,}", "█" * round(BAR * n / most)) for name, n in counts.items()]
    return Sheet(title, (*columns, ""), rows)


class Heading(NamedTuple):
    """The title of a report (level 1) or of a section (2)."""

    text: str
    level: int

    def __str__(self) -> str:
        return self.text


Part = Digest | Section | Sheet | Heading | Text | str


def flat(parts: Iterable[Part]) -> Iterator[Heading | Sheet | Text | str]:
    """Digests and sections taken apart, in the order in which they are read."""
    for part in parts:
        if isinstance(part, Digest):
            yield Heading(part.title, 1)
            yield part.headline
            if part.picture:
                yield part.picture
            yield from (f"Next: {part.next.why}: {part.next.command}", *part.notes)
            for section in part.sections:
                yield Heading(section.title, 2)
                yield from section.lines
                yield from section.sheets
        elif isinstance(part, Section):
            yield from part.lines
            yield from part.sheets
        else:
            yield part


def rendered(*parts: Part) -> Iterator[Table | Text]:
    """What a command shows as Rich renderables, with an empty line around every table.

    No text is interpreted as markup.
    """
    before: object = None
    for part in flat(parts):
        if before is not None and Sheet in (type(before), type(part)):
            yield Text("")
        if isinstance(part, Sheet):
            if part.title:  # Rich's own would be wrapped to the table's width
                yield Text(printable(part.title), style="italic")
            yield _table(part)
            if part.note:
                yield Text(printable(part.note))
        elif isinstance(part, Heading):
            title = printable(part.text)
            yield Text(title if part.level == 1 else f"\n{title}\n{'-' * len(title)}")
        else:
            yield part if isinstance(part, Text) else Text(printable(part))
        before = part


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


def markdown(*parts: Part) -> str:
    """The same as Markdown; text of models and files is escaped."""
    return "\n\n".join(part for p in flat(parts) for part in _markdown(p)) + "\n"


def _markdown(part: Heading | Sheet | Text | str) -> Iterator[str]:
    if isinstance(part, Heading):
        yield f"{'#' * part.level} {escaped(part.text)}"
    elif isinstance(part, Sheet):
        if part.title:
            yield f"### {escaped(part.title)}"
        head = part.columns or ("",) * len(part.rows[0])
        rows = ["| " + " | ".join(map(escaped, row)) + " |" for row in (head, *part.rows)]
        yield "\n".join([rows[0], "|" + "---|" * len(head), *rows[1:]])
        if part.note:
            yield escaped(part.note)
    else:
        yield escaped(str(part))


def escaped(text: str) -> str:
    """Untrusted text as harmless Markdown on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))


def page(digest: Digest, version: str) -> str:
    """The report as one HTML file; ``version`` is that of the lmsi that made it."""
    from markupsafe import Markup

    env = _environment()
    assert env.loader is not None
    css = str(env.loader.get_source(env, "page.css")[0])
    sha256 = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return env.get_template("page.html.j2").render(
        digest=digest, version=version, plot=plot, short=SHORT, css=Markup(css), sha256=sha256
    )


def fragment(*parts: Part) -> str:
    """What a command shows as HTML, for a notebook: sentences and tables without a style."""
    shown = [part if isinstance(part, Sheet) else str(part) for part in flat(parts)]
    return _environment().get_template("fragment.html.j2").render(parts=shown)


def _environment() -> jinja2.Environment:
    import jinja2

    env = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.PackageLoader(__package__, "page"),
    )
    env.finalize = lambda value: printable(value) if type(value) is str else value
    return env


def plot(losses: Sequence[Series]) -> dict[str, list[Any]]:
    """A chart in pixels: the ends of both axes with their names, and each series' points."""
    x_ends, x = _axis([v for s in losses for v in s.x], LEFT, RIGHT)
    y_ends, y = _axis([v for s in losses for v in s.y], BOTTOM, TOP)
    points = []
    for s in losses:
        # a lone point, given twice, is a line without length, whose round ends show a dot
        places = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(s.x, s.y, strict=True)]
        points.append(" ".join(places if len(places) > 1 else 2 * places))
    return {
        "x": [(x(v), f"{v:,.4g}") for v in x_ends],
        "y": [(y(v), f"{v:,.4g}") for v in y_ends],
        "points": points,
    }


def _axis(
    values: Sequence[float], start: float, end: float
) -> tuple[set[float], Callable[[float], float]]:
    """The smallest and largest value, and the scale that puts them at the ends of the axis."""
    low, high = min(values), max(values)
    return {low, high}, lambda v: start + (v - low) / (high - low or 1.0) * (end - start)
