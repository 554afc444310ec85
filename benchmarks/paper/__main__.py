"""The paper's experiments, one command each, resumable; results as JSON.

    python -m benchmarks.paper --work work --list
    python -m benchmarks.paper --work work formats --seeds 0 1 2
    python -m benchmarks.paper --work work --shared FOLDER_OF_PUBLIC_SETS

What is done is not done again, so any of them may be interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.paper.catalogue import EXPERIMENTS, Experiment
from benchmarks.paper.records import Result, Run
from benchmarks.paper.sets import Sets
from benchmarks.paper.steps import Steps

RESULTS = Path(__file__).parents[1] / "results" / "paper"


def main() -> None:
    """Do the named experiments, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments; none: all")
    parser.add_argument("--work", type=Path, required=True, help="where the run folders go")
    parser.add_argument(
        "--shared", type=Path, help="folder with gsm8k/, svamp/, aqua/, strategyqa/"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--list", action="store_true", help="only say what there is")
    given = parser.parse_args()
    known = {e.name: e for e in EXPERIMENTS}
    if unknown := set(given.names) - set(known):
        raise SystemExit(f"no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[n] for n in given.names or known]
    if given.list:
        print("\n".join(f"{e.name:14} {e.title} ({len(e.runs(given.seeds))} runs)" for e in chosen))
        return
    steps = Steps(given.work, Sets(given.work, given.shared))
    for experiment in chosen:
        perform(experiment, steps, given.seeds, given.out)


def perform(experiment: Experiment, steps: Steps, seeds: list[int], out: Path) -> None:
    """Do one experiment seed by seed, writing its results after every run."""
    out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for run in experiment.runs(seeds):
        if not all(steps.sets.has(name) for name in (run.questions, *run.exams)):
            print(f"{experiment.name}: {run.name} left out: no --shared", file=sys.stderr)
            continue
        begun = time.monotonic()
        own = steps.results(run)
        results += own
        _tell(experiment, run, own, time.monotonic() - begun)
    data = msgspec.json.format(msgspec.json.encode(results), indent=0)
    (out / f"{experiment.name}.json").write_bytes(data + b"\n")


def _tell(experiment: Experiment, run: Run, own: list[Result], seconds: float) -> None:
    told = "; ".join(
        f"{r.exam}: " + ", ".join(f"{k} {_pair(x.before, x.after)}" for k, x in r.lines.items())
        for r in own
    )
    line = (
        f"{experiment.name}: {run.name} seed {run.seed} ({seconds:.0f} s) {own[-1].verdict}: {told}"
    )
    print(line, file=sys.stderr, flush=True)


def _pair(before: float, after: float | None) -> str:
    return f"{100 * before:.1f}" + (f">{100 * after:.1f}" if after is not None else "")


if __name__ == "__main__":
    main()
