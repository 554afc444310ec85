"""Figures of the paths of ``cells.py``, read anew: a line for each model, set and wording.

    python -m benchmarks.wordings.table --temperature 0.7 qwen

An existing JSON file keeps its lines of other cells, since paths are drawn on many machines.
``right`` is the share of right paths, with Wilson's interval, which suits one path a question.
``vote`` and ``any`` are shares of questions: the most frequent answer, or any answer, is right.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any

from benchmarks.wordings.cells import CACHE, SEED, rows
from lmsi_cli.engine.base import Generated
from lmsi_cli.engine.paths import to_path
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question
from lmsi_cli.stages.trial import agreement
from lmsi_cli.stats.intervals import wilson
from lmsi_cli.tasks.loader import gold_answers, load_task


class Read:
    """The paths of a cell by question, and the right answers."""

    def __init__(self, file: File) -> None:
        self.model, self.set, self.wording, temperature = file.stem.split("--")
        self.temperature = float(temperature[1:])
        self.task = load_task(self.set)
        found = list(rows(file))
        self.paths: dict[str, list[Path]] = defaultdict(list)
        for row in found:
            self.paths[row["question_id"]].append(_path(row, self.task))
        asked = {r["question_id"]: r for r in found}.values()
        self.gold = gold_answers(
            [
                Question(id=r["question_id"], question=r["question"], answer=r["gold"])
                for r in asked
            ],
            self.task,
        )

    def figures(self) -> dict[str, Any]:
        """All figures of the cell; shares from 0 to 1."""
        every = [p for group in self.paths.values() for p in group]
        right = sum(voice(p) == self.gold[p.question_id] for p in every)
        share, n = wilson(right, len(every)), len(self.paths)
        groups = {q: [voice(p) for p in group] for q, group in self.paths.items()}
        return {
            "model": self.model, "set": self.set, "wording": self.wording,
            "temperature": self.temperature, "questions": n, "paths": len(every),
            "right": share.value, "low": share.low, "high": share.high,
            "vote": sum(_winner(g) == self.gold[q] for q, g in groups.items()) / n,
            "any": sum(self.gold[q] in g for q, g in groups.items()) / n,
            "parsed": sum(p.predicted_answer is not None for p in every) / len(every),
            "cut": sum(p.stop_reason == "length" for p in every) / len(every),
            "tokens": statistics.fmean(p.num_generated_tokens for p in every),
            "agreement": agreement(list(groups.values())),
        }  # fmt: skip


def voice(path: Path) -> str | None:
    """What a path votes for: nothing if it was cut off."""
    return None if path.stop_reason == "length" else path.predicted_answer


def _path(row: dict[str, Any], task: Task) -> Path:
    drawn = Generated(row["question_id"], row["path"], SEED, row["text"], row["tokens"],
                      row["logprob"], row["stop_reason"])  # fmt: skip
    return to_path(drawn, task, row["question"])


def _winner(answers: Sequence[str | None]) -> str | None:
    counted = Counter(a for a in answers if a is not None).most_common(1)
    return counted[0][0] if counted else None


def cells(pattern: str, temperature: float) -> list[Read]:
    """All cells of a temperature whose file name holds the pattern."""
    files = sorted(f for f in CACHE.glob(f"*--t{temperature:g}.jsonl") if pattern in f.name)
    return [Read(f) for f in files if f.stat().st_size]


def merge(file: File, found: Sequence[dict[str, Any]], key: Sequence[str]) -> None:
    """Add lines to a file, replacing those with the same values under ``key``."""
    old = json.loads(file.read_text()) if file.exists() else []
    lines = {tuple(line[k] for k in key): line for line in [*old, *found]}
    file.write_text(json.dumps([lines[k] for k in sorted(lines)], indent=1) + "\n")


def main() -> None:
    """Print the table, or write it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--json", type=File)
    options = parser.parse_args()
    found = [c.figures() for c in cells(options.pattern, options.temperature)]
    if options.json:
        merge(options.json, found, ("model", "set", "wording", "temperature"))
    for f in found:
        print(f"{f['model']:11s} {f['set']:10s} {f['wording']:14s} {f['questions']:4d} q "
              f"right {f['right']:.3f} [{f['low']:.2f}, {f['high']:.2f}] vote {f['vote']:.2f} "
              f"any {f['any']:.2f} parsed {f['parsed']:.2f} cut {f['cut']:.2f} "
              f"{f['tokens']:.0f} tokens, agreement {f['agreement']:+.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
