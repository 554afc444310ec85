"""An evaluation in sentences: what came of it, whether that is a gain, and what to do next.

Pure functions from ``Evaluation``; computes nothing that is not in the record.

    headline([evaluation]) -> ("CoT greedy on test: adapter is better than base: ...", ())
    next_step([evaluation], "runs/first") -> Step("the gain is clear; ...", "lmsi export ...")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmsi_cli.formats import (
    CLEAR,
    least_change,
    moved,
    p_words,
    percent,
    points,
    with_interval,
)
from lmsi_cli.reporting.digest import Step
from lmsi_cli.reporting.results import Evaluation, Pair


def sentences(e: Evaluation) -> Iterator[str]:
    """The result of a data set in a sentence per model; the base's figure where it is alone."""
    first = [p for p in e.pairs if p.primary]
    if not first:
        for v in e.mains:
            if (f := v.figure(e.primary)) is not None:
                yield f"{e.data}: {v.model}, {e.primary}: {with_interval(f.accuracy)}% right."
    for p in first:
        yield pair_sentence(p, e)
    for model, r in e.rivals.items():
        yield f"{e.data}: {model}: {r.sentence}" if len(e.rivals) > 1 else f"{e.data}: {r.sentence}"


def outcome(p: Pair) -> str:
    """What a change came to: better, worse, or no clear change."""
    if p.p_holm >= CLEAR:
        return "no clear change"
    return "better" if p.change.difference > 0 else "worse"


def pair_sentence(p: Pair, e: Evaluation) -> str:
    """One comparison as a sentence; accuracies are means over seeds."""
    c = p.change
    word, visible = f"{outcome(p)} than", ""
    if p.p_holm >= CLEAR:
        word = "not clearly different from"
        visible = f"; this set could only have shown {least_change(c.smallest_visible)}"
    ends = []
    for model in (p.before, p.after):
        variants = [v for v in e.of_model(model) if p.temperature in (None, v.temperature)]
        values = [f.accuracy.value for v in variants if (f := v.figure(p.line)) is not None]
        ends.append(percent(sum(values) / len(values)))
    return (
        f"{p.line} on {e.data}: {p.after} is {word} {p.before}: {' to '.join(ends)} of {c.n} "
        f"questions right, {points(c)}, p {p_words(p.p_holm)}{visible}."
    )


def control_lines(e: Evaluation) -> Iterator[str]:
    """What the line that decides gained beside its controls, and by form alone; a sentence each.

    Two things look like a gain and are none: another draw of the same model, and a model that
    learned to end its answers.
    """
    for p in (p for p in e.pairs if p.primary):
        if same := _controls_of(p, e):
            each = "; ".join(f"{n.after} {moved(n.change)}" for n in same)
            sentence = (
                f"Controls, {p.line} on {e.data}: {p.after} {moved(p.change)} questions; {each}."
            )
            if names := gained_as_much(p, e):
                gained = f" {' and '.join(names)} gained as much"
                sentence += f"{gained}, so this shows no gain by the vote."
            yield sentence
        if p.whole is not None and p.whole.n < p.change.n:
            sentence = (
                f"{p.line} on {e.data}: on the {p.whole.n} questions that {p.before} answered in "
                f"full: {points(p.whole)}, p {p_words(p.whole.p_value)}."
            )
            if outcome(p) == "better" and p.whole.p_value >= CLEAR:
                sentence += f" So {p.after} clearly gained form, and not clearly more than that."
            yield sentence


def gained_as_much(p: Pair, e: Evaluation) -> list[str]:
    """The controls whose gain is no smaller than this one; none where there is no gain."""
    gain = p.change.difference
    return [n.after for n in _controls_of(p, e) if n.change.difference >= gain > 0]


def _controls_of(p: Pair, e: Evaluation) -> list[Pair]:
    return [n for n in e.nulls if (n.line, n.temperature) == (p.line, p.temperature)]


def gained(evaluations: Sequence[Evaluation]) -> str | None:
    """The first model that is better on the deciding line somewhere and worse nowhere, if any."""
    for model in dict.fromkeys(p.after for e in evaluations for p in e.pairs):
        came = {outcome(p) for e in evaluations for p in e.pairs if p.primary and p.after == model}
        if "better" in came and "worse" not in came:
            return model
    return None


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


def next_step(measured: Sequence[Evaluation], run: str) -> Step:
    """What the deciding lines of at least one evaluation advise; ``run`` as it is typed."""
    found: set[str] = set()
    for e in measured:
        found |= {outcome(p) for p in e.pairs if p.primary}
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
