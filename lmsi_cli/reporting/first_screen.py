"""The first screen of a report: what happened in a sentence, in a picture, and what to do next.

Pure functions from evaluations; the first one decides. Before anything is measured there is no
picture, and the sentence is the run's own (``stages/report.py``).

    headline([evaluation]) -> ("CoT greedy on test: adapter is better than base: ...", ())
    next_step([evaluation], "runs/first") -> Step("the gain is clear; ...", "lmsi export ...")
"""

from __future__ import annotations

from collections.abc import Sequence

from lmsi_cli.reporting.controls import control_lines, gained_as_much
from lmsi_cli.reporting.digest import Chart, Step, curve
from lmsi_cli.reporting.evaluation import headline as sentences
from lmsi_cli.reporting.evaluation import outcome, pair_sentence
from lmsi_cli.reporting.results import Evaluation, Pair

DRAWN = 4  # models that look different


def headline(measured: Sequence[Evaluation], kept: str = "") -> tuple[str, tuple[str, ...]]:
    """The deciding comparison in a sentence, and in a few words what else was measured.

    Args:
        measured: At least one, the deciding one first.
        kept: The model that is kept of several rounds; empty: the first one.
    """
    primary = [(p, e) for e in measured for p in e.pairs if p.primary]
    if not primary:
        said = [line for e in measured for line in sentences(e)]
        return (said or [f"{measured[0].data} is measured."])[0], tuple(said[1:])
    first = next(((p, e) for p, e in primary if p.after == kept), primary[0])
    others = [f"{p.after} on {e.data}: {outcome(p)}" for p, e in primary if (p, e) != first]
    notes = [f"Measured, too: {'; '.join(others)}."] if others else []
    return pair_sentence(*first), (*control_lines(first[1]), *notes)


def picture(e: Evaluation) -> Chart:
    """Each model's deciding line, the vote and the ceiling, with intervals."""
    sampled = [f.name for v in e.mains for f in v.figures if f.mode == "sc"]
    lines = [e.primary, *(n for n in sampled if n.startswith(("majority", "any")))]
    lines = list(dict.fromkeys(lines))
    series = []
    for v in e.mains[:DRAWN]:
        known = [(float(n), f) for n, line in enumerate(lines) if (f := v.figure(line))]
        series.append(curve(v.model, [(x, f.accuracy) for x, f in known]))
    return Chart(
        title=f"Right answers, {e.n} questions of {e.data}",
        series=tuple(series),
        ticks=tuple(lines),
        kind="intervals",
        percent="y",
        note=f"{e.primary} decides. Majority: what voting gives; any: the ceiling of any selection."
        " All with 95% intervals.",
    )


def next_step(measured: Sequence[Evaluation], run: str) -> Step:
    """What the deciding lines advise.

    Args:
        measured: At least one.
        run: The folder, as it is typed.
    """
    found: dict[str, Pair] = {}
    for e in measured:
        found |= {outcome(p): p for p in e.pairs if p.primary}
        if "worse" in found:
            why = f"leave the adapter; look at the questions of {e.data} that it lost"
            return Step(why, f"lmsi compare {run} {run} --data {e.data} --show flips")
    if any(gained_as_much(p, e) for e in measured for p in e.pairs if p.primary):
        return Step("a control gained as much; see what was learned", f"lmsi show {run}")
    if "better" in found:
        return Step("the gain is clear; take the adapter along", f"lmsi export {run}")
    if found:
        return Step("measure on more questions, or train on more", f"lmsi eval {run} --data MORE")
    return Step("the adapter is not measured yet", f"lmsi eval {run} --data FILE")
