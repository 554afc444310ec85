"""One section of docs/paper.md per experiment: its tables, made from the results alone.

Knows which rows and columns answer each question; the text around the tables, with the conclusions,
is written by hand in docs/paper.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.paper.grouping import Row, rows
from benchmarks.paper.markdown import greedy, interval, p_value, pair, percent, table
from benchmarks.paper.records import DIRECT, GREEDY, ONE, Result
from lmsi_cli.stats.intervals import wilson

Results = Sequence[Result]
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001)
BINS = list(itertools.pairwise(SHARES))
COMBINED = {"confidence": ("main", "hopeless"), "real-outside": ("real-there", "real-back")}


def main_table(results: Results) -> str:
    """The paper's Table 3: direct, CoT and self-consistency, before and after."""
    head = ["questions", "n", "seeds", "verdict", "direct", "CoT greedy", "one path", "vote", "any"]
    body = [
        [
            _exam(row),
            str(row.n),
            str(row.seeds),
            _verdicts(row),
            pair(row, DIRECT),
            greedy(row),
            pair(row, ONE),
            pair(row, row.most("majority")),
            pair(row, row.most("any")),
        ]
        for row in rows(results)
    ]
    return table(head, body) + "\n\n" + _votes(results)


def _exam(row: Row) -> str:
    own = row.exam.removesuffix(" test")
    return row.name if own == row.name else f"{row.name}, asked {own}"


def _votes(results: Results) -> str:
    """What was voted on: how right winners and paths were."""
    head = ["questions", "kept questions", "kept paths", "right: one path", "plain vote",
            "the run's vote", "kept winners", "kept paths", "verdict with a probe"]  # fmt: skip
    first = {row.name: row for row in reversed(rows(results))}
    body = [
        [
            row.name,
            _number(row.mean("kept_questions")),
            _number(row.mean("kept_paths")),
            percent(row.mean("paths_right")),
            percent(row.mean("plain")),
            percent(row.mean("checked")),
            percent(row.mean("labels")),
            percent(row.mean("kept_right")),
            ", ".join(dict.fromkeys(r.probed for r in row.results if r.probed)),
        ]
        for row in reversed(list(first.values()))
    ]
    return table(head, body)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _verdicts(row: Row) -> str:
    return ", ".join(dict.fromkeys(r.verdict for r in row.results if r.verdict))


def variants(results: Results) -> str:
    """A row per variant: what was kept, and greedy accuracy; against the first row, in pairs."""
    found = rows(results)
    head = ["", "seeds", "kept paths", "examples", "kept paths right", "direct", "CoT greedy",
            "against the first row"]  # fmt: skip
    return table(head, [_variant(row, found[0]) for row in found])


def _variant(row: Row, first: Row) -> list[str]:
    against = row.against(first) if row is not first else None
    return [
        row.name,
        str(row.seeds),
        _number(row.mean("kept_paths")),
        _number(row.mean("examples")),
        percent(row.mean("kept_right")),
        pair(row, DIRECT),
        greedy(row),
        f"{interval(against)}, p {p_value(against)}" if against else "",
    ]


def campaign(results: Results) -> str:
    """Recipes on one sample: what was kept, greedy accuracy, questions gained and lost, tokens."""
    head = ["", "seeds", "kept questions", "examples", "kept winners right", "CoT greedy", "p",
            "gained, lost", "tokens"]  # fmt: skip
    return table(head, [_recipe(row) for row in rows(results)])


def _recipe(row: Row) -> list[str]:
    change = row.change()
    pairs = [x + y for r in row.results if r.greedy for x, y in zip(*r.greedy, strict=True)]
    tokens = [x.tokens for r in row.results if (x := r.lines.get(GREEDY)) and x.tokens]
    counts = [_number(row.mean(field)) for field in ("kept_questions", "examples")]
    figures = [percent(row.mean("labels")), greedy(row), p_value(change) if change else ""]
    flips = f"{pairs.count('01')}, {pairs.count('10')}"
    cost = "; ".join(f"{before:.0f} → {after:.0f}" for before, after in tokens)
    return [row.name, str(row.seeds), *counts, *figures, flips, cost]


def outside(results: Results) -> str:
    """The paper's Table 4: one adapter, questions of other kinds."""
    head = ["asked", "n", "seeds", "direct", "CoT greedy", "p"]
    body = []
    for row in rows(results):
        change = row.change()
        p = p_value(change) if change else ""
        body.append([row.exam, str(row.n), str(row.seeds), pair(row, DIRECT), greedy(row), p])
    return table(head, body)


def confidence(results: Results) -> str:
    """The paper's Figure 2: share of the winner against how often it is right."""
    names = list(dict.fromkeys(r.name for r in results))
    head = ["share of the winner", *names]
    body = [
        [f"{low:.1f} to {min(high, 1):.1f}", *(_bin(results, name, low, high) for name in names)]
        for low, high in BINS
    ]
    last = ["rank correlation", *(_rank(ballots_of(results, name)) for name in names)]
    return table(head, [*body, last])


