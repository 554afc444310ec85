"""The paper's figures, redrawn from our results: one SVG each under docs/paper/.

Knows results and matplotlib; runs nothing. A figure without results is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from benchmarks.paper.grouping import rows
from benchmarks.paper.records import GREEDY, Result
from benchmarks.paper.sections import BINS, ballots_of, combined
from lmsi_cli.stats.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Results = dict[str, list[Result]]
STYLES = ("o-", "s--", "^:", "D-.", "v-", "P--", "x:", "*-.")


def draw(results: Results, folder: Path) -> None:
    """Draw every figure that has results."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lmsi"  # the same bytes for the same figures
    folder.mkdir(parents=True, exist_ok=True)
    for name, (experiment, plot) in FIGURES.items():
        if found := combined(experiment, results):
            _figure(folder / f"{name}.svg", found, plot)


def _figure(target: Path, found: list[Result], plot: Callable[[Axes, list[Result]], None]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    plot(axes, found)
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(fontsize=8)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def confidence(axes: Axes, found: list[Result]) -> None:
    """The paper's Figure 2, for kinds of questions from solved to hopeless."""
    for style, name in zip(STYLES, dict.fromkeys(r.name for r in found), strict=False):
        ballots = ballots_of(found, name)
        told = [
            (share, wilson(sum(right), len(right)))
            for low, high in BINS
            if (inside := [b for b in ballots if low <= b[0] < high])
            for share, right in [(sum(b[0] for b in inside) / len(inside), [b[1] for b in inside])]
        ]
        y = [100 * i.value for _, i in told]
        spread = [
            [100 * (i.value - i.low) for _, i in told],
            [100 * (i.high - i.value) for _, i in told],
        ]
        axes.errorbar([s for s, _ in told], y, yerr=spread, fmt=style, label=name, capsize=2, lw=1)
    axes.set_xlabel("share of the winner among the votes")
    axes.set_ylabel("winners that are right, %")


def curves(axes: Axes, found: list[Result]) -> None:
    """The paper's Figure 5: the vote of k paths, before and after, with the best of them."""
    row = rows(found)[0]
    for model, style in (("base", "o--"), ("adapter", "s-")):
        points = row.curve(model)
        ks = [p.k for p in points]
        axes.plot(ks, [100 * p.majority for p in points], style, label=f"vote, {model}")
        axes.plot(
            ks, [100 * p.any for p in points], style, label=f"best of them, {model}", alpha=0.4
        )
    axes.set_xlabel("sampled paths")
    axes.set_ylabel("questions right, %")


def temperatures(axes: Axes, found: list[Result]) -> None:
    """The paper's Figure 4: the vote by temperature."""
    told = [(float(r.name.split()[-1]), r) for r in rows(found)]
    for model, style in (("base", "o--"), ("adapter", "s-")):
        own = [(t, row.curve(model)[-1]) for t, row in told if row.curve(model)]
        x = [t for t, _ in own]
        axes.plot(x, [100 * p.majority for _, p in own], style, label=f"vote of 5, {model}")
        axes.plot(x, [100 * row.curve(model)[0].majority for _, row in told if row.curve(model)],
                  style, label=f"one path, {model}", alpha=0.4)  # fmt: skip
    axes.set_xlabel("temperature")
    axes.set_ylabel("questions right, %")


def sizes(axes: Axes, found: list[Result]) -> None:
    """Greedy accuracy against a number in the row's name: questions, or paths."""
    told = [(int(row.name.split()[0]), row) for row in rows(found)]
    changes = [(n, row.change(), row.before(GREEDY)) for n, row in told]
    known = [(n, c, b) for n, c, b in changes if c is not None and b is not None]
    axes.errorbar(
        [n for n, _, _ in known],
        [100 * (b + c.difference) for _, c, b in known],
        yerr=[
            [100 * (c.difference - c.low) for _, c, _ in known],
            [100 * (c.high - c.difference) for _, c, _ in known],
        ],
        fmt="o-",
        capsize=2,
        label="CoT greedy after training",
    )
    axes.axhline(100 * known[0][2], ls="--", color="grey", label="before")
    axes.set_xscale("log", base=2)
    axes.set_xticks([n for n, _ in told], [str(n) for n, _ in told])
    axes.set_xlabel(rows(found)[0].name.split()[1])
    axes.set_ylabel("questions right, %")


FIGURES: dict[str, tuple[str, Callable[[Axes, list[Result]], None]]] = {
    "confidence": ("confidence", confidence),
    "sample-size": ("sample-size", curves),
    "temperature": ("temperature", temperatures),
    "questions": ("questions", sizes),
    "paths": ("paths", sizes),
}
