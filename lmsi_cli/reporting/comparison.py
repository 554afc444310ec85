"""From the variants of an evaluation to what changed: pairs, seeds, parts of the questions.

Knows models and lines; the statistics are in ``stats``, the records in ``results.py``. Scores of
several seeds are averaged per question before they are paired: they are more paths of the same
model, not more questions.

    compared([Evaluation(data="test", variants=(base, adapter), ...)])
    -> [Evaluation(data="test", pairs=(Pair(line="CoT greedy", ..., p_holm=0.003), ...), ...)]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from lmsi_cli.formats import CLEAR, p_words
from lmsi_cli.records import Paired
from lmsi_cli.reporting.results import Evaluation, Figure, Pair, Replicated, Variant
from lmsi_cli.stats import holm, paired, replicates


def compared(evaluations: Sequence[Evaluation], seed: int = 0) -> list[Evaluation]:
    """Pair every model with the base, and correct the p-values over all that was looked at.

    Args:
        evaluations: Of one call, one per data set, with their variants.
        seed: Of the bootstrap.
    """
    found = []
    for e in evaluations:
        base, *others = dict.fromkeys(v.model for v in e.variants)
        pairs = [p for model in others for p in pairs_between(e, base, model, seed)]
        controls = {v.model for v in e.variants if v.null}
        changed = {
            "pairs": tuple(p for p in pairs if p.after not in controls),
            "nulls": tuple(p for p in pairs if p.after in controls),
            "replicated": tuple(_replicated(e)),
        }
        found.append(msgspec.structs.replace(e, **changed))
    return _corrected(found)


def _score(variants: Sequence[Variant], line: str) -> list[float] | None:
    """Scores per question of a line, the mean over variants that differ by their seed alone."""
    rows = [f.scores for v in variants if (f := v.figure(line)) is not None]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else None


def corrected(p_values: Mapping[str, float]) -> str:
    """Say which of several comparisons are clear; empty for fewer than two, which need no word.

    Args:
        p_values: By name, uncorrected.
    """
    if len(p_values) < 2:
        return ""
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    clear = [f"{name} (p {p_words(p)})" for name, p in adjusted.items() if p < CLEAR]
    lost = [name for name, p in adjusted.items() if p >= CLEAR > p_values[name]]
    count = {0: "none is", 1: "1 is"}.get(len(clear), f"{len(clear)} are")
    sentence = f"Of {len(p_values)} comparisons {count} clear after Holm's correction"
    sentence += f": {', '.join(clear)}." if clear else "."
    if lost:
        sentence += (
            f" Alone {' and '.join(lost)} would look clear; among so many chance makes such."
        )
    return sentence


def pairs_between(e: Evaluation, before: str, after: str, seed: int = 0) -> Iterator[Pair]:
    """Each line of a model against another one, at equal temperature; ``p_holm`` is still 1."""
    first = e.variants[0].temperature
    for line, temperature in _lines(e, after):
        then, now = (_score(_at(e, model, temperature), line) for model in (before, after))
        if then is not None and now is not None:
            yield Pair(
                line=line,
                before=before,
                after=after,
                temperature=temperature,
                primary=line == e.primary and temperature in (None, first),
                change=paired(then, now, seed, e.groups),
                p_holm=1.0,
                whole=_change_of_whole(
                    e, _at(e, before, temperature)[0].figure(line), then, now, seed
                ),
            )


def _change_of_whole(
    e: Evaluation, figure: Figure | None, then: Sequence[float], now: Sequence[float], seed: int
) -> Paired | None:
    """The change on the questions whose answer before was whole."""
    if figure is None or not figure.whole:
        return None
    places = [i for i, whole in enumerate(figure.whole) if whole]
    groups = [e.groups[i] for i in places] if e.groups else None
    return paired([then[i] for i in places], [now[i] for i in places], seed, groups)


def holm_corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Correct the p-values of pairs that belong to one family."""
    adjusted = holm([p.change.p_value for p in pairs])
    return [msgspec.structs.replace(p, p_holm=x) for p, x in zip(pairs, adjusted, strict=True)]


def _lines(e: Evaluation, model: str) -> list[tuple[str, float | None]]:
    """Lines of a model with their temperature, None for a greedy one, each once."""
    return list(
        dict.fromkeys(
            (f.name, v.temperature if f.mode == "sc" else None)
            for v in e.of_model(model)
            for f in v.figures
        )
    )


def _at(e: Evaluation, model: str, temperature: float | None) -> list[Variant]:
    """The seeds of a model at a temperature; for a greedy line the main variant."""
    if temperature is None:
        return [v for v in e.of_model(model) if v.main]
    return [v for v in e.of_model(model) if v.temperature == temperature]


def _replicated(e: Evaluation) -> Iterator[Replicated]:
    """Sampled lines that were drawn at several temperatures or with several seeds."""
    base = e.variants[0].model
    for model in dict.fromkeys(v.model for v in e.variants if not v.null):
        several = len(list(e.of_model(model))) > 1
        for line, temperature in _lines(e, model) if several else ():
            if temperature is None:
                continue
            values, before = (_by_seed(e, m, line, temperature) for m in (model, base))
            changes = [v - before[s] for s, v in values.items() if s in before]
            yield Replicated(
                line=line,
                model=model,
                temperature=temperature,
                seeds=tuple(values),
                values=replicates(list(values.values())),
                changes=replicates(changes) if changes and model != base else None,
            )


def _by_seed(e: Evaluation, model: str, line: str, temperature: float) -> dict[int, float]:
    drawn = ((v.seed, v.figure(line)) for v in _at(e, model, temperature))
    return {seed: f.accuracy.value for seed, f in drawn if f is not None}


def _corrected(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Correct by Holm: primary pairs among themselves, all the others among themselves.

    Says in words which line decides, and what the correction covers.
    """
    adjusted: dict[int, Pair] = {}
    for primary in (True, False):
        family = [p for e in evaluations for p in e.pairs if p.primary == primary]
        adjusted |= {id(p): new for p, new in zip(family, holm_corrected(family), strict=True)}
    pairs = [(e, p) for e in evaluations for p in e.pairs]
    first = {f"{p.after} on {e.data}": p for e, p in pairs if p.primary}
    lines = " and ".join(dict.fromkeys(p.line for p in first.values())) or "No line"
    words = [f"{lines} decides.", corrected({n: p.change.p_value for n, p in first.items()})]
    if (others := len(pairs) - len(first)) > 1:
        words.append(f"The p-values of the {others} others are corrected among themselves.")
    return [
        msgspec.structs.replace(
            e,
            corrected=" ".join(filter(None, words)) if e.pairs else "",
            pairs=tuple(adjusted[id(p)] for p in e.pairs),
        )
        for e in evaluations
    ]
