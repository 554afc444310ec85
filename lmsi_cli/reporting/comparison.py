"""Compare the variants of an evaluation, and put the outcome in sentences.

Knows models and lines; the statistics are in ``stats``, the records in ``results.py``. Scores of
several seeds are averaged per question before they are paired: they are more paths of the same
model, not more questions. The sentences compute nothing that is not in the record.

    compared([Evaluation(data="test", variants=(base, adapter), ...)])
    -> [Evaluation(data="test", pairs=(Pair(line="CoT greedy", ..., p_holm=0.003), ...), ...)]
    headline([evaluation]) -> ("CoT greedy on test: adapter is better than base: ...", ())
    next_step([evaluation], "runs/first") -> Step("the gain is clear; ...", "lmsi export ...")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

import msgspec

from lmsi_cli.formats import (
    CLEAR,
    least_change,
    moved,
    p_words,
    percent,
    points,
    tone,
    with_interval,
)
from lmsi_cli.reporting.digest import Step
from lmsi_cli.reporting.grading import MARGIN
from lmsi_cli.reporting.results import ONE, Evaluation, Figure, Pair
from lmsi_cli.stats.paired_tests import holm, paired


def compared(evaluations: Sequence[Evaluation], seed: int = 0) -> list[Evaluation]:
    """Pair every model with the base, and correct the p-values over all comparisons.

    The evaluations are those of one call, one per data set. For Holm's correction the primary pairs
    are one family, all the others another. ``seed`` is that of the bootstrap.
    """
    found = []
    for e in evaluations:
        base, *others = dict.fromkeys(v.model for v in e.variants)
        pairs = [p for model in others for p in pairs_between(e, base, model, seed)]
        controls = {v.model for v in e.variants if v.null}
        own, nulls = (tuple(p for p in pairs if (p.after in controls) == c) for c in (False, True))
        found.append(msgspec.structs.replace(e, pairs=own, nulls=nulls))
    families = [[p for e in found for p in e.pairs if p.primary == own] for own in (True, False)]
    new = {id(p): q for f in families for p, q in zip(f, holm_corrected(f), strict=True)}
    said = _family_sentence(*families) if any(families) else ""
    return [
        msgspec.structs.replace(e, corrected=said, pairs=tuple(new[id(p)] for p in e.pairs))
        for e in found
    ]


def pairs_between(e: Evaluation, before: str, after: str, seed: int = 0) -> Iterator[Pair]:
    """Pair each line of two models, at equal temperature; ``p_holm`` is still 1."""
    first = e.variants[0].temperature
    lines = dict.fromkeys(  # a greedy line has no temperature
        (f.name, v.temperature if f.mode == "sc" else None)
        for v in e.of_model(after)
        for f in v.figures
    )
    for line, temperature in lines:
        old, new = (_figures(e, model, line, temperature) for model in (before, after))
        if not old:
            continue
        then, now = _mean_scores(old), _mean_scores(new)
        whole = None
        if old[0].whole:  # the change on the questions whose earlier answer was whole
            places = [i for i, is_whole in enumerate(old[0].whole) if is_whole]
            groups = [e.groups[i] for i in places] if e.groups else None
            whole = paired([then[i] for i in places], [now[i] for i in places], seed, groups)
        yield Pair(
            line=line,
            before=before,
            after=after,
            temperature=temperature,
            primary=line == e.primary and temperature in (None, first),
            change=paired(then, now, seed, e.groups),
            p_holm=1.0,
            whole=whole,
        )


def holm_corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Correct the p-values of pairs that belong to one family."""
    adjusted = holm([p.change.p_value for p in pairs])
    return [msgspec.structs.replace(p, p_holm=x) for p, x in zip(pairs, adjusted, strict=True)]


def _figures(e: Evaluation, model: str, line: str, temperature: float | None) -> list[Figure]:
    """A model's figures of a line at a temperature, one per seed; one of a greedy line."""
    found = (v.figure(line) for v in e.of_model(model) if temperature in (None, v.temperature))
    return [f for f in found if f is not None]


def _mean_scores(figures: Sequence[Figure]) -> list[float]:
    """A line's scores per question, averaged over seeds."""
    return [sum(column) / len(figures) for column in zip(*(f.scores for f in figures), strict=True)]


def _family_sentence(primary: Sequence[Pair], others: Sequence[Pair]) -> str:
    """Which line decides, and what Holm's correction covers."""
    lines = " and ".join(dict.fromkeys(p.line for p in primary)) or "No line"
    several = [
        f"{len(pairs)} {name}"
        for pairs, name in ((primary, "comparisons of it"), (others, "others"))
        if len(pairs) > 1
    ]
    covered = f" Holm corrects the p-values among the {' and among the '.join(several)}."
    return f"{lines} decides.{covered if several else ''}"


def sentences(e: Evaluation) -> Iterator[str]:
    """The result of a data set in a sentence per model; its bare figure if nothing is compared."""
    first = [p for p in e.pairs if p.primary]
    if not first:
        for v in e.mains:
            if (f := v.figure(e.primary)) is not None:
                yield f"{e.data}: {v.model}, {e.primary}: {with_interval(f.accuracy)}% right."
    for p in first:
        yield pair_sentence(p, e)
    for model in e.rivals:
        name = f"{e.data}: {model}" if len(e.rivals) > 1 else e.data
        yield f"{name}: {_rival_sentence(e, model)}"


