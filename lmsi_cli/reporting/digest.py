"""What a command or a report shows, once for all its forms: sentences, tables, one kind of chart.

The terminal, Markdown, JSON and the HTML page are written from the same records, so they cannot
disagree. Knows no run folder and nothing of drawing. A section:

    Section(key="vote", title="The vote", lines=("1,212 paths of 303 questions are kept.",),
            sheets=(Sheet(title="Kept", columns=("", "paths"), rows=(("sound", "1,212"),)),))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lmsi_cli.records import Interval, Record

BAR = 24  # characters of the longest bar


class Sheet(Record, frozen=True, kw_only=True):
    """A table of finished text; the first column names the rows.

    Without ``columns`` it has no head: names and what they are. ``tones`` says of each row whether
    it is ``good``, ``care``, ``bad`` or neither (empty), for forms with colours. ``spans`` are the
    rows' figures, 0 to 1, for forms that draw; there a row without a name belongs to the one above.
    """

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    tones: tuple[str, ...] = ()
    spans: tuple[Interval, ...] = ()


class Series(Record, frozen=True, kw_only=True):
    """Points (x, y) of one kind, at least one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Chart(Record, frozen=True, kw_only=True):
    """Curves over one axis, for the page alone: what they come to stands in a table."""

    title: str
    series: tuple[Series, ...]
    x_label: str
    y_label: str


class Section(Record, frozen=True, kw_only=True):
    """A part of the report; ``key`` names it in links."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    chart: Chart | None = None


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
    picture: Sheet | None
    next: Step
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    data: dict[str, Any] = msgspec.field(default_factory=dict)


def bars(title: str, counts: Mapping[str, int], columns: tuple[str, str], note: str = "") -> Sheet:
    """Counts by name with a bar beside each; ``columns`` name the names and the counts."""
    most = max([1, *counts.values()])
    rows = tuple((name, f"{n:,}", "█" * round(BAR * n / most)) for name, n in counts.items())
    return Sheet(title=title, columns=(*columns, ""), rows=rows, note=note)
