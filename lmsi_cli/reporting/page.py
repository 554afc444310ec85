"""A report as one HTML file that needs no network and runs nothing.

All text from models and files goes through jinja2's autoescaping. A content security policy allows
the one style sheet, by its hash, and nothing else: were a text ever taken for markup, it could
still not run. Colours come from the style sheet by class (``s0``, ``s1``, ...), so one drawing
serves light, dark and print. Knows ``Digest``, nothing of run folders.

    page(digest, "0.1.0") -> '<!DOCTYPE html>...'
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.formats import printable
from lmsi_cli.reporting.digest import Chart, Digest, Part, Sheet, flat

if TYPE_CHECKING:
    import jinja2

SHORT = 12  # rows of a table that is open at first
LEFT, RIGHT, TOP, BOTTOM = 62, 536, 14, 250  # edges of a chart's axes, of 560 by 296 pixels


def page(digest: Digest, version: str) -> str:
    """The whole file, of a report that was made by this version of lmsi."""
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


class Plot(NamedTuple):
    """A chart in pixels: the ends of its axes with their names, and each series' points."""

    x: list[tuple[float, str]]
    y: list[tuple[float, str]]
    points: list[str]


def plot(chart: Chart) -> Plot:
    """Place a chart's curves between axes that end at the least and the largest value."""
    x_ends, x = _axis([v for s in chart.series for v in s.x], LEFT, RIGHT)
    y_ends, y = _axis([v for s in chart.series for v in s.y], BOTTOM, TOP)
    points = []
    for s in chart.series:
        # a lone point twice is a line without length, whose round ends are a dot
        places = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(s.x, s.y, strict=True)]
        points.append(" ".join(places if len(places) > 1 else 2 * places))
    return Plot(
        x=[(x(v), f"{v:,.4g}") for v in x_ends],
        y=[(y(v), f"{v:,.4g}") for v in y_ends],
        points=points,
    )


def _axis(
    values: Sequence[float], start: float, end: float
) -> tuple[set[float], Callable[[float], float]]:
    """The least and the largest value, and the scale that puts them at the ends of the axis."""
    low, high = min(values), max(values)
    return {low, high}, lambda v: start + (v - low) / (high - low or 1.0) * (end - start)
