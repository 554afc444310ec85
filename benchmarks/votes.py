r"""How fast and in how much memory many synthetic paths are voted on, up to a hundred million.

Makes a run folder of Parquet shards in whole columns (a microsecond of CPU a path or so): questions
scattered as widely as can be (all first paths, then all second ones, ...), six forms of text with
the question's own numbers, slips, cut-off paths, and equations that need the parser. Then votes on
it with the command's own code, notes rate and memory as it goes, and deletes the folder unless it
is kept; what an interrupted call made of it is used. Memory is the resident set, read from
``/proc`` twice a second.

    python -m benchmarks.votes --paths 1000000,10000000 --each 32
    python -m benchmarks.votes --paths 100000000 --folder /large/disk --every 1000000

One line of the notes:

    3,000,000 of 10,000,000 paths                  95.1 s      94.8 CPU s     412 MiB
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmsi_cli.records import Path as Sampled
from lmsi_cli.records import Question
from lmsi_cli.rundir import RunDir

ROWS = 131_072
PRIME = 1_000_003  # spreads the ids, so that their order is not that of the questions
OTHERS = 7  # wrong answers a question has
Column = Any  # of numpy or pyarrow
HZ, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def question_ids(numbers: Column) -> Column:
    """The ids of questions by their numbers, as a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hashed = pa.array((numbers * 7919) % PRIME).cast(pa.string())
    own = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise("q", pc.utf8_lpad(hashed, 7, "0"), "-", own, "")


class Said(NamedTuple):
    """What rows say: the question's three numbers, its true steps and what the path states."""

    a: Column
    b: Column
    c: Column
    first: Column
    told: Column


def said(question: Column, path: Column) -> Said:
    """Numbers of each row; a third of the questions are hard, where most paths slip."""
    a, b, c = question % 97 + 3, question % 89 + 2, question % 61 + 5
    chance = (question * 31 + path * 1_009) * 2_654_435_761 % 1_000
    slips = chance < np.where(question % 3 == 0, 600, 150)
    wrong = (question + path * 13) % OTHERS + 1
    return Said(a, b, c, a * b, a * b + c + np.where(slips, wrong, 0))


def texts(s: Said, form: int) -> Column:
    """The words of one form, a row each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n = {name: pa.array(x).cast(pa.string()) for name, x in s._asdict().items()}
    a, b, c, first, told = n["a"], n["b"], n["c"], n["first"], n["told"]
    forms: list[list[Column]] = [
        [" She has ", a, " boxes with ", b, " pens each, which is ", a, " * ", b, " = ", first,
         " pens. With the ", c, " pens on the desk that makes ", first, " + ", c, " = ", told,
         ". The answer is ", told, "."],
        [" It is ", a, " * ", b, " + ", c, " = ", told, ". The answer is ", told, "."],
        [" The boxes cost ", a, " x $", b, " = $", first, " in all.\nAdd $", c, ": $", first,
         " + $", c, " = $", told, ".\nThe answer is ", told, "."],
        [" First we count the boxes, then the desk. Altogether there are ", told,
         " pens. The answer is ", told, "."],
        [" ", b, " pens in each of ", a, " boxes: ", b, " * ", a, " = ", first, ". Then ", first,
         " + ", c, " = ", told, " pens, desk included. The answer is ", told, "."],
        [" We know that ", a, " boxes of ", b, " are ", first, ". So ", told, " - ", c, " = ",
         first, ". Therefore she has ", told, " pens. The answer is ", told, "."],
    ]  # fmt: skip
    return pc.binary_join_element_wise(*forms[form], "")


def rows(start: int, count: int, questions: int) -> Column:
    """A table of paths; row ``i`` is path ``i // questions`` of question ``i % questions``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from lmsi_cli.store.schema import schema_of

    place = np.arange(start, start + count, dtype=np.int64)
    question, path = place % questions, place // questions
    form = (question * 17 + path * 5 + path // 7) % 6
    order = np.argsort(form, kind="stable")
    pieces = []
    for i in range(6):
        mine = order[form[order] == i]
        pieces.append(texts(said(question[mine], path[mine]), i))
    text = pa.concat_arrays(pieces).take(pa.array(np.argsort(order)))
    s = said(question, path)
    cut = (question * 7 + path * 3) % 101 == 0  # one in a hundred is cut off
    answer = pc.if_else(pa.array(cut), pa.scalar(None, pa.string()), _words(s.told))
    tokens = 30 + (question + path) % 23
    mean = -0.05 - (question * 13 + path * 29) % 997 / 4_000
    columns = {
        "question_id": question_ids(question),
        "path": path,
        "seed": question * 4_096 + path,
        "text": text,
        "num_generated_tokens": tokens,
        "logprob": mean * tokens,
        "stop_reason": pc.if_else(pa.array(cut), "length", "answer"),
        "predicted_answer": answer,
        "extract_rule": pc.if_else(pa.array(cut), pa.scalar(None, pa.string()), "marker"),
        "mean_logprob": mean,
        "answer_logprob": pc.if_else(pa.array(cut), pa.scalar(None, pa.float64()), mean * 3),
    }
    return pa.table(columns, schema=schema_of(Sampled))


def _words(numbers: Column) -> Column:
    import pyarrow as pa

    return pa.array(numbers).cast(pa.string())


def make(root: Path, count: int, each: int) -> RunDir:
    """Write a run folder of ``count`` paths, ``each`` a question."""
    import pyarrow.parquet as pq

    from lmsi_cli.lines import replacing, write_records
    from lmsi_cli.store.schema import GROUP

    run, questions = RunDir(root), count // each
    run.shards.mkdir(parents=True, exist_ok=True)
    if not run.questions.exists():
        write_records(run.questions, asked(questions))
    for number, start in enumerate(range(0, questions * each, ROWS)):
        file = run.shards / f"part-{number:06d}.parquet"
        if file.exists():  # of a call that was interrupted
            continue
        table = rows(start, min(ROWS, questions * each - start), questions)
        with replacing(file) as whole:
            pq.write_table(
                table, whole, compression="zstd", row_group_size=GROUP, write_page_checksum=True
            )
    return run


def asked(questions: int) -> Iterator[Question]:
    """The questions."""
    for start in range(0, questions, ROWS):
        numbers = np.arange(start, min(start + ROWS, questions), dtype=np.int64)
        for number, own in zip(numbers.tolist(), question_ids(numbers).to_pylist(), strict=True):
            a, b, c = number % 97 + 3, number % 89 + 2, number % 61 + 5
            yield Question(
                id=own, question=f"Boxes: {a}. Pens in each: {b}. On the desk: {c}. How many pens?"
            )


class Meter:
    """The largest memory of this process and its children, in MiB."""

    def __init__(self) -> None:
        self.now = self.peak = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self.now = sum(map(resident, family(os.getpid()))) / 2**20
            self.peak = max(self.peak, self.now)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in below for p in family(int(child)))]


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def cpu() -> float:
    """CPU seconds of this process and its children, living ones included."""
    ticks = 0
    for pid in family(os.getpid())[1:]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return ticks / HZ + sum(u.ru_utime + u.ru_stime for u in used)


