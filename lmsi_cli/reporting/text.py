"""Records of the report in the terminal and as Markdown.

Knows Rich and Markdown; nothing of runs. A section in Markdown:

    ## The vote

    1,212 paths of 303 of 400 questions are kept; ...

    |  | all | kept |
    |---|---|---|
    | sound | 2,521 | 1,212 |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from lmsi_cli.formats import printable
from lmsi_cli.reporting.digest import Digest, Section, Sheet

COLOURS = {"good": "green", "care": "yellow", "bad": "red"}
_FIGURE = re.compile(r"[-+<?]?\d|[-?]?$")  # what a column of figures holds
# What Markdown, HTML within it, or a hub that makes links of addresses would take for more.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|!~&^$@]|(?<=www)\.|:(?=//))")


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
                yield from flat([section])
        elif isinstance(part, Section):
            yield from part.lines
            yield from part.sheets
        else:
            yield part


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
    """A stranger's text as harmless Markdown on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
