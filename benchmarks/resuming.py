"""How long it takes to find out which paths are there, and what that holds in memory.

Writes a folder of paths with the texts and fields of a few real lines, in the order in which 1,000
workers would have finished them, and reads the keys as `lmsi sample` does. Each reading is a
process of its own, so that its memory is told alone:

    python -m benchmarks.resuming 32000000 3200000      # paths in shards (TMPDIR), and as lines

    {"parquet": {"paths": 32000000, "seconds": 18.0, "rss_mib": 310, "bytes_path": 41.0}, ...}
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import msgspec

from lmsi_cli.drawn import Drawn
from lmsi_cli.lines import encode_line, read_records
from lmsi_cli.records import Path
from lmsi_cli.store.keys import drawn_in
from lmsi_cli.store.schema import GROUP, arrow, schema_of
from lmsi_cli.store.shards import ROWS, Shards

WINDOW = 20_000  # questions that are open at once, among which finished paths are scattered
PATHS = 32
TEXT = (
    " She had {0} eggs and bought {1} boxes of 12 each. We compute 12 * {1} = {2}. Then {2} + {0} ="
    " {3}. The answer is {3}."
)


def keys(count: int) -> Iterator[tuple[int, int]]:
    """(question, path) in an order of finishing: a window of questions, path by path."""
    for first in range(0, count // PATHS, WINDOW):
        last = min(first + WINDOW, count // PATHS)
        for path in range(PATHS):
            for question in range(first, last):
                yield question, path


def record(question: int, path: int) -> Path:
    """A path of the length that real ones have."""
    a, b = question % 97, (question + path) % 31
    answer = str(a + 12 * b)
    return Path(
        question_id=f"q-{question:012x}",
        path=path,
        seed=(question * 1_000_003 + path * 7_919) * 7_777_777 % 2**53,
        text=TEXT.format(a, b, 12 * b, answer),
        num_generated_tokens=45 + path,
        logprob=-7.298173162062364 - path / 7,
        stop_reason="answer",
        predicted_answer=answer,
        extract_rule="marker",
        mean_logprob=-0.2919269264824946 - path / 9,
        answer_logprob=-0.00002169600305990116 * (path + 1),
    )


def write_lines(file: File, count: int) -> None:
    """A run as JSON lines."""
    with file.open("wb") as out:
        out.writelines(encode_line(record(*key)) for key in keys(count))


def write_shards(folder: File, count: int) -> None:
    """A run as shards; all columns but the keys repeat from shard to shard, to be quick."""
    pa, schema = arrow(), schema_of(Path)
    folder.mkdir(parents=True)
    some = [record(i // PATHS, i % PATHS) for i in range(ROWS)]
    columns = {
        n: pa.array([getattr(r, n) for r in some], schema.field(n).type) for n in schema.names
    }
    found = keys(count)
    for number in range(-(-count // ROWS)):
        part = [key for _, key in zip(range(ROWS), found, strict=False)]
        columns["question_id"] = pa.array([f"q-{q:012x}" for q, _ in part])
        columns["path"] = pa.array([p for _, p in part])
        table = pa.table({n: c.slice(0, len(part)) for n, c in columns.items()}, schema=schema)
        name = folder / f"part-{number:06d}.parquet"
        pa.parquet.write_table(
            table, name, compression="zstd", row_group_size=GROUP, write_page_checksum=True
        )


def read(kind: str, place: File) -> dict[str, Any]:
    """Read the keys in this process."""
    begun, spent = time.perf_counter(), time.process_time()
    drawn = drawn_in(Shards(place, Path)) if kind == "parquet" else _of_lines(place, kind)
    files = [place] if place.is_file() else sorted(place.iterdir())
    import resource

    count = drawn.paths if isinstance(drawn, Drawn) else len(drawn)
    return {
        "paths": count,
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_s": round(time.process_time() - spent, 2),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "bytes_path": round(sum(f.stat().st_size for f in files) / count, 1),
    }


def _of_lines(place: File, kind: str) -> Drawn | dict[tuple[str, int], bool]:
    """Keys as they are held, or with ``kind`` tuples as they were before."""
    if kind == "tuples":
        there = read_records(place, Path)
        return {(p.question_id, p.path): p.predicted_answer is not None for p in there}
    drawn = Drawn()
    for p in read_records(place, Path):
        drawn.add(p.question_id, p.path, p.predicted_answer is not None)
    return drawn


def apart(kind: str, place: File) -> dict[str, Any]:
    """Read in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.resuming", kind, str(place)]
    done = subprocess.run(command, check=True, capture_output=True)
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def measure(shards: int, lines: int) -> dict[str, Any]:
    """Write and read; counts of paths, 0 for none."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temp:
        root = File(temp)
        if lines:
            write_lines(root / "paths.jsonl", lines)
            found = {k: apart(k, root / "paths.jsonl") for k in ("tuples", "jsonl")}
            (root / "paths.jsonl").unlink()
        if shards:
            write_shards(root / "paths", shards)
            found["parquet"] = apart("parquet", root / "paths")
    return found


def main() -> None:
    """Read in this process as ``apart`` asks, or measure: so many paths in shards, and as lines."""
    first, second = sys.argv[1:]
    told = measure(int(first), int(second)) if first.isdigit() else read(first, File(second))
    sys.stdout.write(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
