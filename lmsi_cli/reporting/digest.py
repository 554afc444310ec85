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
from typing import Any, Literal

import msgspec

from lmsi_cli.records import Interval, Record


class Series(Record, frozen=True, kw_only=True):
    """Points (x, y) of one kind; shares may have a band from ``low`` to ``high``."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Chart(Record, frozen=True, kw_only=True):
    """One picture; axes named in ``percent`` show shares as percentages.

    Of ``bars`` and ``intervals`` x counts the categories ``ticks``; ``bars`` have one series.
    ``diagonal`` adds the line where both axes are equal.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    ticks: tuple[str, ...] = ()
    kind: Literal["curves", "bars", "intervals"] = "curves"
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


class Step(Record, frozen=True):
    """What to do next: the reason, and the command to type."""

    why: str
    command: str


class Digest(Record, frozen=True, kw_only=True):
    """The whole report but for the single questions.

    The first screen is ``headline`` (what happened, in a sentence), ``picture`` (None before
    anything is measured) and ``next``, with ``notes`` where a sentence is not enough. ``data``
    holds the records behind it, for programs.
    """

    title: str
    headline: str
    picture: Chart | None
    next: Step
    notes: tuple[str, ...]
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
        kind="bars",
        note=note,
    )
