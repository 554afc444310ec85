"""Charts as SVG that needs nothing else: no script, no font, no colour of its own.

Colours come from the page's style sheet by class (``s0``, ``s1``, ...), so one picture serves
light, dark and print; series also differ in dash, marker and filling, for those who see no colour.
Text is set by an XML library, which escapes it. Knows ``Chart`` and nothing of runs. It begins

    <svg class="chart" viewBox="0 0 560 320" role="img" aria-labelledby="c1-t c1-d"> ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from lmsi_cli.report.digest import Chart, Series
from lmsi_cli.report.printable import printable

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 46
SIZE = 4.5  # half a marker
KINDS = 4  # series that look different
LOG_TICKS = 8


class Frame(NamedTuple):
    """From values to places: x and y each as a function to pixels, and the values of the ticks."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    x_ticks: list[float]
    y_ticks: list[float]


def draw(chart: Chart, key: str) -> str:
    """One chart as an ``svg`` element.

    Args:
        chart: At least one series with at least one point.
        key: Unique on the page; names title and description for screen readers.
    """
    ids = f"{key}-t {key}-d"
    box = f"0 0 {WIDTH} {HEIGHT}"
    svg = Element("svg", {"class": "chart", "viewBox": box, "role": "img", "aria-labelledby": ids})
    SubElement(svg, "title", id=f"{key}-t").text = printable(chart.title)
    SubElement(svg, "desc", id=f"{key}-d").text = printable(described(chart))
    frame = _bar_frame(chart) if chart.bars else _frame(chart)
    _axes(svg, chart, frame)
    if chart.diagonal:
        a, b = _both(frame)
        _line(svg, "equal", frame.x(a), frame.y(a), frame.x(b), frame.y(b))
    for number, series in enumerate(chart.series):
        (_bars if chart.bars else _curve)(svg, chart, frame, series, number)
    _legend(svg, chart)
    return tostring(svg, encoding="unicode")


def described(chart: Chart) -> str:
    """The chart in words: what each series begins and ends with."""
    told = [f"{s.name}: {_ends(s, 'y' in chart.percent)}" for s in chart.series if s.y]
    return f"{chart.y_label} by {chart.x_label}. " + "; ".join(told)


def _ends(series: Series, percent: bool) -> str:
    first, last = number(series.y[0], percent), number(series.y[-1], percent)
    return first if len(series.y) == 1 else f"from {first} to {last}"