def outcome(p: Pair) -> str:
    """Say whether a change is better, worse, or no clear change."""
    return {"good": "better", "bad": "worse", "": "no clear change"}[tone(p.change, p.p_holm)]


def pair_sentence(p: Pair, e: Evaluation) -> str:
    """One comparison as a sentence; accuracies are means over seeds."""
    c = p.change
    word, visible = f"{outcome(p)} than", ""
    if p.p_holm >= CLEAR:
        word = "not clearly different from"
        visible = f"; this set could only have shown {least_change(c.smallest_visible)}"
    both = (_figures(e, model, p.line, p.temperature) for model in (p.before, p.after))
    ends = " to ".join(percent(sum(_mean_scores(own)) / c.n) for own in both if own)
    return (
        f"{p.line} on {e.data}: {p.after} is {word} {p.before}: {ends} of {c.n} "
        f"questions right, {points(c)}, p {p_words(p.p_holm)}{visible}."
    )


def _rival_sentence(e: Evaluation, model: str) -> str:
    """What an adapter's single answer is worth in votes of the base, and its cost beside them."""
    r = e.rivals[model]
    first, margin = r.rungs[0], f"{100 * MARGIN:.0f} points worse"
    figures = f"{points(first.change)}, p {p_words(first.p_value)}"
    if r.votes == 0 and first.p_value < CLEAR and first.change.difference < 0:
        return (
            f"The adapter's single answer is not as good as one sampled path of the base: "
            f"{figures}; it replaces no votes."
        )
    if r.votes == 0:
        return (
            f"{first.change.n} questions are too few to tell whether the adapter's single answer "
            f"is as good as one sampled path of the base or more than {margin}: {figures}."
        )
    at = next(x for x in r.rungs if x.k == r.votes)
    best = max(r.rungs, key=lambda x: x.accuracy.value)
    sentence = (
        f"The adapter's single answer is as good as {r.votes} vote{'s' * (r.votes > 1)} of the "
        f"base or at most {margin}: {points(at.change)}, {_cost_beside(e, model, r.votes)}."
    )
    if best.p_value < CLEAR and best.change.difference < 0:
        sentence += f" {best.k} votes of the base are clearly better: {points(best.change)}."
    return sentence


def _cost_beside(e: Evaluation, model: str, votes: int) -> str:
    """A single answer's tokens and time relative to the base's votes: 1/7, or 1.3 times."""
    single = next(v.single for v in e.mains if v.model == model)
    path = e.mains[0].figure(ONE)
    assert single is not None and path is not None  # else there were no rivals
    parts = []
    for own, other in ((single.tokens, path.tokens), (single.seconds, path.seconds)):
        ratio = own / (votes * other) if other else 1.0
        parts.append(f"1/{1 / ratio:.0f} of" if 0 < ratio < 2 / 3 else f"{ratio:.1f} times")
    return f"at {parts[0]} the tokens and {parts[1]} the time"


def control_lines(e: Evaluation) -> Iterator[str]:
    """Sentences on what the deciding line gained beyond its controls, and beyond mere form.

    Two things look like a gain but are not: another draw of the same model, and a model that
    learned to end its answers.
    """
    for p in (p for p in e.pairs if p.primary):
        if same := _controls_of(p, e):
            each = "; ".join(f"{n.after} {moved(n.change)}" for n in same)
            sentence = (
                f"Controls, {p.line} on {e.data}: {p.after} {moved(p.change)} questions; {each}."
            )
            if names := _gained_as_much(p, e):
                gained = f" {' and '.join(names)} gained as much"
                sentence += f"{gained}, so this shows no gain by the vote."
            yield sentence
        if p.whole is not None and p.whole.n < p.change.n:
            figures = f"{points(p.whole)}, p {p_words(p.whole.p_value)}"
            sentence = (
                f"{p.line} on {e.data}: on the {p.whole.n} questions that {p.before} answered in "
                f"full: {figures if p.whole.n else 'nothing to compare'}."
            )
            if outcome(p) == "better" and tone(p.whole, p.whole.p_value) != "good":
                sentence += f" So {p.after} clearly gained form, and not clearly more than that."
            yield sentence


def _gained_as_much(p: Pair, e: Evaluation) -> list[str]:
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
    """The deciding comparison in a sentence, and notes on controls and other measurements.

    At least one evaluation is ``measured``, the deciding one first; ``kept`` is the model of the
    round that is kept, by default the first model.
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
    """The step that the deciding lines advise; ``run`` is the folder as it is typed."""
    found: set[str] = set()
    for e in measured:
        found |= {outcome(p) for p in e.pairs if p.primary}
        if "worse" in found:
            why = f"leave the adapter; look at the questions of {e.data} that it lost"
            return Step(why, f"lmsi compare {run} {run} --data {quote(e.data)} --show flips")
    if any(_gained_as_much(p, e) for e in measured for p in e.pairs if p.primary):
        return Step("a control gained as much; see what was learned", f"lmsi show {run}")
    if "better" in found:
        return Step("the gain is clear; take the adapter along", f"lmsi export {run}")
    if found:
        return Step("measure on more questions, or train on more", f"lmsi eval {run} --data MORE")
    return Step("the adapter is not measured yet", f"lmsi eval {run} --data FILE")
