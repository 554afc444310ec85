"""The verdict as a person reads it: the word, the reasons, and the figures behind them.

verdict: train with care
  with care  equations hold in 11% [8, 14] of the paths that agree with the majority, ...
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from lmsi_cli.records import Interval
from lmsi_cli.report.tables import facts, percent, with_interval
from lmsi_cli.verdict.probe import ProbeFigures
from lmsi_cli.verdict.rules import CARE, STOP, TRAIN, Verdict
from lmsi_cli.verdict.signals import WORDS

COLOURS = {TRAIN: "green", CARE: "yellow", STOP: "red"}
SHORT = {TRAIN: "for it", CARE: "with care", STOP: "against it", None: "note"}


def verdict_parts(v: Verdict) -> list[Table | Text]:
    """Everything, the verdict itself last: it is what the screen ends on."""
    e = v.evidence
    looked = f"{e.looked_at} of {e.questions} questions" if e.looked_at < e.questions else ""
    title = "\nsignals, % [95% interval]" + (f", from {looked}" if looked else "")
    rows = [(WORDS[name], _figure(name, i)) for name, i in e.signals.items()]
    parts: list[Table | Text] = [facts(title, rows)]
    if e.probe is not None:
        parts.append(facts("\nprobe, % right [95% interval]", list(_probe_rows(e.probe))))
    return [*parts, Text.assemble("\nverdict: ", (v.verdict, COLOURS[v.verdict])), _reasons(v)]


def verdict_line(v: Verdict) -> str:
    """The verdict in one line, for the progress view."""
    return f"verdict: {v.verdict}" + (f"; {v.reasons[0].text}" if v.reasons else "")


def _reasons(v: Verdict) -> Table:
    return facts("", [(f"  {SHORT[r.says]}", r.text) for r in v.reasons])


def _figure(name: str, i: Interval) -> str:
    """Differences carry their sign; a signal that rests on fewer questions says on how many."""
    sign = "+" if name in ("above chance", "steps lift") else ""
    return f"{100 * i.value:{sign}.1f} [{100 * i.low:{sign}.0f}, {100 * i.high:{sign}.0f}] n={i.n}"


def _probe_rows(p: ProbeFigures) -> Iterator[tuple[str, str]]:
    yield "questions", f"{p.questions}, of which {p.kept_questions} are kept"
    yield "one path", with_interval(p.one_path)
    yield "the vote (the ceiling, maj@m)", with_interval(p.vote)
    yield "any path (the oracle, pass@m)", with_interval(p.any_path)
    if p.kept_questions:
        yield "kept paths", with_interval(p.kept)
        yield "kept paths minus all paths of their questions", _figure("steps lift", p.gap)
    if p.auroc is not None:
        a = p.auroc
        yield (
            "AUROC of share against right",
            f"{a.value:.2f} [{a.low:.2f}, {a.high:.2f}]; 0.5 tells nothing",
        )
    for b in p.reliability:
        name = f"  right where the share is {b.low:.1f} to {b.high:.1f}"
        yield name, f"{with_interval(b.right)} n={b.right.n}, mean share {percent(b.share)}"
