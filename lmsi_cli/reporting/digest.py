"""What a report says, once for all its forms: sentences, tables and charts, in sections.

The terminal, Markdown, JSON and the HTML page are written from the same record, so they cannot
disagree. Every command's tables are such records, too. Knows no run folder and nothing of drawing.
A section:

    Section(key="vote", title="The vote", lines=("1,212 paths of 303 questions are kept.",),
            sheets=(Sheet(title="Kept", columns=("", "paths"), rows=(("sound", "1,212"),)),),
            charts=(Chart(title="Agreement", series=(Series(name="all", x=(0.05,), y=(3,)),)),))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lmsi_cli.records import Interval, Record


class Series(Record, frozen=True, kw_only=True):
    """Points (x, y) of one kind; shares may have a band from ``low`` to ``high``.

    ``joined`` points get a line; ``labels`` name single points.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    joined: bool = True
    labels: tuple[str, ...] = ()


class Chart(Record, frozen=True, kw_only=True):
    """One picture; axes named in ``percent`` show shares as percentages.

    ``bars`` draws bars over the categories ``ticks``: the one series has a value (``y``) for each.
    ``diagonal`` adds the line where both axes are equal.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    ticks: tuple[str, ...] = ()
    bars: bool = False
    log_x: bool = False
    diagonal: bool = False
    percent: str = ""  # "x", "y" or "xy"
    note: str = ""


class Sheet(Record, frozen=True, kw_only=True):
    """A table of finished text; the first column names the rows.

    Without ``columns`` it has no head: names and what they are. ``tones`` says of each row whether
    it is ``good``, ``care``, ``bad`` or neither (empty), for forms with colours.
    """

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    tones: tuple[str, ...] = ()


class Section(Record, frozen=True, kw_only=True):
    """A part of the report; ``key`` names it in links."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    charts: tuple[Chart, ...] = ()


class Digest(Record, frozen=True, kw_only=True):
    """The whole report but for the single questions.

    ``verdict`` is None before the vote; ``headline`` are the sentences of the first screen;
    ``missing`` says what the run lacks, and the command that makes it. ``data`` holds the records
    behind it, for programs.
    """

    title: str
    verdict: str | None
    headline: tuple[str, ...]
    missing: tuple[str, ...]
    sections: tuple[Section, ...]
    data: dict[str, Any] = msgspec.field(default_factory=dict)


def curve(name: str, points: Iterable[tuple[float, Interval]]) -> Series:
    """Intervals over places, as a line with a band."""
    known = list(points)
    return Series(
        name=name,
        x=tuple(x for x, _ in known),
        y=tuple(i.value for _, i in known),
        low=tuple(i.low for _, i in known),
        high=tuple(i.high for _, i in known),
    )


def bars(title: str, counts: Mapping[str, int], axes: tuple[str, str], note: str = "") -> Chart:
    """Counts by name as bars; ``axes`` are the labels of the names and of the counts."""
    places = tuple(float(i) for i in range(len(counts)))
    series = Series(name=axes[1], x=places, y=tuple(float(n) for n in counts.values()))
    return Chart(
        title=title,
        series=(series,),
        x_label=axes[0],
        y_label=axes[1],
        ticks=tuple(counts),
        bars=True,
        note=note,
    )
