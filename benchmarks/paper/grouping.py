"""Combine seeds: one row's figures from its results, with their spread.

Knows no experiments and no Markdown. Greedy answers are averaged over seeds question by question
and compared in pairs, so that the interval is one over questions. For all other lines the mean and
the range over seeds are given, since each seed is an experiment of its own.

    Row(results).change(GREEDY) -> Paired(difference=0.21, low=0.15, high=0.27, ...)
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.paper.records import GREEDY, Point, Result
from lmsi_cli.records import Paired
from lmsi_cli.stats.paired_tests import paired


class Row:
    """All seeds of one run on one exam."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.name, self.exam, self.n = results[0].name, results[0].exam, results[0].n

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.results)

    def mean(self, field: str) -> float | None:
        """Mean of a field of the results, over those that have it."""
        found = [v for r in self.results if (v := getattr(r, field)) is not None]
        return statistics.mean(found) if found else None

    def before(self, line: str) -> float | None:
        """Mean before training, a fraction."""
        return _mean(r.lines[line].before for r in self.results if line in r.lines)

    def after(self, line: str) -> float | None:
        """Mean after training, a fraction; None where nothing was trained."""
        return _mean(r.lines[line].after for r in self.results if line in r.lines)

    def changes(self, line: str) -> list[float]:
        """The change in every seed."""
        found = (r.lines[line].change for r in self.results if line in r.lines)
        return [c for c in found if c is not None]

    def change(self) -> Paired | None:
        """The change of greedy decoding, seeds averaged question by question."""
        marks = [r.greedy for r in self.results if r.greedy and r.lines[GREEDY].after is not None]
        if not marks:
            return None
        return paired(_scores(m[0] for m in marks), _scores(m[1] for m in marks))

    def against(self, other: Row) -> Paired | None:
        """This row's greedy answers after training against another's, over the seeds of both."""
        own = {r.seed: r.greedy[1] for r in self.results if r.greedy}
        their = {r.seed: r.greedy[1] for r in other.results if r.greedy}
        seeds = sorted(own.keys() & their.keys())
        if not seeds:
            return None
        return paired(_scores(their[s] for s in seeds), _scores(own[s] for s in seeds))

    def curve(self, model: str) -> list[Point]:
        """Mean curve over seeds."""
        found = [r.curves[model] for r in self.results if model in r.curves]
        return [
            Point(
                k=points[0].k,
                majority=statistics.mean(p.majority for p in points),
                any=statistics.mean(p.any for p in points),
            )
            for points in zip(*found, strict=False)
        ]

    def most(self, start: str) -> str | None:
        """The first line whose name begins with ``start``: ``majority of 8``."""
        return next((k for r in self.results for k in r.lines if k.startswith(start)), None)


def rows(results: Iterable[Result], exam: str | None = None) -> list[Row]:
    """Results by name and exam, in their order."""
    found: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        if exam in (None, r.exam):
            found.setdefault((r.name, r.exam), []).append(r)
    return [Row(group) for group in found.values()]


def _scores(marks: Iterable[str]) -> list[float]:
    return [statistics.mean(map(int, column)) for column in zip(*marks, strict=True)]


def _mean(values: Iterable[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return statistics.mean(found) if found else None
