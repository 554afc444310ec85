"""A LoRA step: lmsi against TRL's SFTTrainer with PEFT, and against the arithmetic itself.

All sides train on the same examples of a run folder in the same steps, from the same weights. Each
measurement is a process of its own, and the sides take turns, so that a slow spell of the machine
hits them all. Run it alone; called again with the same file, it adds rounds.

    python -m benchmarks.training --model qwen2.5-0.5b-F16.gguf --run runs/a --out results

A file holds the job's sizes and every measurement (see ``trainers.py``):

    {"case": "tinymath-f16", "machine": "...", "versions": {...}, "rounds": [[...], [...]],
     "ratios": {"trl": {"best": 3.1, "median": 3.0}, "floor": {...}}}
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.machine import machine
from benchmarks.trainers import TRAINERS, Job, Measurement
from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import TrainExample
from lmsi_cli.training import load
from lmsi_cli.training.trainer import SMALL_LR

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """How many times as fast lmsi is, in the examples' own tokens per second."""

    best: float
    median: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One file: what was trained, on what machine, and what every side did in every round."""

    case: str
    config: TrainConfig
    machine: str
    threads: int
    versions: dict[str, str]
    rounds: list[list[Measurement]]
    ratios: dict[str, Ratio]


def main() -> None:
    """Measure one round or several."""
    given = _arguments()
    file = given.out / f"training-{given.label or given.model.stem}.json"
    rounds = msgspec.json.decode(file.read_bytes(), type=Case).rounds if file.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        job = _job(given, Path(folder))
        for _ in range(given.rounds):
            rounds.append([])
            for side in given.sides:
                rounds[-1].append(_measure(side, job))
                _write(file, given, job, rounds)
    print(table(msgspec.json.decode(file.read_bytes(), type=Case)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="a folder after `lmsi vote`")
    parser.add_argument("--label", default="")
    parser.add_argument("--steps", type=int, default=3, help="the first is not counted")
    parser.add_argument("--batch-size", type=int, default=TrainConfig().batch_size)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def _job(given: argparse.Namespace, folder: Path) -> Job:
    """The job; its weights are also written as a folder, since TRL takes no GGUF file."""
    if "trl" in given.sides:
        load.load_base(given.model, "fp32").save_pretrained(folder)  # type: ignore[operator]
    return Job(
        gguf=str(given.model.absolute()),
        folder=str(folder),
        examples=list(read_records(given.run / "train.jsonl", TrainExample)),
        config=TrainConfig(
            max_steps=given.steps,
            lr=SMALL_LR,  # given, since TRL knows no auto
            batch_size=given.batch_size,
            val_share=0,  # no held-out examples, no validation between the steps: TRL has none
            alarms=False,
        ),
    )


def _measure(side: str, job: Job) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.trainers", side]
    done = subprocess.run(command, input=msgspec.json.encode(job), capture_output=True, check=False)
    lines = [x for x in done.stdout.decode().splitlines() if x.startswith("MEASURED ")]
    if not lines:
        raise SystemExit(f"{side} failed:\n{done.stderr.decode()[-2000:]}")
    found = msgspec.json.decode(lines[-1].removeprefix("MEASURED "), type=Measurement)
    print(f"{side:6} {rate(found):8.1f} tokens/s", file=sys.stderr, flush=True)
    return found


def rate(found: Measurement) -> float:
    """The examples' own tokens per second, over all counted steps."""
    return found.tokens / sum(found.step_seconds)


def _write(
    file: Path, given: argparse.Namespace, job: Job, rounds: list[list[Measurement]]
) -> None:
    case = Case(
        case=given.label or given.model.stem,
        config=job.config,
        machine=machine(),
        threads=len(os.sched_getaffinity(0)),
        versions={name: version(name) for name in PACKAGES},
        rounds=rounds,
        ratios=ratios(rounds),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(case), indent=1))


def rates(rounds: list[list[Measurement]]) -> dict[str, list[float]]:
    """Tokens per second of each side, one number per round that it took part in."""
    found: dict[str, list[float]] = {}
    for m in (m for r in rounds for m in r):
        found.setdefault(m.trainer, []).append(rate(m))
    return found


def ratios(rounds: list[list[Measurement]]) -> dict[str, Ratio]:
    """Give lmsi's rate over each other side's: best round over best, median over median."""
    found = rates(rounds)
    mine = found.pop("lmsi", [])
    return {
        side: Ratio(
            best=max(mine) / max(theirs), median=statistics.median(mine) / statistics.median(theirs)
        )
        for side, theirs in found.items()
        if mine
    }


def table(case: Case) -> str:
    """The medians, and lmsi as a multiple of each."""
    rows = [f"{case.case}: tokens/s  examples/s  lmsi is  (best)  computed  peak MB"]
    for side, speeds in rates(case.rounds).items():
        all_of_it = [m for r in case.rounds for m in r if m.trainer == side]
        examples = statistics.median(m.examples / sum(m.step_seconds) for m in all_of_it)
        ratio = case.ratios.get(side)
        times = f"{ratio.median:7.2f}x {ratio.best:6.2f}x" if ratio else " " * 16
        peak = max(m.peak_bytes for m in all_of_it) / 1e6
        rows.append(
            f"{side:6} {statistics.median(speeds):10.1f} {examples:10.2f} {times}"
            f" {all_of_it[0].computed_tokens:9} {peak:8.0f}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
