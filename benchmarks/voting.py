"""How fast votes are held and how much memory that takes, on synthetic paths.

    python benchmarks/voting.py --paths 100000 --paths 1000000 --run runs/tinymath \
        --out benchmarks/results/voting.json

Needs no model. The paths are rationales of three to six steps with drawn numbers, 16 to a question,
of which a third go wrong at one step; they stand in the order of finishing of 96 questions that are
sampled side by side. With ``--run`` the parts are timed on the paths of a real run, too.
Measured, each part by itself and on one core:

    vote     from path records in memory to votes, by answers alone (``vote``)
    checked  the same with every equation read and checked, nothing remembered from before
    select   the filters, after a checked vote
    command  ``lmsi vote`` in a process of its own: reading, voting, writing all that it writes,
             with the default settings and with ``--preset paper``; wall time and peak memory

One row, as JSON:

    {"source": "synthetic", "part": "vote", "paths": 1000000, "seconds": 0.7, "paths_s": 1400000.0,
     "peak_mib": null}
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path as File

import msgspec

from lmsi_cli.config import VoteConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import write_records
from lmsi_cli.jsonl_index import JsonlIndex
from lmsi_cli.records import Path, Question, Record
from lmsi_cli.run_folder import RunDir
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.filters import select

PER_QUESTION, SIDE_BY_SIDE = 16, 96
Group = tuple[str, list[Path]]
CHUNK = 1000  # questions in memory at a time, while parts are timed
WORDS = ("In total that is", "Together there are", "Now there are", "Adding gives", "That makes")
COMMANDS = {"command": [], "command, paper": ["--preset", "paper"]}


class Row(Record, frozen=True, kw_only=True):
    """One part's figures; ``peak_mib`` is the resident memory of a process at its highest."""

    source: str
    part: str
    paths: int
    seconds: float
    paths_s: float
    peak_mib: float | None


def question(index: int) -> Question:
    """A question with drawn numbers."""
    rng = random.Random(index)
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    return Question(
        id=f"q-{index:07d}",
        question=f"Ann has {a} boxes of {b} pens each and gives some away. How many are left?",
    )


def paths_of(question_id: str, index: int) -> list[Path]:
    """All paths of one question."""
    rng = random.Random(~index)
    numbers = [rng.randint(2, 99) for _ in range(rng.randint(3, 6) + 1)]
    return [_path(question_id, i, numbers, rng) for i in range(PER_QUESTION)]


def _path(question_id: str, index: int, numbers: list[int], rng: random.Random) -> Path:
    value, steps = numbers[0], []
    wrong = rng.randrange(len(numbers) * 3)  # beyond the last step in two of three paths
    for i, n in enumerate(numbers[1:]):
        op = "-" if value > 1000 else "+*"[n % 2]
        true = {"+": value + n, "-": value - n, "*": value * n}[op]
        stated = true + rng.choice((1, 10, -1)) if i == wrong else true
        steps.append(f"{rng.choice(WORDS)} {value} {op} {n} = {stated}.")
        value = stated
    tokens = 12 * len(steps)
    return Path(
        question_id=question_id,
        path=index,
        seed=path_seed(0, question_id, index),
        text=f" {' '.join(steps)} The answer is {value}.",
        num_generated_tokens=tokens,
        logprob=-rng.random() * tokens,
        mean_logprob=-rng.random(),
        answer_logprob=-rng.random(),
        stop_reason="answer",
        predicted_answer=str(value),
        extract_rule="marker",
    )


def make(run: RunDir, count: int) -> None:
    """Write a run folder of so many paths; nothing of it is held in memory."""
    questions = count // PER_QUESTION
    run.create()
    write_records(run.questions, (question(i) for i in range(questions)))
    write_records(run.paths, _finishing(questions))
    settings = {"task": "number", "task_name": "number", "seed": 0, "paths": PER_QUESTION}
    run.save_settings("sample", settings)


def _finishing(questions: int) -> Iterator[Path]:
    rng = random.Random(0)
    for begin in range(0, questions, SIDE_BY_SIDE):
        block = range(begin, min(begin + SIDE_BY_SIDE, questions))
        paths = [p for i in block for p in paths_of(f"q-{i:07d}", i)]
        rng.shuffle(paths)
        yield from paths


def synthetic(count: int) -> Iterator[Group]:
    """The groups of paths that ``make`` writes, in order."""
    return ((f"q-{i:07d}", paths_of(f"q-{i:07d}", i)) for i in range(count // PER_QUESTION))


def recorded(root: File) -> Iterator[Group]:
    """The groups of paths of a run folder."""
    with JsonlIndex(RunDir(root).paths, Path, lambda p: (p.question_id, p.path), "{key}") as paths:
        yield from paths


def parts(source: str, groups_: Iterator[Group]) -> list[Row]:
    """Time the vote and its parts on records in memory, a chunk of questions after another."""
    spent = dict.fromkeys(("vote", "checked", "select"), 0.0)
    count, config = 0, VoteConfig()
    while groups := list(islice(groups_, CHUNK)):
        count += sum(len(paths) for _, paths in groups)
        start = time.perf_counter()
        for question_id, paths in groups:
            vote(question_id, paths)
        spent["vote"] += time.perf_counter() - start
        for question_id, paths in groups:  # a question at a time, as the command does
            start = time.perf_counter()
            voted = vote(question_id, paths, check_equations=True)
            middle = time.perf_counter()
            select(voted, paths, config)
            spent["checked"] += middle - start
            spent["select"] += time.perf_counter() - middle
    return [_row(source, part, count, seconds) for part, seconds in spent.items()]


def command(part: str, run: RunDir, count: int, more: list[str]) -> Row:
    """Time the whole command in a process of its own."""
    code = "from lmsi_cli.cli.main import main; main()"
    argv = [sys.executable, "-c", code, "vote", str(run.root), "--json", *more]
    start = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"lmsi vote ended with {process.returncode}")
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB here
    return _row("synthetic", part, count, time.perf_counter() - start, used.ru_maxrss / scale)


def _row(source: str, part: str, count: int, seconds: float, peak: float | None = None) -> Row:
    pace = count / seconds
    return Row(source=source, part=part, paths=count, seconds=seconds, paths_s=pace, peak_mib=peak)


def main() -> None:
    """Measure, print a line a part, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--paths", type=int, action="append", help="may be repeated")
    parser.add_argument("--run", type=File, action="append", help="may be repeated")
    parser.add_argument("--out", type=File, help="a JSON file for the rows")
    args = parser.parse_args()
    rows: list[Row] = []
    for count in args.paths or [100_000]:
        with tempfile.TemporaryDirectory() as folder:
            run = RunDir(folder)
            make(run, count)
            rows += parts("synthetic", synthetic(count))
            rows += [command(part, run, count, more) for part, more in COMMANDS.items()]
    for root in args.run or []:
        rows += parts(root.name, recorded(root))
    for row in rows:
        peak = "" if row.peak_mib is None else f"{row.peak_mib:8.0f} MiB"
        name = f"{row.source:12}{row.part:16}{row.paths:>10,}"
        print(f"{name}{row.seconds:8.1f} s{row.paths_s:12,.0f}/s{peak}")
    if args.out:
        args.out.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))


if __name__ == "__main__":
    main()
