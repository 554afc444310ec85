"""Whether a change is a gain: controls beside it, and the change where the base was well formed.

Two things look like a gain and are none: another draw of the same model, and a model that learned
to end its answers. Knows changes; computes none. As sentences:

    Controls, CoT greedy on test: adapter +31 -22 questions; shuffled votes +25 -24.
    CoT greedy on test: on the 212 questions that base answered in full: +1.4 points ...
"""

from __future__ import annotations

from collections.abc import Iterator

from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.reporting.formats import CLEAR, p_words, points, signed
from lmsi_cli.reporting.results import Evaluation, Pair


def control_lines(e: Evaluation) -> Iterator[str]:
    """What the line that decides gained beside its controls, and by form alone; a sentence each."""
    for p in (p for p in e.pairs if p.primary):
        if same := [n for n in e.nulls if (n.line, n.temperature) == (p.line, p.temperature)]:
            yield _beside(p, same, e)
        if p.whole is not None and p.whole.n < p.change.n:
            yield _in_full(p, e)


def _beside(p: Pair, nulls: list[Pair], e: Evaluation) -> str:
    """Questions gained and lost, of the adapter and of each control."""
    each = "; ".join(f"{n.after} +{n.change.gained} -{n.change.lost}" for n in nulls)
    sentence = (
        f"Controls, {p.line} on {e.data}: {p.after} +{p.change.gained} -{p.change.lost} questions; "
        f"{each}."
    )
    if as_much := gained_as_much(p, e):
        sentence += f" {' and '.join(as_much)} gained as much, so this shows no gain by the vote."
    return sentence


def gained_as_much(p: Pair, e: Evaluation) -> list[str]:
    """The controls whose gain is no smaller than this one; none where there is no gain."""
    return [
        n.after
        for n in e.nulls
        if (n.line, n.temperature) == (p.line, p.temperature)
        and n.change.difference >= p.change.difference > 0
    ]


def _in_full(p: Pair, e: Evaluation) -> str:
    """The change on the questions whose answer before could be read and was not cut off."""
    assert p.whole is not None
    sentence = (
        f"{p.line} on {e.data}: on the {p.whole.n} questions that {p.before} answered in full: "
        f"{points(p.whole)}, p {p_words(p.whole.p_value)}."
    )
    if p.p_holm < CLEAR and p.change.difference > 0 and p.whole.p_value >= CLEAR:
        sentence += f" So {p.after} clearly gained form, and not clearly more than that."
    return sentence


def control_sheet(e: Evaluation) -> Sheet:
    """Every line of the controls, in questions and points; no rows without controls."""
    rows = [
        (
            n.line,
            n.after,
            f"+{n.change.gained} -{n.change.lost}",
            signed(n.change),
        )
        for n in e.nulls
    ]
    return Sheet(
        title="controls: changes that are no gain",
        columns=("", "model", "questions", "points [95% interval]"),
        rows=tuple(rows),
    )
