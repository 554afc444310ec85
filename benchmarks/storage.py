r"""How fast and in how much memory `lmsi vote` goes over many paths, in either format.

Writes synthetic paths whose questions are scattered as widely as can be (all first paths, then all
second ones, ...), votes on them in a process of its own and reads off its time and its largest
resident size. ``--group`` times only how the paths of a question are brought together, by
libraries that can do it on disk.

    python -m benchmarks.storage --paths 1000000,3000000 --formats jsonl,parquet
    python -m benchmarks.storage --paths 3000000 --group lmsi,duckdb,polars,pyarrow
    python -m benchmarks.storage --work duckdb --root FOLDER     # of benchmarks.votes --keep
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lmsi_cli.lines import write_records
from lmsi_cli.records import Path as Sampled
from lmsi_cli.records import Question
from lmsi_cli.rundir import RunDir

PER_QUESTION = 32
ROWS = 131_072


def question_id(number: int) -> str:
    """Ids whose order is not that of the questions."""
    return f"q{number * 7919 % 1_000_003:07d}-{number}"


def paths(count: int) -> Iterator[Sampled]:
    """Paths of ``count // 32`` questions; seven in ten say the same."""
    questions = count // PER_QUESTION
    for path in range(PER_QUESTION):
        for number in range(questions):
            a, b = number % 97 + 3, number % 89 + 2
            told = a + b + (path * 13 + number) % 10 // 7
            text = (
                f" She has {a} pens in the first box and {b} pens in the second box. "
                f"That makes {a} + {b} = {told}. So there are {told} pens. The answer is {told}."
            )
            yield Sampled(
                question_id=question_id(number), path=path, seed=number * 64 + path, text=text,
                num_generated_tokens=40, logprob=-8.5 - path / 7, stop_reason="answer",
                predicted_answer=str(told), extract_rule="marker", mean_logprob=-0.2,
                answer_logprob=-0.1,
            )  # fmt: skip


def make(root: Path, count: int, form: str) -> RunDir:
    """Write a run folder."""
    from lmsi_cli.store.schema import write_rows

    run = RunDir(root)
    asked = (
        Question(id=question_id(n), question=f"Box {n}: how many pens?")
        for n in range(count // PER_QUESTION)
    )
    write_records(run.questions, asked)
    if form == "jsonl":
        write_records(run.paths, paths(count))
        return run
    from itertools import islice

    drawn = paths(count)
    run.shards.mkdir()
    for number in range(-(-count // ROWS)):
        with (run.shards / f"part-{number:06d}.parquet").open("wb") as file:
            write_rows(file, islice(drawn, ROWS), Sampled)
    return run


def vote(root: str) -> int:
    """Vote as the command does; returns how many questions."""
    from lmsi_cli.config import VoteConfig
    from lmsi_cli.prompts import Task
    from lmsi_cli.stages.vote import vote_run

    task = Task(name="number", kind="number", exemplars=())
    return vote_run(RunDir(root), task, VoteConfig(formats=("cot-zero",))).questions


def by_lmsi(root: str) -> int:
    """Our own parts, and records as the vote wants them."""
    from lmsi_cli.store.gathered import Gathered
    from lmsi_cli.store.shards import Shards

    shards = Shards(RunDir(root).shards, Sampled)
    with Gathered(shards, "question_id", "path", "path") as groups:
        return sum(1 for _ in groups)


def by_duckdb(root: str) -> int:
    """A sort that spills."""
    import duckdb
    import pyarrow as pa

    from lmsi_cli.store.schema import records_of

    with tempfile.TemporaryDirectory() as temp:
        db = duckdb.connect(config={"memory_limit": "512MB", "threads": 1, "temp_directory": temp})
        found = db.execute(
            f"SELECT * FROM '{RunDir(root).shards}/*.parquet' ORDER BY question_id, path"
        )
        return _count(
            r.question_id
            for batch in found.to_arrow_reader(2048)
            for r in records_of(pa.record_batch(batch), Sampled, Path(root))
        )


def by_polars(root: str) -> int:
    """A sort on the streaming engine."""
    import polars

    from lmsi_cli.store.schema import records_of

    frame = polars.scan_parquet(f"{RunDir(root).shards}/*.parquet").sort("question_id", "path")
    return _count(
        r.question_id
        for piece in frame.collect_batches(chunk_size=2048, maintain_order=True)
        for batch in piece.to_arrow().to_batches()
        for r in records_of(batch, Sampled, Path(root))
    )


def by_pyarrow(root: str) -> int:
    """All rows in memory: what the others are spared."""
    import pyarrow.parquet as pq

    from lmsi_cli.store.schema import BATCH, records_of

    table = pq.read_table(RunDir(root).shards, use_threads=False)
    ordered = table.sort_by([("question_id", "ascending"), ("path", "ascending")])
    return _count(
        r.question_id
        for batch in ordered.to_batches(max_chunksize=BATCH)
        for r in records_of(batch, Sampled, Path(root))
    )


def _count(ids: Iterator[str]) -> int:
    last, found = "", 0
    for one in ids:
        found += one != last
        last = one
    return found


WORK: dict[str, Callable[[str], int]] = {
    "vote": vote, "lmsi": by_lmsi, "duckdb": by_duckdb, "polars": by_polars, "pyarrow": by_pyarrow
}  # fmt: skip


def measured(work: str, root: Path) -> dict[str, float]:
    """Do the work in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.storage", "--work", work, "--root", str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", default="1000000")
    parser.add_argument("--formats", default="parquet")
    parser.add_argument("--group", default="")
    parser.add_argument("--folder", default=None, help="where the synthetic paths go")
    parser.add_argument("--work")
    parser.add_argument("--root")
    given = parser.parse_args()
    if given.work:
        begun, used = time.perf_counter(), time.process_time()
        questions = WORK[given.work](given.root)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - used}
        print(json.dumps({"questions": questions, "peak_mib": peak / 1024, **told}))
        return
    for count in map(int, given.paths.split(",")):
        for form in given.formats.split(","):
            with tempfile.TemporaryDirectory(dir=given.folder) as root:
                run = make(Path(root), count, form)
                size = sum(f.stat().st_size for f in Path(root).rglob("*") if f != run.questions)
                for work in given.group.split(",") if given.group else ["vote"]:
                    told = measured(work, Path(root))
                    rate = count / told["seconds"]
                    print(
                        f"{count:>11,} {form:8} {work:7} {size / 2**20:8,.0f} MiB on disk "
                        f"{told['seconds']:7.1f} s {rate:9,.0f} paths/s "
                        f"{count / told['cpu']:9,.0f} paths/CPU s "
                        f"{told['peak_mib']:6,.0f} MiB peak {told['questions']:,.0f} questions",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