def number(value: float, percent: bool = False) -> str:
    """A tick or a figure, short: ``0.25``, ``25%``, ``1,200``."""
    if percent:
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def nice(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    span = high - low or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if raw <= m * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(xs: Sequence[float]) -> list[float]:
    """The values themselves if they are few whole numbers; else 1, 2, 5, 10, ... among them."""
    marks = sorted(set(xs))
    if len(marks) <= LOG_TICKS and all(x == round(x) for x in marks):
        return marks
    powers = range(math.floor(math.log10(marks[0])), math.ceil(math.log10(marks[-1])) + 1)
    round_ones = (m * 10.0**p for p in powers for m in (1, 2, 5))
    return [x for x in round_ones if marks[0] <= x <= marks[-1]] or [marks[0], marks[-1]]


def _frame(chart: Chart) -> Frame:
    xs = [x for s in chart.series for x in s.x]
    y_ticks = _y_ticks(chart)
    if chart.log_x:
        marks = sorted(set(xs))
        step = math.ceil(len(marks) / LOG_TICKS)
        return Frame(
            _scale(xs, LEFT, WIDTH - RIGHT, math.log), _up(y_ticks), marks[::step], y_ticks
        )
    x_ticks = nice(min(xs), max(xs))
    return Frame(_scale(x_ticks, LEFT, WIDTH - RIGHT), _up(y_ticks), x_ticks, y_ticks)


def _bar_frame(chart: Chart) -> Frame:
    y_ticks = _y_ticks(chart)
    places = [float(i) for i in range(len(chart.ticks))]
    return Frame(
        _scale([-0.5, len(places) - 0.5], LEFT, WIDTH - RIGHT), _up(y_ticks), places, y_ticks
    )


def _y_ticks(chart: Chart) -> list[float]:
    values = [v for s in chart.series for v in (*s.y, *s.low, *s.high)]
    floor = min(0.0, *values) if chart.bars or "y" in chart.percent else min(values)
    if "y" in chart.percent and floor >= 0:
        return nice(0.0, min(1.0, max(values)) or 1.0)
    return nice(floor, max(values))


def _across(
    values: Sequence[float], of: Callable[[float], float] = lambda v: v
) -> Callable[[float], float]:
    return _scale(values, LEFT, WIDTH - RIGHT, of)


def _up(ticks: Sequence[float]) -> Callable[[float], float]:
    return _scale(ticks, HEIGHT - BOTTOM, TOP)


def _scale(
    values: Sequence[float],
    start: float,
    end: float,
    of: Callable[[float], float] = lambda v: v,
) -> Callable[[float], float]:
    low, high = of(min(values)), of(max(values))
    span = high - low or 1.0
    return lambda v: start + (of(v) - low) / span * (end - start)


def _both(frame: Frame) -> tuple[float, float]:
    """The ends of the line of equal values that both axes have."""
    xs, ys = frame.x_ticks, frame.y_ticks
    return max(min(xs), min(ys)), min(max(xs), max(ys))


def _axes(svg: Element, chart: Chart, frame: Frame) -> None:
    for value in frame.y_ticks:
        y = frame.y(value)
        _line(svg, "grid", LEFT, y, WIDTH - RIGHT, y)
        _text(svg, number(value, "y" in chart.percent), LEFT - 6, y + 4, "end")
    for i, value in enumerate(frame.x_ticks):
        shown = chart.ticks[i] if chart.bars else number(value, "x" in chart.percent)
        _tick(svg, shown, frame.x(value), _crowded(chart))
    _line(svg, "axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM)
    _text(svg, chart.x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", "label")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    label = _text(svg, chart.y_label, 14, middle, "middle", "label")
    label.set("transform", f"rotate(-90 14 {middle:.1f})")


def _crowded(chart: Chart) -> bool:
    """Whether the names below the bars would run into each other."""
    return sum(7 * len(t) + 8 for t in chart.ticks) > WIDTH - LEFT - RIGHT


def _tick(svg: Element, shown: str, x: float, slanted: bool) -> None:
    y = HEIGHT - BOTTOM + (11 if slanted else 16)
    element = _text(svg, shown, x, y, "end" if slanted else "middle")
    if slanted:
        element.set("transform", f"rotate(-24 {x:.1f} {y:.1f})")


def _curve(svg: Element, chart: Chart, frame: Frame, series: Series, number_: int) -> None:
    group = SubElement(svg, "g", {"class": f"s{number_ % KINDS}"})
    points = [(frame.x(x), frame.y(y)) for x, y in zip(series.x, series.y, strict=True)]
    if series.low:
        edge = [*zip(series.x, series.high, strict=True)]
        edge += reversed([*zip(series.x, series.low, strict=True)])
        SubElement(group, "polygon", {"class": "band", "points": _places(edge, frame)})
    if series.joined:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        SubElement(group, "polyline", {"class": "curve", "points": places})
    if len(points) <= 60:
        for x, y in points:
            _marker(group, x, y, number_)
    for (x, y), label in zip(points, series.labels, strict=False):
        end = x > WIDTH * 0.7
        _text(group, label, x + (-8 if end else 8), y - 7, "end" if end else "start", "point")


def _places(edge: list[tuple[float, float]], frame: Frame) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in edge)


def _bars(svg: Element, chart: Chart, frame: Frame, series: Series, number_: int) -> None:
    group = SubElement(svg, "g", {"class": f"s{number_ % KINDS}"})
    slot = frame.x(1.0) - frame.x(0.0) if len(chart.ticks) > 1 else WIDTH / 3
    width = slot * 0.8 / len(chart.series)
    for i, value in enumerate(series.y):
        x = frame.x(float(i)) - slot * 0.4 + number_ * width
        top, zero = sorted((frame.y(value), frame.y(0.0)))
        size = {"width": f"{width * 0.94:.1f}", "height": f"{zero - top:.1f}"}
        bar = SubElement(
            group, "rect", {"class": "bar", "x": f"{x:.1f}", "y": f"{top:.1f}", **size}
        )
        SubElement(bar, "title").text = printable(
            f"{series.name}, {chart.ticks[i]}: {number(value)}"
        )
        if series.low:
            middle = x + width * 0.47
            _line(group, "whisker", middle, frame.y(series.low[i]), middle, frame.y(series.high[i]))


def _box(group: Element, x: float, y: float, width: float, height: float) -> Element:
    sizes = {"x": x, "y": y, "width": width, "height": height}
    return SubElement(group, "rect", {"class": "bar", **{k: f"{v:.1f}" for k, v in sizes.items()}})


def _legend(svg: Element, chart: Chart) -> None:
    if len(chart.series) < 2:
        return
    x = float(LEFT)
    for number_, series in enumerate(chart.series):
        group = SubElement(svg, "g", {"class": f"s{number_ % KINDS}"})
        if chart.bars:
            place = {"x": f"{x:.1f}", "y": "10", "width": "14", "height": "10"}
            SubElement(group, "rect", {"class": "bar", **place})
        else:
            SubElement(
                group, "polyline", {"class": "curve", "points": f"{x:.1f},15 {x + 22:.1f},15"}
            )
            _marker(group, x + 11, 15, number_)
        _text(group, series.name, x + 28, 19, "start")
        x += 44 + 6.6 * len(series.name)


def _marker(group: Element, x: float, y: float, number_: int) -> None:
    """A circle, square, triangle or diamond."""
    if number_ % KINDS == 0:
        SubElement(group, "circle", {"class": "mark", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"})
        return
    corners = list(_corners(number_ % KINDS))
    places = " ".join(f"{x + SIZE * a:.1f},{y + SIZE * b:.1f}" for a, b in corners)
    SubElement(group, "polygon", {"class": "mark", "points": places})


def _corners(kind: int) -> Iterator[tuple[float, float]]:
    if kind == 1:
        yield from ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
    elif kind == 2:
        yield from ((0, -1.1), (1, 0.8), (-1, 0.8))
    else:
        yield from ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0))


def _line(parent: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    SubElement(parent, "line", {"class": kind, **ends})


def _text(
    parent: Element, text: str, x: float, y: float, anchor: str, kind: str = "tick"
) -> Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    element = SubElement(parent, "text", {"class": kind, **place})
    element.text = printable(text)
    return element
