"""The paper's experiments, one command each, resumable; results as JSON.

    python -m benchmarks.paper --work work --list
    python -m benchmarks.paper --work work formats --seeds 0 1 2
    python -m benchmarks.paper --work work --shared FOLDER_OF_PUBLIC_SETS
    python -m benchmarks.paper --work work --shared ... real-svamp --model qwen-0.5b=MODEL.gguf

Finished steps are not repeated, so any of them may be interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from benchmarks.paper.catalogue import EXPERIMENTS, Experiment
from benchmarks.paper.exemplars import exemplars
from benchmarks.paper.published import PUBLISHED
from benchmarks.paper.records import Result, Run
from benchmarks.paper.rounds import rounds
from benchmarks.paper.sets import Sets
from benchmarks.paper.steps import MissingError, Steps

OWN = {
    "exemplars": "Exemplars of the model's own",
    "rounds": "Rounds one to three",
    "rounds-continued": "The same, each from the last adapter, ever hotter",
}
CONTINUED = ("--set", "continue_from_last=true", "--set", "round_temperature=0.7,1.0,1.2")
RESULTS = Path(__file__).parents[1] / "results" / "paper"


def main() -> None:
    """Run the named experiments, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments; none: all")
    parser.add_argument("--work", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--shared", type=Path, help="where gsm8k/, svamp/, aqua/... are")
    parser.add_argument("--model", action="append", default=[], help="NAME=FILE, once for each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="runs of these names alone")
    parser.add_argument("--collect", action="store_true", help="read what is done, do nothing")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    given = parser.parse_args()
    files = dict(m.split("=", 1) for m in given.model)
    own = [e for e in PUBLISHED if any(r.model in files for r in e.runs([0]))]
    known = {e.name: e.title for e in (*EXPERIMENTS, *own)} | OWN
    if unknown := set(given.names) - set(known):
        raise SystemExit(f"no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in given.names or known}
    if given.list:
        print("\n".join(f"{name:14} {title}" for name, title in chosen.items()))
        return
    sets = Sets(given.work, given.shared)
    steps = Steps(given.work, sets, collect=given.collect, files=files)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        results = perform(name, steps, given.seeds, given.only)
        if not results:
            continue
        data = msgspec.json.format(msgspec.json.encode(results), indent=0)
        (given.out / f"{name}.json").write_bytes(data + b"\n")


def perform(name: str, steps: Steps, seeds: list[int], only: list[str] | None) -> list[Result]:
    """Run what is missing of one experiment; with ``steps.collect`` only read what is done."""
    if name not in OWN:
        found = next(e for e in (*EXPERIMENTS, *PUBLISHED) if e.name == name)
        return _runs(found, steps, seeds, only)
    results: list[Result] = []
    for seed in seeds:
        with suppress(MissingError):
            results += _own(name, steps, seed)
    return results


def _own(name: str, steps: Steps, seed: int) -> list[Result]:
    if name == "exemplars":
        return exemplars(steps, seed)
    return rounds(steps, seed, *(CONTINUED if name == "rounds-continued" else ()))


def _runs(
    experiment: Experiment, steps: Steps, seeds: list[int], only: list[str] | None
) -> list[Result]:
    results: list[Result] = []
    for run in experiment.runs(seeds):
        if only and run.name not in only:
            continue
        if not all(steps.sets.has(name) for name in (run.questions, *run.exams)):
            print(f"{experiment.name}: {run.name} left out: no --shared", file=sys.stderr)
            continue
        begun = time.monotonic()
        with suppress(MissingError):
            own = steps.results(run)
            results += own
            _tell(experiment, run, own, time.monotonic() - begun)
    return results


def _tell(experiment: Experiment, run: Run, own: list[Result], seconds: float) -> None:
    head = f"{experiment.name}: {run.name} seed {run.seed} ({seconds:.0f} s) {own[-1].verdict}"
    for r in own:
        figures = ", ".join(f"{k} {_pair(x.before, x.after)}" for k, x in r.lines.items())
        print(f"{head}: {r.exam}: {figures}", file=sys.stderr, flush=True)


def _pair(before: float, after: float | None) -> str:
    return f"{100 * before:.1f}" + (f">{100 * after:.1f}" if after is not None else "")


if __name__ == "__main__":
    main()
