"""How often a trial picks the best wording, and what it loses when it does not.

Trials are held on paths that ``cells.py`` drew at the sampling temperature: each takes a few
questions at random, four paths of each in every candidate wording, and picks as ``lmsi`` does.
A pick's worth is its share of right paths over all questions that every wording was asked.

    python -m benchmarks.wordings.picks
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections import defaultdict
from pathlib import Path as File

from benchmarks.wordings.table import Read, cells, merge, voice
from lmsi_cli.stages.trial import EACH, FEWEST, PATHS, best_of, figures
from lmsi_cli.tasks.wording import candidates

TRIALS = 300


def pair(found: dict[str, Read], names: list[str], rng: random.Random) -> dict[str, object]:
    """The trials of one model and set; the first name is the default."""
    reads = [found[n] for n in names]
    shared = sorted(set.intersection(*(set(r.paths) for r in reads)))
    worth = [_right(r, shared) for r in reads]
    wordings = candidates("", reads[0].task, True)
    each = max(FEWEST, PATHS // EACH // len(reads))
    picks: dict[str, int] = defaultdict(int)
    for _ in range(TRIALS):
        chosen = rng.sample(shared, min(each, len(shared)))
        tried = [
            figures(wordings[0], [p for q in chosen for p in r.paths[q][:EACH]]) for r in reads
        ]
        picks[names[best_of(tried)]] += 1
    expected = sum(worth[names.index(n)] * k for n, k in picks.items()) / TRIALS
    return {
        "model": reads[0].model, "set": reads[0].set, "questions": each,
        "worth": dict(zip(names, worth, strict=True)), "picks": dict(picks),
        "best": max(worth), "default": worth[0], "trial": expected,
    }  # fmt: skip


def _right(read: Read, questions: list[str]) -> float:
    every = [p for q in questions for p in read.paths[q]]
    return statistics.fmean(voice(p) == read.gold[p.question_id] for p in every)


def main() -> None:
    """Hold the trials of every model and set for which two or more candidates were drawn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=File)
    options = parser.parse_args()
    by_pair: dict[tuple[str, str], dict[str, Read]] = defaultdict(dict)
    for read in cells("", 0.7):
        by_pair[read.model, read.set][read.wording] = read
    rng, lines = random.Random(0), []
    for found in by_pair.values():
        first = next(iter(found.values()))
        chat = not any(name.startswith("plain") for name in found)
        names = [w.name for w in candidates("", first.task, chat) if w.name in found]
        if len(names) > 1:
            lines.append(pair(found, names, rng))
            print(json.dumps(lines[-1], default=lambda x: round(x, 3)))
    for what in ("best", "default", "trial"):
        print(what, round(statistics.fmean(float(str(x[what])) for x in lines), 3))
    if options.json:
        merge(options.json, lines, ("model", "set"))


if __name__ == "__main__":
    main()