class Notes:
    """Progress of a vote, as lines."""

    def __init__(self, paths: int, each: int, every: int, meter: Meter) -> None:
        self.paths, self.each, self.every, self.meter = paths, each, every, meter
        self._next, self._begun, self._used = every, time.perf_counter(), cpu()
        self._label = ""

    def start(self, label: str, total: int) -> None:
        """A phase begins."""
        self._told(f"{label or 'done'} begins")
        self._label = label

    def advance(self, done: int, **_: float | str) -> None:
        """Some questions are done."""
        if self._label == "voting" and done * self.each >= self._next:
            self._next += self.every
            self._told(f"{done * self.each:,} of {self.paths:,} paths")

    def say(self, text: str) -> None:
        """Nothing."""

    def _told(self, what: str) -> None:
        wall, used = time.perf_counter() - self._begun, cpu() - self._used
        print(f"{what:42} {wall:9.1f} s {used:9.1f} CPU s {self.meter.now:7,.0f} MiB", flush=True)


def measure(root: Path, count: int, each: int, every: int) -> str:
    """Vote, and tell how it went."""
    from lmsi_cli.config import VoteConfig
    from lmsi_cli.prompts import Task
    from lmsi_cli.stages.vote import vote_run
    from lmsi_cli.verdict.observer import Observer

    task, meter = Task(name="number", kind="number", exemplars=()), Meter()
    notes = Notes(count, each, every, meter)
    wall, used = time.perf_counter(), cpu()
    config = VoteConfig(formats=("cot-zero",))
    watch = Observer({}, None)
    summary = vote_run(RunDir(root), task, config, watch=watch, progress=notes)
    watch.finish()
    wall, used = time.perf_counter() - wall, cpu() - used
    meter.stop()
    return (
        f"| {summary.paths:,} | {summary.questions:,} | {wall:,.0f} | {used:,.0f} | "
        f"{summary.paths / wall:,.0f} | {summary.paths / used:,.0f} | {meter.peak:,.0f} | "
        f"{summary.kept_paths:,} |"
    )


def main() -> None:
    """Parse, make, vote."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", default="1000000", help="comma-separated")
    parser.add_argument("--each", type=int, default=32, help="paths of a question")
    parser.add_argument("--every", type=int, default=1_000_000, help="paths between two notes")
    parser.add_argument("--folder", type=Path, default=Path("votes-benchmark"))
    parser.add_argument("--keep", action="store_true", help="leave the folder; it is used again")
    given = parser.parse_args()
    print("| paths | questions | s | CPU s | paths/s | paths/CPU s | MiB | kept |")
    for count in map(int, given.paths.split(",")):
        root, begun = given.folder / f"paths-{count}-{given.each}", time.process_time()
        run = make(root, count, given.each)
        took, size = time.process_time() - begun, run.sampled.size()
        print(f"{root}: made in {took:,.0f} CPU s, {size / count:.1f} bytes a path", flush=True)
        print(measure(root, count, given.each, given.every), flush=True)
        if not given.keep:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
