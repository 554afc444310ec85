"""How often each signal, and the verdict, told beforehand whether training would help.

Pure functions over outcomes (see ``verdict.py``). Training helped where one sampled path gained
``WORTH`` or more, with an interval above zero. A signal alone is read with the threshold that is
best on all other settings (leave one out), in the better direction: a signal that needs to be told
its threshold by the answers is thus given a fair chance, and no more.

    verdicts without labels: 5 of 6 'train' helped, 4 of 5 'do not train' would not have ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.records import Interval
from lmsi_cli.stats import auroc
from lmsi_cli.verdict.judge import STRICTER
from lmsi_cli.verdict.signals import WORDS

FIGURE = "one sampled path"
WORTH = 0.05  # five points; "already solved" promises no more than ten
COLOURS = {"train": "#2a7f3f", "train with care": "#c98a1b", "do not train": "#b03030"}
LABELLED = ("gap", "vote", "kept", "one_path", "auroc")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried; no families means all of the kind."""

    name: str
    model: str = "tinymath"
    kind: str = "hard"
    families: tuple[str, ...] = ()
    temperature: float = 0.7
    paths: int = 12
    max_tokens: int = 256

    @property
    def folder(self) -> str:
        """The setting's name as a folder."""
        return "".join(c if c.isalnum() or c == "." else "-" for c in self.name)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A setting with both verdicts and the true changes by figure; none if nothing was kept."""

    setting: Setting
    plain: dict[str, Any]
    probed: dict[str, Any]
    changes: dict[str, dict[str, float]]
    seconds: float

    @property
    def change(self) -> float:
        """The true change; not trained is not changed."""
        return self.changes[FIGURE]["difference"] if self.changes else 0.0

    @property
    def helped(self) -> bool:
        """Whether it was worth training."""
        return bool(self.changes) and self.change >= WORTH and self.changes[FIGURE]["low"] > 0


def table(done: Sequence[Outcome]) -> str:
    """All settings, then the hit rates."""
    rows = [f"{'setting':24} {'without labels':16} {'with probe':16} {FIGURE}, CoT greedy"]
    rows += [_row(o) for o in done]
    helped = sum(o.helped for o in done)
    rows += ["", f"training helped in {helped} of {len(done)} settings", ""]
    rows += [_hits("without labels", done, "plain"), _hits("with probe", done, "probed"), ""]
    rows.append(f"{'signal alone':18} right, AUROC against 'helped', settings")
    for name, values in signals(done).items():
        known = [(v, o.helped) for v, o in zip(values, done, strict=True) if v is not None]
        area = auroc([v for v, _ in known], [h for _, h in known])
        shown = f"{area.value:.2f}" if area else "  - "
        rows.append(f"{name:18} {leave_one_out(known):3d} of {len(known):2d}  {shown}")
    return "\n".join(rows)


def _row(o: Outcome) -> str:
    told = [_change(o.changes.get(name)) for name in (FIGURE, "CoT greedy")]
    verdicts = f"{o.plain['verdict']:16} {o.probed['verdict']:16}"
    return f"{o.setting.name:24} {verdicts} {', '.join(told)}{'  helped' if o.helped else ''}"


def _change(c: dict[str, float] | None) -> str:
    if c is None:
        return "nothing kept"
    return f"{100 * c['difference']:+.1f} [{100 * c['low']:+.1f}, {100 * c['high']:+.1f}]"


def _hits(what: str, done: Sequence[Outcome], which: str) -> str:
    """Per verdict how many there were, and in how many of them training helped."""
    told = []
    for word in STRICTER:
        of = [o for o in done if getattr(o, which)["verdict"] == word]
        told.append(f"'{word}': helped in {sum(o.helped for o in of)} of {len(of)}")
    return f"{what}: {'; '.join(told)}"


def signals(done: Sequence[Outcome]) -> dict[str, list[float | None]]:
    """Every signal's value in every setting."""
    free = {
        name: [_value(o.plain["evidence"]["signals"].get(name)) for o in done] for name in WORDS
    }
    probes = [o.probed["evidence"]["probe"] or {} for o in done]
    labelled = {f"probe: {name}": [_value(p.get(name)) for p in probes] for name in LABELLED}
    return {k: v for k, v in {**free, **labelled}.items() if any(x is not None for x in v)}


def _value(interval: dict[str, float] | None) -> float | None:
    return msgspec.convert(interval, Interval).value if interval else None


def leave_one_out(known: Sequence[tuple[float, bool]]) -> int:
    """How many settings are told right by a threshold fitted on the others."""
    right = 0
    for i, (value, helped) in enumerate(known):
        line, above = _best([*known[:i], *known[i + 1 :]])
        right += ((value >= line) == above) == helped
    return right


def _best(known: Sequence[tuple[float, bool]]) -> tuple[float, bool]:
    """The threshold and direction with the fewest errors; midway between two values."""
    values = sorted({v for v, _ in known})
    lines = [-math.inf, *((a + b) / 2 for a, b in pairwise(values))]
    return max(
        ((line, above) for line in lines for above in (True, False)),
        key=lambda x: sum(((v >= x[0]) == x[1]) == helped for v, helped in known),
    )


def plot(done: Sequence[Outcome], target: Path) -> None:
    """The true change against every signal; the colour is the verdict without labels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = signals(done)
    across = 4
    down = math.ceil(len(found) / across)
    figure, grid = pyplot.subplots(down, across, figsize=(14, 2.6 * down), layout="constrained")
    for axes, (name, values) in zip(grid.flat, found.items(), strict=False):
        for value, o in zip(values, done, strict=True):
            if value is not None:
                axes.plot(value, 100 * o.change, "o", color=COLOURS[o.plain["verdict"]])
                axes.plot(value, 100 * o.change, ".", color=COLOURS[o.probed["verdict"]])
        axes.axhline(100 * WORTH, color="#999999", linewidth=0.7)
        axes.set_title(name, fontsize=9)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    figure.suptitle(f"{FIGURE}: points gained by training; ring without labels, core with a probe")
    figure.savefig(target, dpi=110)
