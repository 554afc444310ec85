"""What early stopping saves, and what it changes, replayed on the paths of a full run.

    python benchmarks/stopping.py runs/full --stop beta:0.95 --stop window:5 --wave 1 --wave 4

Needs no model: a token is a unit of time. Wave 1 is one path after another, and spends what the
sampler does while other questions wait: it begins a path only if the question needs it whatever the
paths before it say. With a wider wave path k begins when the oldest unfinished path is less than a
wave behind it: what running paths had written when the question was decided is spent, and paths
that had ended by then are in the file and vote, as they do in `lmsi vote`. One row, as JSON:

    {"stop": "beta:0.95", "wave": 4, "paths": 4786, "tokens": 313417, "saved": 0.22, ...}

With --measured RUN, the folder of a real run with --stop on the same questions, its winners are
compared with those of the full run too. With --gold FILE (JSONL with id and answer), the share of
all questions whose winner is right. With --plain paths that state a false equation vote.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from lmsi_cli.lines import read_records
from lmsi_cli.records import Path, Record
from lmsi_cli.rundir import RunDir
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting import ballot, vote

STOPS = ("beta:0.9", "beta:0.95", "beta:0.99", "window:3", "window:5", "window:8")
WAVES = (1, 4, 8)
Groups = Mapping[str, Sequence[Path]]
Gold = Mapping[str, str]


class Left(NamedTuple):
    """What stopping leaves of a question: its finished paths; the cancelled, and their tokens."""

    ended: Sequence[Path]
    late: int = 0
    cancelled: int = 0
    lost: int = 0


class Row(Record, frozen=True, kw_only=True):
    """One criterion against full sampling.

    ``late`` paths had ended before one with a lower number decided: they are in the file, though
    not needed. ``lost`` tokens are those of ``cancelled`` paths, and part of ``tokens``; ``saved``
    is a share of the full run's. Of the ``changed`` winners, ``at_tie`` are ties on one side.
    ``right`` is a share of all questions, a tie being wrong; ``None`` without gold answers.
    """

    stop: str
    wave: int
    questions: int
    stopped: int
    paths: int
    late: int
    cancelled: int
    tokens: int
    lost: int
    saved: float
    changed: int
    changed_share: float
    at_tie: int
    right: float | None


def replay(paths: Sequence[Path], stop: Stop, wave: int) -> Left:
    """Run one question's recorded paths against a criterion.

    Args:
        paths: All of them, by number, from 0 without gaps.
        stop: The criterion.
        wave: Paths that may run at once, at least 1.
    """
    decision, now = Decision(stop), 0
    begun: dict[int, int] = {}
    ended: set[int] = set()
    while len(ended) < len(paths) and decision.after is None:
        oldest = min(set(range(len(paths))) - ended)
        begun |= {i: now for i in range(oldest, min(oldest + wave, len(paths))) if i not in begun}
        ends = {i: begun[i] + paths[i].num_generated_tokens for i in begun.keys() - ended}
        now = min(ends.values())
        for i in sorted(i for i, end in ends.items() if end == now):
            ended.add(i)
            decision.tell(i, ballot(paths[i], check_equations=False))
    running = begun.keys() - ended
    late = sum(i >= (decision.after or len(paths)) for i in ended)
    lost = sum(now - begun[i] for i in running)
    return Left([paths[i] for i in sorted(ended)], late, len(running), lost)


def compare(named: tuple[str, int], full: Groups, left: Mapping[str, Left], gold: Gold) -> Row:
    """Set what a criterion, named with its wave, leaves against the full run."""
    before = {q: winner(paths) for q, paths in full.items()}
    after = {q: winner(left[q].ended) for q in full}
    changed = [q for q in full if before[q] != after[q]]
    lost = sum(x.lost for x in left.values())
    tokens = lost + sum(map(length, (x.ended for x in left.values())))
    return Row(
        stop=named[0],
        wave=named[1],
        questions=len(full),
        stopped=sum(len(left[q].ended) < len(full[q]) for q in full),
        paths=sum(len(x.ended) for x in left.values()),
        late=sum(x.late for x in left.values()),
        cancelled=sum(x.cancelled for x in left.values()),
        tokens=tokens,
        lost=lost,
        saved=1 - tokens / sum(map(length, full.values())),
        changed=len(changed),
        changed_share=len(changed) / len(full),
        at_tie=sum(before[q] is None or after[q] is None for q in changed),
        right=sum(after[q] == gold[q] for q in full) / len(full) if gold else None,
    )


def length(paths: Sequence[Path]) -> int:
    """Tokens of some paths."""
    return sum(p.num_generated_tokens for p in paths)


def winner(paths: Sequence[Path]) -> str | None:
    """The answer that the vote takes; ``None`` on a tie or without ballots."""
    return vote("", paths).predicted_answer


def groups(run: File, plain: bool) -> dict[str, list[Path]]:
    """A run's paths by question and number; what does not vote has lost its answer."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in read_records(RunDir(run).paths, Path):
        cast = ballot(path, check_equations=not plain)
        found[path.question_id].append(msgspec.structs.replace(path, predicted_answer=cast))
    return {q: sorted(paths, key=lambda p: p.path) for q, paths in found.items()}


def measured(run: File, full: Groups, gold: Gold, plain: bool) -> Row:
    """The row of a real run; of cancelled paths its folder knows nothing."""
    stop = RunDir(run).load_settings()["sample"]["stop"]
    left = {q: Left(paths) for q, paths in groups(run, plain).items()}
    return compare((f"{stop}, measured", 0), {q: full[q] for q in left}, left, gold)


def rows(asked: argparse.Namespace) -> list[Row]:
    """All comparisons, full sampling first."""
    full, gold = groups(asked.run, asked.plain), answers(asked.gold)
    found = [compare(("none", 0), full, {q: Left(paths) for q, paths in full.items()}, gold)]
    for name in asked.stop or STOPS:
        stop = Stop.parse(name)
        for wave in (asked.wave or WAVES) if stop else ():
            left = {q: replay(paths, stop, wave) for q, paths in full.items()}
            found.append(compare((name, wave), full, left, gold))
    return found + [measured(run, full, gold, asked.plain) for run in asked.measured]


def answers(file: File | None) -> dict[str, str]:
    """Gold answers by question."""
    if file is None:
        return {}
    lines: list[dict[str, Any]] = [msgspec.json.decode(x) for x in file.read_bytes().splitlines()]
    return {r["id"]: str(r["answer"]) for r in lines}


def table(found: Sequence[Row]) -> Table:
    """One line a row."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in Row.__struct_fields__:
        shown.add_column(name.removeprefix("changed_"), justify="right", no_wrap=True)
    for r in found:
        values = msgspec.structs.astuple(r)
        shown.add_row(*(f"{v:.1%}" if isinstance(v, float) else str(v) for v in values))
    return shown


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=File, help="the folder of a full run")
    parser.add_argument("--stop", action="append", help="a criterion; may be repeated")
    parser.add_argument("--wave", action="append", type=int, help="at least 1; may be repeated")
    parser.add_argument("--measured", action="append", type=File, default=[], help="a real run")
    parser.add_argument("--gold", type=File, help="JSONL with id and answer")
    parser.add_argument("--plain", action="store_true", help="false equations do not matter")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    return parser.parse_args()


def main() -> None:
    """Print the comparison."""
    asked = arguments()
    found = rows(asked)
    if asked.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        Console(width=160).print(table(found))


if __name__ == "__main__":
    main()
