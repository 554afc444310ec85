"""An evaluation in detail: every change, rivals, parts of the questions, flips, confidence.

Pure functions from ``Evaluation`` to ``Section``; computes nothing that is not in the record.

    flips_section(evaluation, 1)
    -> Section(key="flips-1", title="Flips: test", lines=("12 questions gained, 5 lost.",), ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.records import Interval
from lmsi_cli.report.comparison import score
from lmsi_cli.report.digest import Chart, Section, Sheet, bars, curve
from lmsi_cli.report.formats import decimal, p_text, points, signed, tone, with_interval
from lmsi_cli.report.results import Evaluation, Pair

GAINED, LOST, BOTH, NEITHER = "gained", "lost", "right before and after", "wrong before and after"
RIGHT, WRONG = "right", "wrong"
KINDS = (BOTH, GAINED, LOST, NEITHER)
HALF = 0.5
DRAWN = 2  # models in one picture: before and after


def details_section(e: Evaluation, number: int) -> Section | None:
    """Every change with its own p-value, rivals, and parts of the questions; None if there is none.

    Args:
        e: The evaluation.
        number: Makes the section's key unique.
    """
    changes = changes_sheet("Changes, paired by question", e.pairs)
    sheets = tuple(s for s in (changes, *_rivals(e), _strata(e)) if s.rows)
    if not sheets:
        return None
    return Section(key=f"details-{number}", title=f"In detail: {e.data}", sheets=sheets)


def changes_sheet(title: str, pairs: Sequence[Pair]) -> Sheet:
    """Every change with its own p-value and the corrected one."""
    rows = [
        (
            p.line + ("" if p.temperature is None else f", t {p.temperature:g}"),
            f"{p.before} to {p.after}",
            signed(p.change),
            f"+{p.change.gained} -{p.change.lost}",
            p_text(p.change.p_value),
            p_text(p.p_holm),
        )
        for p in pairs
    ]
    return Sheet(
        title=title,
        columns=("", "models", "points [95% interval]", "questions", "p", "p, Holm"),
        rows=tuple(rows),
        tones=tuple(tone(p.change, p.p_holm) for p in pairs),
    )


def _rivals(e: Evaluation) -> Iterator[Sheet]:
    """Each adapter's single answer beside votes of the base: what it gains, at what cost."""
    for model, r in e.rivals.items():
        rows = [
            (
                f"base, vote of {rung.k}",
                with_interval(rung.accuracy),
                f"{rung.tokens:,.0f}",
                f"{rung.seconds:.3g}",
                signed(rung.change),
                p_text(rung.p_value),
            )
            for rung in r.rungs
        ]
        own = (f"{model}, one answer", with_interval(r.accuracy), f"{r.tokens:,.0f}")
        rows.append((*own, f"{r.seconds:.3g}", "", ""))
        columns = ("", "% right", "tokens", "seconds", f"{model} minus it", "p, Holm")
        title = f"Rivals: one answer of {model}, or just voting"
        yield Sheet(title=title, columns=columns, rows=tuple(rows))


def _strata(e: Evaluation) -> Sheet:
    models = [v.model for v in e.mains]
    rows = [
        (s.name, s.by, f"{s.n:,}", *(with_interval(s.accuracy.get(m)) for m in models))
        for s in e.strata
    ]
    columns = ("", "by", "questions", *models)
    title = f"{e.primary} by part of the questions, % right [95% interval]"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def kinds_of(e: Evaluation) -> list[str]:
    """What became of each question on the line that decides, from the base to the last model."""
    rows = [score([v], e.primary) for v in e.mains]
    known = [r for r in rows if r is not None]
    if len(known) < 2:
        return [RIGHT if s > HALF else WRONG for s in known[0]] if known else ["asked"] * e.n
    return [_kind(a, b) for a, b in zip(known[0], known[-1], strict=True)]


def _kind(before: float, after: float) -> str:
    if before != after:
        return GAINED if after > before else LOST
    return BOTH if after > HALF else NEITHER


def flips_section(e: Evaluation, number: int) -> Section | None:
    """How many questions training gained and lost; None without a comparison."""
    counts = Counter(kinds_of(e))
    if not set(counts) & set(KINDS):
        return None
    chart = bars(
        f"Flips, {e.primary}: {e.data}",
        {kind: counts[kind] for kind in KINDS},
        ("before and after", "questions"),
        "Each of them can be read below, with the paths behind it.",
    )
    return Section(
        key=f"flips-{number}",
        title=f"Flips: {e.data}",
        lines=(f"{counts[GAINED]:,} questions gained, {counts[LOST]:,} lost.",),
        charts=(chart,),
    )


def confidence_lines(e: Evaluation) -> Iterator[str]:
    """What training did to agreement and to right votes; models whose order is upside down."""
    c = e.confidence
    if c is None:
        return
    if c.surer is not None and c.righter is not None:
        yield (
            f"Agreement {points(c.surer)}, votes that are right {points(c.righter)}, on "
            f"{c.surer.n} questions."
        )
    yield from c.findings


def confidence_section(e: Evaluation, number: int) -> Section | None:
    """Whether agreement is worth anything, per model; None where nothing was sampled.

    Args:
        e: The evaluation.
        number: Makes the section's key unique.
    """
    if e.confidence is None:
        return None
    rows = [
        (
            name,
            f"{t.questions:,}" + (f" and {t.silent:,} without an answer" if t.silent else ""),
            f"{t.confidence:.2f}",
            with_interval(t.accuracy),
            f"{t.ece:.3f}",
            decimal(t.auroc),
        )
        for name, t in e.confidence.models.items()
    ]
    columns = ("", "questions", "mean share", "vote right, %", "ECE", "AUROC")
    drawn = list(e.confidence.models.items())[:DRAWN]
    return Section(
        key=f"confidence-{number}",
        title=f"Is agreement worth anything? {e.data}",
        lines=tuple(confidence_lines(e)),
        sheets=(
            Sheet(
                title="Share of the winner as confidence",
                columns=columns,
                rows=tuple(rows),
                note="ECE: 0 is best. AUROC: 0.5 tells nothing, less is upside down.",
            ),
        ),
        charts=(
            reliability_chart(
                "Reliability: share of the winner against accuracy",
                {name: [(b.confidence, b.accuracy) for b in t.reliability] for name, t in drawn},
            ),
        ),
    )


def reliability_chart(title: str, tables: Mapping[str, Sequence[tuple[float, Interval]]]) -> Chart:
    """How often the winner is right by its share; ``tables`` holds (share, right) per name."""
    return Chart(
        title=title,
        series=tuple(curve(name, table) for name, table in tables.items()),
        x_label="share of the winner",
        y_label="winner is right",
        percent="xy",
        diagonal=True,
        note="Below the dotted line the model is surer than right. Bands: 95%.",
    )
