"""The parts of a report that come before the evaluation: verdict, vote, training, settings.

Pure functions from a run's records to ``Section``. Knows words and figures; reads no file and draws
nothing. One of them:

    vote_section(VoteSummary(questions=400, kept_paths=1212, ...))
    -> Section(key="vote", title="The vote", lines=("1,212 paths of 303 ...",), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmsi_cli.report.digest import Chart, Section, Series, Sheet
from lmsi_cli.report.tables import KINDS, percent, with_interval
from lmsi_cli.verdict.probe import ProbeFigures
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.verdict.signals import WORDS
from lmsi_cli.voting import VoteSummary
from lmsi_cli.voting.summary import BINS

POINTS = 240  # of a loss curve; more are averaged, so that a long run's page stays small


def verdict_section(v: Verdict) -> Section:
    """Why the verdict is what it is."""
    e = v.evidence
    signals = [
        (WORDS.get(name, name), with_interval(i), f"{i.n:,}") for name, i in e.signals.items()
    ]
    sheets = [Sheet(title="Signals", columns=("", "% [95% interval]", "n"), rows=tuple(signals))]
    charts: tuple[Chart, ...] = ()
    if e.probe is not None:
        rows = tuple(probe_rows(e.probe))
        sheets.append(Sheet(title="Probe", columns=("", "% right [95% interval]"), rows=rows))
        charts = tuple(_reliability(e.probe))
    return Section(
        key="verdict",
        title="The verdict",
        lines=tuple(f"{r.says or 'Note'}: {r.text}." for r in v.reasons),
        sheets=tuple(sheets),
        charts=charts,
    )


def probe_rows(p: ProbeFigures) -> Iterator[tuple[str, str]]:
    """The labelled questions of a run, in figures."""
    yield "questions", f"{p.questions}, of which {p.kept_questions} are kept"
    yield "one path", with_interval(p.one_path)
    yield "the vote (the ceiling, maj@m)", with_interval(p.vote)
    yield "any path (the oracle, pass@m)", with_interval(p.any_path)
    if p.kept_questions:
        yield "kept paths", with_interval(p.kept)
    if p.auroc is not None:
        a = p.auroc
        yield "AUROC of share against right", f"{a.value:.2f} [{a.low:.2f}, {a.high:.2f}]"


def _reliability(p: ProbeFigures) -> Iterator[Chart]:
    if len(p.reliability) < 2:
        return
    bins = p.reliability
    right = Series(
        name="probe",
        x=tuple(b.share for b in bins),
        y=tuple(b.right.value for b in bins),
        low=tuple(b.right.low for b in bins),
        high=tuple(b.right.high for b in bins),
    )
    yield Chart(
        title="Is agreement worth anything? (probe, before training)",
        series=(right,),
        x_label="share of the winner",
        y_label="winner is right",
        percent="xy",
        diagonal=True,
        note="On the dotted line a share would be the chance of being right.",
    )


def vote_section(s: VoteSummary) -> Section:
    """What the vote kept and what it left out."""
    kept = f"{s.kept_paths:,} paths of {s.kept_questions:,} of {s.questions:,} questions are kept"
    lines = [
        f"{kept}; {s.parsed:,} of {s.paths:,} paths voted, {s.ties:,} questions ended in a tie.",
        *(f"Warning: {warning}." for warning in s.warnings),
    ]
    removed = [(name, f"{n:,}") for name, n in s.removed.items() if n]
    sheets = [
        Sheet(
            title="Classes of paths",
            columns=("", "all", "kept", "what it is"),
            rows=tuple(
                (name, f"{n:,}", f"{s.kept_classes.get(name, 0):,}", KINDS[name])
                for name, n in s.classes.items()
                if n
            ),
        ),
        Sheet(title="Left out", columns=("by", "paths"), rows=tuple(removed)),
    ]
    charts = [_agreement(s), *_classes(s)]
    return Section(
        key="vote", title="The vote", lines=tuple(lines), sheets=tuple(sheets), charts=tuple(charts)
    )


def _agreement(s: VoteSummary) -> Chart:
    places = tuple(float(i) for i in range(BINS))
    shown = Series(name="questions", x=places, y=tuple(float(n) for n in s.histogram))
    ticks = tuple(f"{i / BINS:.1f}" for i in range(BINS))
    note = f"Mean share {s.mean_share:.2f}."
    if s.stopped:
        note += f" {s.stopped:,} questions were stopped early; their shares are not comparable."
    return Chart(
        title="How many paths agree with the winner",
        series=(shown,),
        x_label="share of the winner, from",
        y_label="questions",
        ticks=ticks,
        bars=True,
        note=note,
    )


def _classes(s: VoteSummary) -> Iterator[Chart]:
    names = tuple(name for name, n in s.classes.items() if n)
    if not names:
        return
    places = tuple(float(i) for i in range(len(names)))
    series = (
        Series(name="all paths", x=places, y=tuple(float(s.classes[n]) for n in names)),
        Series(name="kept", x=places, y=tuple(float(s.kept_classes.get(n, 0)) for n in names)),
    )
    yield Chart(
        title="Classes of paths: sound ones and kinds of mistakes",
        series=series,
        x_label="class",
        y_label="paths",
        ticks=names,
        bars=True,
    )


def training_section(
    told: Mapping[str, Any] | None, losses: Sequence[tuple[float, float]], others: Sequence[Series]
) -> Section:
    """What was trained, and that it works.

    Args:
        told: The adapter's own ``result``: ``summary`` and ``proof``; None while it trains.
        losses: Step and loss of each step.
        others: Further curves over steps, such as the loss on held-out questions.
    """
    lines, sheets = [], []
    if told is not None:
        summary, proof = told["summary"], told["proof"]
        lines.append(
            f"{summary['steps']:,} steps on {summary['examples']:,} examples in "
            f"{summary['seconds']:,.0f} s; loss {summary['first_loss']:.3g} to "
            f"{summary['final_loss']:.3g}."
        )
        lines.append(
            f"The adapter moves the logits by {percent(proof['moved'])}; llama.cpp and PyTorch "
            f"are {percent(proof['adapted_gap'])} apart with it."
        )
        rows = tuple((k.replace("_", " "), _shown(v)) for k, v in summary.items())
        sheets.append(Sheet(title="Training", columns=("", "value"), rows=rows))
    elif losses:
        lines.append(f"Not finished: {len(losses):,} steps so far.")
    return Section(
        key="training",
        title="Training",
        lines=tuple(lines),
        sheets=tuple(sheets),
        charts=tuple(_loss(losses, others)),
    )


def _loss(losses: Sequence[tuple[float, float]], others: Sequence[Series]) -> Iterator[Chart]:
    if not losses:
        return
    x, y = thinned(losses)
    yield Chart(
        title="Loss",
        series=(Series(name="training", x=x, y=y), *others),
        x_label="step",
        y_label="loss, nats a token",
    )


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means of neighbours, at most ``POINTS`` of them."""
    size = -(-len(points) // POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [[sum(v) / len(g) for v in zip(*g, strict=True)] for g in groups]
    return tuple(m[0] for m in means), tuple(m[1] for m in means)


def settings_section(
    settings: Mapping[str, Mapping[str, Any]], commands: Sequence[str], version: str
) -> Section:
    """All that is needed to repeat the run.

    Args:
        settings: run.toml, section by section.
        commands: To be typed again, in order.
        version: Of the lmsi that made the report.
    """
    sheets = [
        Sheet(
            title=f"[{name}]",
            columns=("setting", "value"),
            rows=tuple((key, _shown(value)) for key, value in table.items()),
        )
        for name, table in settings.items()
    ]
    lines = ["To repeat the run:", *commands, f"Report made by lmsi {version}."]
    return Section(
        key="settings", title="Settings and versions", lines=tuple(lines), sheets=tuple(sheets)
    )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
