"""The part of a report that asks whether agreement is worth anything.

Pure functions from ``Confidence`` to ``Section``. Knows words and figures; no files.

    confidence_section(Confidence(models={"base": Trust(...)}, ...), "test", 1)
    -> Section(key="confidence-1", title="Is agreement worth anything? test", ...)
"""

from __future__ import annotations

from collections.abc import Iterator

from lmsi_cli.report.confidence import Confidence, Trust
from lmsi_cli.report.digest import Chart, Section, Series, Sheet
from lmsi_cli.report.tables import with_interval

DRAWN = 2  # models in one picture: before and after


def confidence_section(c: Confidence, data: str, number: int) -> Section:
    """Reliability, ranking and risk of each model.

    Args:
        c: The figures of a data set.
        data: What it is called.
        number: Makes the section's key unique.
    """
    lines = list(c.findings) or ["No inversion: nowhere does more agreement clearly mean less."]
    return Section(
        key=f"confidence-{number}",
        title=f"Is agreement worth anything? {data}",
        lines=tuple(lines),
        sheets=tuple(s for s in (_whole(c), _bins(c), _strata(c)) if s.rows),
        charts=tuple(_charts(c)),
    )


def _whole(c: Confidence) -> Sheet:
    rows = [
        (
            name,
            f"{t.questions:,}" + (f" and {t.silent:,} without an answer" if t.silent else ""),
            f"{t.confidence:.2f}",
            with_interval(t.accuracy),
            f"{t.ece.value:.3f} [{t.ece.low:.3f}, {t.ece.high:.3f}]",
            "" if t.brier is None else f"{t.brier.score.value:.3f}",
            "" if t.auroc is None else _two(t),
            "" if t.risk is None else f"{t.risk.aurc.value:.3f}",
        )
        for name, t in c.models.items()
    ]
    columns = ("", "questions", "mean share", "vote right, %", "ECE", "Brier", "AUROC", "AURC")
    return Sheet(title="Share of the winner as confidence", columns=columns, rows=tuple(rows))


def _two(t: Trust) -> str:
    assert t.auroc is not None
    return f"{t.auroc.value:.2f} [{t.auroc.low:.2f}, {t.auroc.high:.2f}]"


def _bins(c: Confidence) -> Sheet:
    rows = [
        (
            f"{b.low:.1f} to {b.high:.1f}",
            name,
            f"{b.n:,}",
            f"{b.confidence:.2f}",
            with_interval(b.accuracy),
        )
        for name, t in c.models.items()
        for b in t.reliability
    ]
    columns = ("share", "model", "questions", "mean share", "right, % [95% interval]")
    return Sheet(title="Reliability", columns=columns, rows=tuple(rows))


def _strata(c: Confidence) -> Sheet:
    rows = [
        (
            s.label + (" (few)" if s.small else ""),
            s.by,
            f"{s.questions:,}",
            *(f"{100 * t.accuracy.value:.0f}% at {t.confidence:.2f}" for t in s.models.values()),
        )
        for s in c.strata
    ]
    columns = ("", "by", "questions", *c.models)
    return Sheet(title="Vote right, and mean share, by part", columns=columns, rows=tuple(rows))


def _charts(c: Confidence) -> Iterator[Chart]:
    models = dict(list(c.models.items())[:DRAWN])
    yield Chart(
        title="Reliability: share of the winner against accuracy",
        series=tuple(
            Series(
                name=name,
                x=tuple(b.confidence for b in t.reliability),
                y=tuple(b.accuracy.value for b in t.reliability),
                low=tuple(b.accuracy.low for b in t.reliability),
                high=tuple(b.accuracy.high for b in t.reliability),
            )
            for name, t in models.items()
        ),
        x_label="share of the winner",
        y_label="vote is right",
        percent="xy",
        diagonal=True,
        note="Below the dotted line the model is surer than right. Bands: 95%.",
    )
    risky = {name: t.risk for name, t in models.items() if t.risk is not None}
    if risky:
        yield Chart(
            title="Risk against coverage: answer only the surest",
            series=tuple(
                Series(
                    name=name,
                    x=tuple(p.coverage for p in r.points),
                    y=tuple(p.risk for p in r.points),
                )
                for name, r in risky.items()
            ),
            x_label="questions answered",
            y_label="of these wrong",
            percent="xy",
        )
