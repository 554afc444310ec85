"""Charts as SVG that needs nothing else: no script, no font, no colour of its own.

Colours come from the page's style sheet by class (``s0``, ``s1``, ...), so one picture serves
light, dark and print; series also differ in dash, marker and filling, for those who see no colour.
Every text is escaped. In a picture stand figures only, of which those that would touch are left
out; names are the page's, which folds them. Knows ``Chart`` and nothing of runs. Pictures are 560
by 296 pixels:

    svg(Chart(title="Loss", ...), "training-1") -> Markup('<svg class="chart" ...>...</svg>')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from markupsafe import Markup

from lmsi_cli.reporting.digest import Chart, Series
from lmsi_cli.reporting.formats import number, printable

WIDTH, HEIGHT = 560, 296
LEFT, RIGHT, TOP, BOTTOM = 62, 536, 14, 250  # edges of the axes
KINDS = 4  # series that look different
LOG_TICKS = 8
MARKED = 60  # points; a longer line has no markers
CHARACTER = 8.0  # width of one under an axis, at most
NAMED = 8  # characters of a name there
# A circle, square, triangle and diamond around the point.
MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-5L4.5,3.6h-9z",
    "M0,-5.4L5.4,0L0,5.4L-5.4,0z",
)
FRAME = Markup(
    f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    'aria-labelledby="{key}-t {key}-d">\n'
    '<title id="{key}-t">{title}</title><desc id="{key}-d">{says}</desc>\n{parts}\n</svg>'
)
UPRIGHT = Markup('<g transform="translate(14 132) rotate(-90)">{}</g>')
BAND = Markup('<polygon class="band" points="{}"/>')
CURVE = Markup('<polyline class="curve" points="{}"/>')
MARK = Markup('<path class="mark" d="{}" transform="translate({:.1f} {:.1f})"/>')
BAR = Markup(
    '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
    "<title>{}</title></rect>"
)

SWATCH = Markup(
    '<svg class="swatch s{0}" viewBox="-12 -7 24 14" width="24" height="14" aria-hidden="true">'
    '<polyline class="curve" points="-12,0 12,0"/><path class="mark" d="{1}"/></svg>'
)
# Places in percent need no width, so a row is as wide as the page lets it be.
SPAN = Markup(
    '<svg class="span s{0}" width="100%" height="16" aria-hidden="true">'
    '<line class="grid" x1="0" x2="0" y2="16"/><line class="grid" x1="50%" x2="50%" y2="16"/>'
    '<line class="grid" x1="100%" x2="100%" y2="16"/>'
    '<line class="reach" x1="{1:.1f}%" x2="{2:.1f}%" y1="8" y2="8"/>'
    '<svg x="{3:.1f}%" y="8" overflow="visible"><path class="mark" d="{4}"/></svg></svg>'
)

Scale = Callable[[float], float]
Place = tuple[float, float]


def svg(chart: Chart, key: str) -> Markup:
    """Draw a chart.

    Args:
        chart: With at least one series of at least one point.
        key: Begins the ids of its elements.
    """
    x, x_values = _x_axis(chart)
    y_values = _y_values(chart)
    y = _scale(y_values, BOTTOM, TOP)
    parts = []
    for v in y_values:
        name = number(v, "y" in chart.percent)
        parts += [_line("grid", LEFT, y(v), RIGHT, y(v))]
        parts += [_text("tick", LEFT - 6, y(v) + 4, "end", name)]
    names = chart.ticks or [number(v, "x" in chart.percent) for v in x_values]
    parts += [
        *_apart([(x(v), name) for v, name in zip(x_values, names, strict=True)]),
        _line("axis", LEFT, BOTTOM, RIGHT, BOTTOM),
        _text("label", (LEFT + RIGHT) / 2, 290, "middle", chart.x_label),
        UPRIGHT.format(_text("label", 0, 0, "middle", chart.y_label)),
    ]
    if chart.diagonal:
        low, high = max(x_values[0], y_values[0]), min(x_values[-1], y_values[-1])
        parts.append(_line("equal", x(low), y(low), x(high), y(high)))
    for place, s in enumerate(chart.series):
        drawn = _bars(chart, x, y) if chart.kind == "bars" else _points(s, place % KINDS, x, y)
        parts.append(Markup('<g class="s{}">{}</g>').format(place % KINDS, _all(*drawn)))
    return FRAME.format(
        key=key, title=printable(chart.title), says=printable(_described(chart)), parts=_all(*parts)
    )


def swatch(place: int) -> Markup:
    """What the series of that number looks like, for a legend."""
    return SWATCH.format(place % KINDS, MARKERS[place % KINDS])


def span(series: Series, n: int, place: int) -> Markup:
    """One value with its interval on a line from 0 to 100%, as the series of that number looks."""
    low, high, value = (100 * v[n] for v in (series.low, series.high, series.y))
    return SPAN.format(place % KINDS, low, high, value, MARKERS[place % KINDS])


def _all(*parts: Markup) -> Markup:
    return Markup("\n").join(parts)


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> Markup:
    element = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return element.format(kind, x, y, anchor, printable(text))


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    element = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return element.format(kind, x1, y1, x2, y2)


def _apart(names: Iterable[tuple[float, str]]) -> Iterator[Markup]:
    """The names below an axis, cut short; one that would touch its neighbour is left out."""
    end = 0.0
    for x, whole in names:
        name = whole if len(whole) <= NAMED else f"{whole[: NAMED - 1]}\u2026"
        half = CHARACTER * len(name) / 2
        if x - half > end:
            yield _text("tick", x, 270, "middle", name)
            end = x + half + CHARACTER


def _described(chart: Chart) -> str:
    """The chart in words: what each series begins and ends with."""
    ends = []
    for s in (s for s in chart.series if s.y):
        first, last = (number(y, "y" in chart.percent) for y in (s.y[0], s.y[-1]))
        ends.append(f"{s.name}: {first if len(s.y) == 1 else f'from {first} to {last}'}")
    return f"{chart.y_label} by {chart.x_label}. " + "; ".join(ends)


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
    if chart.ticks:
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
    floor = min(0.0, *values) if chart.kind == "bars" or "y" in chart.percent else min(values)
    top = max(values)
    if "y" in chart.percent and floor >= 0:
        top = min(1.0, top) or 1.0
    return round_values(floor, top)


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, span = min(values), (max(values) - min(values)) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def _points(s: Series, kind: int, x: Scale, y: Scale) -> Iterator[Markup]:
    """A series' band, line and markers."""
    edge = [*zip(s.x, s.high, strict=False), *reversed([*zip(s.x, s.low, strict=False)])]
    if edge:
        yield BAND.format(_joined([(x(a), y(b)) for a, b in edge]))
    places = [(x(a), y(b)) for a, b in zip(s.x, s.y, strict=True)]
    if places:
        yield CURVE.format(_joined(places))
    for a, b in places if len(places) <= MARKED else ():
        yield MARK.format(MARKERS[kind], a, b)


def _joined(places: Iterable[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _bars(chart: Chart, x: Scale, y: Scale) -> Iterator[Markup]:
    """Bars that say their figure when they are pointed at."""
    series = chart.series[0]
    width = 0.8 * (x(1.0) - x(0.0))
    for i, value in enumerate(series.y):
        top, bottom = sorted((y(value), y(0.0)))
        says = printable(f"{series.name}, {chart.ticks[i]}: {number(value)}")
        yield BAR.format(x(float(i)) - width / 2, top, width, bottom - top, says)
