"""A thousand workers and a million questions in simulated time; and how long resuming takes.

    python -m benchmarks.scale --measure runs/a runs/b     # path lengths and speeds of real runs
    python -m benchmarks.scale                             # 1,000 workers, 1,000,000 x 32 paths
    python -m benchmarks.scale --small                     # seconds; for the test
    python -m benchmarks.scale --resume 3200000            # keys of so many paths, both formats

The simulation drives `lmsi_cli/cluster/dispatch.py` itself (`benchmarks/cluster.py` says what is
assumed of the fleet). Results go to `benchmarks/results/scale.json`, one section per command:

    {"simulated": {"timings": {...}, "runs": [{"fleet": {...}, "ran": {...}}]}, "resume": {...}}
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path as File
from typing import Any

import msgspec

from benchmarks import resuming
from benchmarks.cluster import simulate
from benchmarks.fleet import Fleet, Timings, lengths_of
from lmsi_cli.cluster.dispatch import Dispatcher, Item
from lmsi_cli.lines import appender, encode_line, read_object, read_records, write_atomic
from lmsi_cli.records import Path

RESULTS = File(__file__).parent / "results"
TIMINGS, OUT = RESULTS / "scale-timings.json", RESULTS / "scale.json"
SLOWER = 160.0  # tokens a second: qwen2.5-0.5b in Q4_K_M on two cores (docs/performance.md)
HEAVY = Fleet(slow=0.03, pause=120.0, life=3600.0)  # three times, twice and four times as bad
SMALL = (Fleet(workers=40), 4_000, 8)


def measure(runs: Sequence[File]) -> Timings:
    """Read lengths and speeds off finished runs, and time the driver's part on their paths."""
    paths = [p for run in runs for p in read_records(run / "paths.jsonl", Path)]
    speeds = [read_object(run / "status.json")["figures"]["tokens_s"] for run in runs]
    keyed = (
        (f"{run}/{p.question_id}", p.num_generated_tokens)
        for run in runs
        for p in read_records(run / "paths.jsonl", Path)
    )
    lines = [encode_line(p) for p in paths]
    return Timings(
        lengths=lengths_of(keyed),
        tokens_s=statistics.median(speeds),
        line_bytes=statistics.fmean(map(len, lines)),
        driver_s=driver_s(lines),
    )


def driver_s(lines: Sequence[bytes], times: int = 4) -> float:
    """CPU seconds the driver spends on a path that has arrived as bytes."""
    decoder = msgspec.json.Decoder(Path)
    count = len(lines) * times
    dispatch = Dispatcher(iter([Item(f"q{i}", (0,)) for i in range(count)]), count)
    dispatch.join("w", 0.0)
    given = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        appender(File(folder) / "paths.jsonl", Path) as out,
    ):
        begun = time.process_time()
        for number in range(count):
            while given <= number and (block := dispatch.give("w", float(number))):
                given += len(block.items)
                dispatch.ended("w", block.number, number + 0.5)
            dispatch.result("w", f"q{number}", 0)
            out.write(decoder.decode(lines[number % len(lines)]))
        return (time.process_time() - begun) / count


def simulated(small: bool, timings: Timings) -> list[dict[str, Any]]:
    """Each case in a process of its own, so that its memory is its own."""
    if small:
        return [one(timings, *SMALL)]
    slower = msgspec.structs.replace(timings, tokens_s=SLOWER)
    cases = [
        (timings, Fleet(), 1_000_000),
        (timings, Fleet(), 100_000),
        (timings, Fleet(pause=0.0), 1_000_000),
        (slower, Fleet(), 1_000_000),
        (timings, HEAVY, 1_000_000),
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return list(pool.map(one, *zip(*cases, strict=True), [32] * len(cases)))


def one(timings: Timings, fleet: Fleet, questions: int, paths: int) -> dict[str, Any]:
    """A simulated run with what it assumes."""
    ran = simulate(timings, fleet, questions, paths)
    given = {"tokens_s": timings.tokens_s, **msgspec.to_builtins(fleet)}
    return {"fleet": given, "ran": msgspec.to_builtins(ran)}


def told(timings: Timings) -> dict[str, float]:
    """What was measured, without each length."""
    lengths = [t for question in timings.lengths for t in question]
    return {
        "tokens_s": timings.tokens_s,
        "tokens_path": statistics.fmean(lengths),
        "questions_measured": len(timings.lengths),
        "line_bytes": timings.line_bytes,
        "driver_s": timings.driver_s,
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", type=File, nargs="+", help="folders of finished runs")
    parser.add_argument("--small", action="store_true", help="40 workers; prints, keeps nothing")
    parser.add_argument("--resume", type=int, metavar="N", help="paths to read the keys of")
    parser.add_argument("--lines", type=int, metavar="N", help="as --resume, of JSON lines")
    parser.add_argument("--folder", type=File, help="where --resume writes; else a temporary one")
    return parser.parse_args(argv)


def add(section: str, found: Any) -> None:  # noqa: ANN401 - JSON
    """Put a section into the results."""
    kept = read_object(OUT) if OUT.exists() else {}
    text = msgspec.json.encode({**kept, section: found}, order="sorted")
    write_atomic(OUT, msgspec.json.format(text) + b"\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Do one of the measurements."""
    asked = arguments(argv)
    if asked.measure:
        write_atomic(TIMINGS, msgspec.json.encode(measure(asked.measure)) + b"\n")
    elif asked.resume or asked.lines:
        add(
            "resume", resuming.measure(asked.resume or 0, asked.lines or asked.resume, asked.folder)
        )
    else:
        timings = msgspec.json.decode(TIMINGS.read_bytes(), type=Timings)
        found = {"timings": told(timings), "runs": simulated(asked.small, timings)}
        if not asked.small:
            add("simulated", found)
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")


if __name__ == "__main__":
    main()