def ballots_of(results: Results, name: str) -> list[tuple[float, bool]]:
    """Every question of every seed that was sampled, once."""
    seen = {(r.name, r.seed): r.ballots for r in results if r.name == name}
    return [b for ballots in seen.values() for b in ballots]


def _bin(results: Results, name: str, low: float, high: float) -> str:
    own = [right for share, right in ballots_of(results, name) if low <= share < high]
    if not own:
        return ""
    found = wilson(sum(own), len(own))
    return f"{percent(found.value)} [{100 * found.low:.0f}, {100 * found.high:.0f}] of {len(own)}"


def _rank(ballots: Sequence[tuple[float, bool]]) -> str:
    from scipy.stats import spearmanr

    shares, right = np.array([b[0] for b in ballots]), np.array([float(b[1]) for b in ballots])
    if len(set(right)) < 2 or len(set(shares)) < 2:
        return "none: all alike"
    return f"{spearmanr(shares, right).statistic:+.2f}"


def sampled_lines(results: Results, what: str) -> str:
    """Vote and best of the paths, before and after; by temperature, the paper's Figure 4."""
    head = [what, "paths", "vote before", "vote after", "any before", "any after"]
    body = [line for row in rows(results) for line in _points(row)]
    return table(head, body)


def by_paths(results: Results) -> str:
    """The paper's Figure 3: the base's vote over k paths, by the exemplars it is shown."""
    found = rows(results)
    ks = [k for k in (1, 2, 4, 8, 16) if all(any(p.k == k for p in r.curve("base")) for r in found)]
    head = ["exemplars", *(f"vote of {k}" for k in ks), f"any of {ks[-1]}"]
    body = [
        [row.name, *(percent(at[k].majority) for k in ks), percent(at[ks[-1]].any)]
        for row in found
        for at in [{p.k: p for p in row.curve("base")}]
    ]
    return table(head, body)


def by_round(results: Results) -> str:
    """Every round against the base: greedy, one path, the vote, the best of the paths."""
    found = rows(results)
    head = ["", "seeds", "CoT greedy", "against round 1", "one path", "vote", "any", "share"]
    body = []
    for row in found:
        against = row.against(found[0]) if row is not found[0] else None
        told = f"{interval(against)}, p {p_value(against)}" if against else ""
        shares = [f"{r.shares['base']:.2f} → {r.shares['adapter']:.2f}" for r in row.results]
        sampled = [pair(row, row.most(start)) for start in ("one", "majority", "any")]
        body.append([row.name, str(row.seeds), greedy(row), told, *sampled, ", ".join(shares)])
    return table(head, body)


def distilled(results: Results) -> str:
    """The paper's Table 7, made fair: every model before and after, and what it learned from."""
    head = ["", "seeds", "direct", "CoT greedy", "one path", "vote", "any", "tokens of one path"]
    body = []
    for row in rows(results):
        sampled = [pair(row, row.most(start)) for start in ("one", "majority", "any")]
        own = [x.tokens for r in row.results if (x := r.lines.get(ONE)) and x.tokens]
        cost = f"{own[0][0]:.0f} → {own[0][1]:.0f}" if own else ""
        body.append([row.name, str(row.seeds), pair(row, DIRECT), greedy(row), *sampled, cost])
    return table(head, body)


def _points(row: Row) -> Iterator[list[str]]:
    base, after = row.curve("base"), row.curve("adapter")
    for i, point in enumerate(base):
        trained = after[i] if i < len(after) else None
        yield [
            row.name,
            str(point.k),
            percent(point.majority),
            percent(trained.majority if trained else None),
            percent(point.any),
            percent(trained.any if trained else None),
        ]


def combined(name: str, results: dict[str, list[Result]]) -> list[Result]:
    """The results that a table is made from; some read those of two experiments."""
    own = COMBINED.get(name, (name,))
    return [r for n in own for r in results.get(n, [])]


SECTIONS: dict[str, Callable[[Results], str]] = {
    "main": main_table,
    "hopeless": main_table,
    "formats": variants,
    "outside": outside,
    "confidence": confidence,
    "filters": variants,
    "ranks": variants,
    "paths": variants,
    "questions": variants,
    "stopping": variants,
    "temperature": lambda r: sampled_lines(r, "temperature"),
    "generated": variants,
    "beyond": variants,
    "exemplars": by_paths,
    "rounds": by_round,
    "rounds-continued": by_round,
    "distillation": distilled,
    "real-svamp": campaign,
    "real-svamp-large": campaign,
    "real-gsm8k": campaign,
    "real-gsm8k-large": campaign,
    "real-outside": campaign,
    "sample-size": lambda r: sampled_lines(r, "run"),
}
