"""Parts of a set of questions: by family, by length, by the steps that an answer takes.

Knows questions and texts of answers; no gold answer decides a part. The steps are those that the
base writes, so that before and after are the same parts.

    strata_of(questions, {"t9": " 84 / 2 = 42. ..."}) -> {"family": ["halves"], "length": ["up to
    6 words"], "steps": ["1 step"]}
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.equations import read_equations
from lmsi_cli.report.figures import accuracy
from lmsi_cli.report.results import Labelled, Stratum

FEWEST = 5  # questions of a part that is shown
MOST_STEPS = 6  # longer ones are one part


def strata(
    questions: Sequence[Labelled],
    texts: Mapping[str, str],
    scores: Mapping[str, Sequence[float]],
    clusters: Sequence[str] | None = None,
) -> tuple[Stratum, ...]:
    """Figures per part; parts of fewer than five questions are left out.

    Args:
        questions: All of the set.
        texts: What the base wrote to each, by id; may lack some.
        scores: Per model one score per question, in their order.
        clusters: Each question's cluster, if they have any.
    """
    found: list[Stratum] = []
    for by, labels in _labels(questions, texts).items():
        names = sorted({x for x in labels if x}, key=_number)
        parts = [_part(by, n, labels, scores, clusters) for n in names]
        shown = [p for p in parts if p.n >= FEWEST]
        found += shown if len(shown) > 1 else []
    return tuple(found)


def _number(name: str) -> tuple[int, str]:
    digits = [int(w) for w in name.replace("+", "").split() if w.isdigit()]
    return (digits[0] if digits else 0, name)


def _part(
    by: str,
    name: str,
    labels: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    clusters: Sequence[str] | None,
) -> Stratum:
    places = [i for i, label in enumerate(labels) if label == name]
    own = [clusters[i] for i in places] if clusters else None
    return Stratum(
        by=by,
        name=name,
        n=len(places),
        accuracy={model: accuracy([row[i] for i in places], own) for model, row in scores.items()},
    )


def _labels(questions: Sequence[Labelled], texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Each question's part in each division; empty where it has none."""
    return {
        "family": [q.family or "" for q in questions],
        "length": list(_lengths([len(q.question.split()) for q in questions])),
        "steps": [_steps(texts[q.id]) if q.id in texts else "" for q in questions],
    }


def _lengths(words: Sequence[int]) -> Iterator[str]:
    """Thirds by the number of words."""
    if len(words) < 3 * FEWEST:
        yield from ("" for _ in words)
        return
    low, high = (int(x) for x in statistics.quantiles(words, n=3, method="inclusive"))
    for n in words:
        yield (
            f"up to {low} words"
            if n <= low
            else (f"{low + 1} to {high} words" if n <= high else f"{high + 1} words or more")
        )


def _steps(text: str) -> str:
    n = len(read_equations(text))
    return f"{MOST_STEPS}+ steps" if n >= MOST_STEPS else f"{n} step" + ("s" if n != 1 else "")
