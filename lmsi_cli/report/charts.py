"""Where everything of a chart stands in its picture: axes, ticks, lines, bands, bars, markers.

The picture is SVG (``page/chart.svg.j2``) that needs nothing else: no script, no font, no colour
of its own. Colours come from the page's style sheet by class (``s0``, ``s1``, ...), so one picture
serves light, dark and print; series also differ in dash, marker and filling, for those who see no
colour. Knows ``Chart`` and nothing of runs. All places are pixels of a picture 560 by 320:

    plotted(Chart(title="Loss", ...)).y_ticks -> [Tick(at=274.0, name="0"), ...]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lmsi_cli.report.digest import Chart, Series
from lmsi_cli.report.formats import number

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 544, 52, 274  # edges of the axes
KINDS = 4  # series that look different
LOG_TICKS = 8
MARKED = 60  # points; a longer line has no markers
CHARACTER = 6.6  # width of one in a legend
# A circle, square, triangle and diamond around the point.
MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-5L4.5,3.6h-9z",
    "M0,-5.4L5.4,0L0,5.4L-5.4,0z",
)

Scale = Callable[[float], float]


class Tick(NamedTuple):
    """A value of an axis: its pixel and how it is written."""

    at: float
    name: str


class Point(NamedTuple):
    """A marker with the text above or below it, which ends there if ``left``."""

    x: float
    y: float
    label: str
    label_y: float
    left: bool


class Bar(NamedTuple):
    """A bar, and what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    says: str


class Drawn(NamedTuple):
    """A series: points of a line and of a band around it, markers, bars; its legend's x and y."""

    name: str
    kind: int
    line: str
    band: str
    points: list[Point]
    bars: list[Bar]
    legend: tuple[float, float]


class Plot(NamedTuple):
    """A whole picture; ``diagonal`` is x1, y1, x2, y2."""

    says: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    diagonal: tuple[float, float, float, float] | None
    series: list[Drawn]


def plotted(chart: Chart) -> Plot:
    """Place everything; the chart has at least one series with at least one point."""
    x, x_values = _x_axis(chart)
    y_values = _y_values(chart)
    y = _scale(y_values, BOTTOM, TOP)
    names = chart.ticks if chart.bars else [number(v, "x" in chart.percent) for v in x_values]
    low, high = max(x_values[0], y_values[0]), min(x_values[-1], y_values[-1])
    legend = _legend(chart)
    return Plot(
        says=_described(chart),
        x_ticks=[Tick(x(v), name) for v, name in zip(x_values, names, strict=True)],
        y_ticks=[Tick(y(v), number(v, "y" in chart.percent)) for v in y_values],
        diagonal=(x(low), y(low), x(high), y(high)) if chart.diagonal else None,
        series=[_drawn(chart, n, x, y, legend[n]) for n in range(len(chart.series))],
    )


def _legend(chart: Chart) -> list[tuple[float, float]]:
    """Places of the names of the series, in a second row where the first one is full."""
    places, x, y = [], float(LEFT), 15.0
    for series in chart.series:
        width = 44 + CHARACTER * len(series.name)
        if x + width > WIDTH and x > LEFT:
            x, y = float(LEFT), y + 16
        places.append((x, y))
        x += width
    return places


def _described(chart: Chart) -> str:
    """The chart in words: what each series begins and ends with."""
    ends = [f"{s.name}: {_ends(s, 'y' in chart.percent)}" for s in chart.series if s.y]
    return f"{chart.y_label} by {chart.x_label}. " + "; ".join(ends)


def _ends(series: Series, percent: bool) -> str:
    first, last = number(series.y[0], percent), number(series.y[-1], percent)
    return first if len(series.y) == 1 else f"from {first} to {last}"


def round_values(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    span = high - low or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if raw <= m * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _x_axis(chart: Chart) -> tuple[Scale, list[float]]:
    """The scale and the values of the ticks; of a logarithmic axis, values that occur."""
    if chart.bars:
        places = [float(i) for i in range(len(chart.ticks))]
        return _scale([-0.5, len(places) - 0.5], LEFT, RIGHT), places
    values = sorted({x for s in chart.series for x in s.x})
    if chart.log_x:
        shown = values[:: math.ceil(len(values) / LOG_TICKS)]
        logs = _scale([math.log(v) for v in values], LEFT, RIGHT)
        return lambda v: logs(math.log(v)), shown
    ticks = round_values(values[0], values[-1])
    return _scale(ticks, LEFT, RIGHT), ticks


def _y_values(chart: Chart) -> list[float]:
    """Values of the ticks; shares and bars begin at zero."""
    values = [v for s in chart.series for v in (*s.y, *s.low, *s.high)]
    floor = min(0.0, *values) if chart.bars or "y" in chart.percent else min(values)
    top = max(values)
    if "y" in chart.percent and floor >= 0:
        top = min(1.0, top) or 1.0
    return round_values(floor, top)


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, span = min(values), (max(values) - min(values)) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def _drawn(chart: Chart, place: int, x: Scale, y: Scale, legend: tuple[float, float]) -> Drawn:
    s = chart.series[place]
    places = [(x(a), y(b)) for a, b in zip(s.x, s.y, strict=True)]
    edge = [*zip(s.x, s.high, strict=False), *reversed([*zip(s.x, s.low, strict=False)])]
    labels = s.labels or ("",) * len(places)
    few = len(places) <= MARKED
    return Drawn(
        name=s.name,
        kind=place % KINDS,
        line="" if chart.bars or not s.joined else _joined(places),
        band="" if chart.bars else _joined([(x(a), y(b)) for a, b in edge]),
        points=[
            Point(a, b, label, b + (14 if n % 2 else -7), left=a > WIDTH * 0.7)
            for n, ((a, b), label) in enumerate(zip(places, labels, strict=True))
            if few and not chart.bars
        ],
        bars=_bars(chart, x, y) if chart.bars else [],
        legend=legend,
    )


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _bars(chart: Chart, x: Scale, y: Scale) -> list[Bar]:
    series = chart.series[0]
    width = 0.8 * (x(1.0) - x(0.0))
    found = []
    for i, value in enumerate(series.y):
        top, bottom = sorted((y(value), y(0.0)))
        says = f"{series.name}, {chart.ticks[i]}: {number(value)}"
        found.append(Bar(x(float(i)) - width / 2, top, width, bottom - top, says))
    return found
