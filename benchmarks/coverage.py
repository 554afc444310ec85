"""Do the statistics keep what they promise? Coverage of the intervals, size and power of the tests.

Needs no model: populations with a known truth are made up and sampled again and again. For shares
of yes/no questions all outcomes are summed instead. One line of the result:

    {"what": "paired, yes/no", "setting": "a share of 0.05 changes, +0.03", "n": 30,
     "kept": 0.991, "promised": 0.95, "repeats": 1000, "width": 0.23}

    python -m benchmarks.coverage --out benchmarks/results
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from lmsi_cli.stats.intervals import Groups, auroc, mean_interval, wilson
from lmsi_cli.stats.paired_tests import paired, smallest_visible

SIZES = (30, 100, 300)
ACCURACIES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
PATHS = 5
CLUSTER = 5  # questions that share most of their difficulty
SPREAD = 1.5  # sum of the beta's parameters: accuracies per question lie mostly near 0 and 1
POPULATION = 400_000  # questions that stand for a whole population
Rng = np.random.Generator
Values = NDArray[np.float64]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How often an interval held the truth, or a test was significant at 5%."""

    what: str
    setting: str
    n: int
    kept: float
    promised: float
    repeats: int
    width: float | None = None


def main() -> None:
    """Measure everything, write it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    file = given.out / "coverage.json"
    given.out.mkdir(parents=True, exist_ok=True)
    for part in given.parts:
        known = msgspec.json.decode(file.read_bytes(), type=list[Line]) if file.exists() else []
        lines = {(x.what, x.setting, x.n): x for x in [*known, *PARTS[part](given.repeats)]}
        file.write_bytes(msgspec.json.format(msgspec.json.encode(list(lines.values()))))
    print(table(list(lines.values())))


def shares(_: int) -> Iterator[Line]:
    """Shares of yes/no questions: every outcome, weighted by its probability."""
    for n in SIZES:
        found = [wilson(k, n) for k in range(n + 1)]
        for p in ACCURACIES:
            odds = binom.pmf(range(n + 1), n, p)
            kept = sum(o for o, i in zip(odds, found, strict=True) if i.low <= p <= i.high)
            width = sum(o * (i.high - i.low) for o, i in zip(odds, found, strict=True))
            yield _line("Wilson", f"accuracy {p}", n, (float(kept), float(width), 0))


def means(repeats: int) -> Iterator[Line]:
    """Several paths per question; then clustered questions, with the clusters known and ignored."""
    for n in SIZES:
        for p in ACCURACIES:
            own = partial(_scores, n=n, accuracy=p)
            kept = cover(lambda r, own=own: mean_interval(own(r)), p, repeats)
            yield _line("mean of 5 paths", f"accuracy {p}", n, kept)
            groups, alike = _labels(n), partial(_scores, n=n, accuracy=p, cluster=CLUSTER)
            for what, known in (("clusters", groups), ("clusters, ignored", None)):
                kept = cover(lambda r, a=alike, g=known: mean_interval(a(r), g), p, repeats)
                yield _line(f"mean, {what}", f"accuracy {p}", n, kept)


def pairs(repeats: int) -> Iterator[Line]:
    """Before and after."""
    for n in SIZES:
        for moved, up in MOVES:
            draw, setting = partial(_yes_no, n=n, moved=moved, up=up), f"{moved} change, {up:+}"
            yield _line("paired, yes/no", setting, n, cover_pairs(draw, up, repeats))
        for before, after in STEPS:
            draw, setting = partial(_steps, n=n, a=before, b=after), f"{before} to {after}"
            up = after - before
            yield _line("paired, 5 paths", setting, n, cover_pairs(draw, up, repeats))
            for what, known in (("clusters", _labels(n)), ("clusters, ignored", None)):
                alike = partial(_steps, n=n, a=before, b=after, cluster=CLUSTER)
                kept = cover_pairs(alike, up, repeats, known)
                yield _line(f"paired, {what}", setting, n, kept)


MOVES = ((0.05, 0.0), (0.05, 0.03), (0.2, 0.0), (0.2, 0.1), (0.2, 0.2), (0.5, 0.0), (0.5, 0.3))
STEPS = ((0.02, 0.02), (0.02, 0.1), (0.3, 0.3), (0.3, 0.5), (0.9, 0.95))


def tests(repeats: int) -> Iterator[Line]:
    """False alarms where nothing changed; then how often the smallest visible change is found."""
    for n in SIZES:
        for moved in (0.05, 0.2, 0.5):
            same = partial(_yes_no, n=n, moved=moved, up=0.0)
            yield _line("size: exact McNemar", f"{moved} change", n, found(same, repeats), 0.05)
            up = smallest_visible(n, moved)
            there = partial(_yes_no, n=n, moved=max(moved, up), up=up)
            setting = f"{moved} change, {up:+.3f}"
            yield _line("power at the smallest visible", setting, n, found(there, repeats), 0.8)
        for p in (0.1, 0.5, 0.9):
            same = partial(_steps, n=n, a=p, b=p)
            yield _line("size: sign flips, 5 paths", f"at {p}", n, found(same, repeats), 0.05)
            alike = partial(_steps, n=n, a=p, b=p, cluster=CLUSTER)
            for what, known in (("clusters", _labels(n)), ("clusters, ignored", None)):
                kept = found(alike, repeats, known)
                yield _line(f"size: sign flips, {what}", f"at {p}", n, kept, 0.05)


def ranks(repeats: int) -> Iterator[Line]:
    """Confidence by shares of five paths, where a question often has a favourite wrong answer."""
    for p in (0.1, 0.5, 0.9):
        all_of_it = _shares(np.random.default_rng(0), POPULATION, p)
        truth = auroc(*all_of_it).value
        for n in SIZES:
            draw = partial(_shares, n=n, accuracy=p)
            kept = cover(lambda r, d=draw: auroc(*d(r)), truth, repeats)
            yield _line("AUROC", f"accuracy {p}", n, kept)


def cover(method: Callable[[Rng], Any], truth: float, repeats: int) -> tuple[float, float, int]:
    """Share of the intervals that hold the truth, their mean width, and how many there were."""
    made = [method(np.random.default_rng((7, i))) for i in range(repeats)]
    kept = np.mean([i.low - 1e-9 <= truth <= i.high + 1e-9 for i in made])
    return float(kept), float(np.mean([i.high - i.low for i in made])), len(made)


def cover_pairs(
    draw: Callable[[Rng], Any], truth: float, repeats: int, groups: Groups = None
) -> tuple[float, float, int]:
    """The same for a comparison."""
    return cover(lambda r: paired(*draw(r), groups=groups), truth, repeats)


def found(
    draw: Callable[[Rng], tuple[Values, Values]], repeats: int, groups: Groups = None
) -> tuple[float, None, int]:
    """Share of the comparisons that are significant."""
    rngs = (np.random.default_rng((8, i)) for i in range(repeats))
    clear = [paired(*draw(r), groups=groups).p_value < 0.05 for r in rngs]
    return float(np.mean(clear)), None, repeats


def _line(
    what: str,
    setting: str,
    n: int,
    kept: tuple[float, float | None, int],
    promised: float = 0.95,
) -> Line:
    share, width, repeats = kept
    return Line(
        what=what, setting=setting, n=n, kept=share, promised=promised, repeats=repeats, width=width
    )


def _labels(n: int) -> list[int]:
    return [i // CLUSTER for i in range(n)]


def _difficulty(rng: Rng, n: int, cluster: int) -> Values:
    """Uniform numbers, one per question; in a cluster, four in five questions share theirs."""
    own = rng.random(n)
    if cluster == 1:
        return own
    common = np.repeat(rng.random(-(-n // cluster)), cluster)[:n]
    return np.where(rng.random(n) < 0.8, common, own)


def _accuracies(uniform: Values, mean: float) -> Values:
    from scipy.special import betaincinv

    return np.asarray(betaincinv(mean * SPREAD, (1 - mean) * SPREAD, uniform))


def _scores(rng: Rng, n: int, accuracy: float, cluster: int = 1) -> Values:
    return rng.binomial(PATHS, _accuracies(_difficulty(rng, n, cluster), accuracy)) / PATHS


def _steps(rng: Rng, n: int, a: float, b: float, cluster: int = 1) -> tuple[Values, Values]:
    """Five paths before and after; three in ten questions get a new difficulty in between."""
    hard, anew = _difficulty(rng, n, cluster), _difficulty(rng, n, cluster)
    later = np.where(_difficulty(rng, n, cluster) < 0.7, hard, anew)
    before, after = _accuracies(hard, a), _accuracies(later, b)
    return rng.binomial(PATHS, before) / PATHS, rng.binomial(PATHS, after) / PATHS


def _yes_no(rng: Rng, n: int, moved: float, up: float) -> tuple[Values, Values]:
    odds = [(moved + up) / 2, (moved - up) / 2, (1 - moved) / 2, (1 - moved) / 2]
    kind = rng.choice(4, size=n, p=odds)
    return np.isin(kind, [1, 2]).astype(float), np.isin(kind, [0, 2]).astype(float)


def _shares(rng: Rng, n: int, accuracy: float) -> tuple[Values, NDArray[np.bool_]]:
    """Share of the most frequent answer of five paths, and whether it is right, without a tie."""
    right = rng.binomial(PATHS, _accuracies(rng.random(n), accuracy))
    favourite = rng.binomial(PATHS - right, rng.random(n))
    most = np.maximum(np.maximum(right, favourite), 1)
    alone = (right > favourite) & ((right > 1) | (favourite + right == PATHS))
    return most / PATHS, alone


PARTS = {p.__name__: p for p in (shares, means, pairs, tests, ranks)}


def table(lines: list[Line]) -> str:
    """Per figure and number of questions: the mean over the settings, and the worst."""
    rows = ["| | promised | n | mean | lowest | highest |", "|---|---|---|---|---|---|"]
    for what in dict.fromkeys(x.what for x in lines):
        for n in dict.fromkeys(x.n for x in lines if x.what == what):
            own = [x.kept for x in lines if (x.what, x.n) == (what, n)]
            promised = next(x.promised for x in lines if x.what == what)
            mean, low, high = (f"{100 * f(own):.1f}" for f in (np.mean, min, max))
            rows.append(f"| {what} | {100 * promised:.0f} | {n} | {mean} | {low} | {high} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
