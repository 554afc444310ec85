"""Many paths per prompt: lmsi against its peers and against bare decoding, alternating.

Each measurement is a process of its own, so that no peer's threads or memory disturb another's; the
peers take turns within a round, so that a slow spell of the machine meets them all. Writes one
JSON file and one plot per case. Run it alone: ``ggml``'s threads spin.

    python -m benchmarks.sampling --model models/tinymath/tinymath-f16.gguf --out results
    python -m benchmarks.sampling --model qwen2.5-0.5b-Q4_K_M.gguf --shots 8 --server llama-server

A case's file holds the job's sizes and every measurement (see ``peers.py``):

    {"case": "qwen2.5-0.5b-Q4_K_M, 8-shot", "prompt_tokens": 988, "rounds": [[...], [...]]}
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.jobs import Job, Measurement
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Exemplar
from lmsi_cli.tasks.loader import load_task

PEERS = ("ceiling", "loop", "server", "server-n", "transformers")  # "ceiling" measures lmsi too
QUESTIONS = [
    f"A shop sells pens in boxes of {n}. Mira buys {k} boxes and gives {n} pens to her class. "
    "How many pens does she have left?"
    for n, k in ((12, 7), (8, 15), (20, 4), (9, 11), (16, 6), (25, 3), (14, 8), (6, 19))
]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One file: what was asked, on what machine, and what every peer did in every round."""

    case: str
    prompt_tokens: int
    paths: int
    max_tokens: int
    threads: int
    machine: str
    llama_cpp_python: str
    rounds: list[list[Measurement]]
    not_done: dict[str, str] = {}


def main() -> None:
    """Measure one case."""
    given = _arguments()
    job = _job(given)
    label = given.label or f"{given.model.stem}, {given.shots}-shot"
    rounds: list[list[Measurement]] = []
    not_done: dict[str, str] = {}
    for _ in range(given.rounds):
        rounds.append([])
        for peer in (p for p in given.peers if p not in not_done):
            rounds[-1] += _measure(peer, job, given.limit, not_done)
    case = Case(
        case=label,
        prompt_tokens=len(job.prompts[0]),
        paths=job.paths,
        max_tokens=job.max_tokens,
        threads=job.threads,
        machine=machine(),
        llama_cpp_python=_version(),
        rounds=rounds,
        not_done=not_done,
    )
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"{label.replace(', ', '-').replace(' ', '-')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(case), indent=1))
    print(table(case))
    plot(case, file.with_suffix(".png"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--label", default="")
    parser.add_argument("--shots", type=int, default=0, help="worked examples before the question")
    parser.add_argument(
        "--prompt-tokens", type=int, default=0, help="cut the prompts' common front to this length"
    )
    parser.add_argument("--questions", type=int, default=1, help="prompts that share the examples")
    parser.add_argument("--paths", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--server", default="", help="a built llama-server; none: left out")
    parser.add_argument("--limit", type=int, default=600, help="seconds for one measurement")
    parser.add_argument("--set", nargs="*", default=[], help="engine settings: kv=split ...")
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    given.peers = [p for p in given.peers if given.server or not p.startswith("server")]
    return given


def _job(given: argparse.Namespace) -> Job:
    task = _with_shots(load_task("number"), given.shots)
    form = "cot-few" if given.shots else "cot-zero"
    with vocabulary(given.model) as words:
        prompts = [words.encode(render(task, q, form)) for q in QUESTIONS[: given.questions]]
    cut = max(0, len(prompts[0]) - given.prompt_tokens) if given.prompt_tokens else 0
    return Job(
        model=str(given.model.absolute()),
        prompts=[p[cut:] for p in prompts],
        paths=given.paths,
        max_tokens=given.max_tokens,
        threads=given.threads,
        server=given.server,
        settings=dict(s.split("=", 1) for s in given.set),
    )


def _with_shots(task: Task, shots: int) -> Task:
    """Take the task's examples, over again if there are too few."""
    many: list[Exemplar] = [task.exemplars[i % len(task.exemplars)] for i in range(shots)]
    return msgspec.structs.replace(task, exemplars=tuple(many))


def _measure(peer: str, job: Job, limit: int, not_done: dict[str, str]) -> list[Measurement]:
    """Run one peer in a child; one that fails or is not done in time is named and left out."""
    command = [sys.executable, "-m", "benchmarks.peers", peer]
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(job), capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        not_done[peer] = f"not done after {limit} s"
        return []
    lines = [x for x in done.stdout.decode().splitlines() if x.startswith("MEASURED ")]
    if not lines:
        not_done[peer] = (done.stderr.decode().strip().splitlines() or ["no output"])[-1]
    found = [msgspec.json.decode(x.removeprefix("MEASURED "), type=Measurement) for x in lines]
    for m in found:
        print(f"{m.peer:13} {m.tokens:6} tokens {m.seconds:7.1f} s", file=sys.stderr, flush=True)
    return found


def rates(case: Case) -> dict[str, list[float]]:
    """Tokens per second of each peer, one number per round."""
    found: dict[str, list[float]] = {}
    for measured in case.rounds:
        for m in measured:
            found.setdefault(m.peer, []).append(m.tokens / m.seconds)
    return found


def table(case: Case) -> str:
    """The medians, and lmsi as a multiple of each (the median of the rounds' own ratios)."""
    found = rates(case)
    head = f"{case.case}: {case.prompt_tokens} prompt tokens, {case.paths} paths"
    rows = [head, f"{'':13} tokens/s  lmsi is  peak MB"]
    for peer, speeds in found.items():
        ratio = statistics.median(a / b for a, b in zip(found["lmsi"], speeds, strict=False))
        peak = max(m.peak_bytes for r in case.rounds for m in r if m.peer == peer) / 1e6
        rows.append(f"{peer:13} {statistics.median(speeds):8.1f} {ratio:7.2f}x {peak:8.0f}")
    rows += [f"{peer:13} {why}" for peer, why in case.not_done.items()]
    return "\n".join(rows)


def plot(case: Case, target: Path) -> None:
    """Bars of the medians with every round as a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = sorted(rates(case).items(), key=lambda item: statistics.median(item[1]))
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.45 * len(found)), layout="constrained")
    for i, (peer, speeds) in enumerate(found):
        axes.barh(i, statistics.median(speeds), color="#4878a8" if peer == "lmsi" else "#b8b8b8")
        axes.plot(speeds, [i] * len(speeds), "k.", markersize=4)
    axes.set_yticks(range(len(found)), [peer for peer, _ in found])
    axes.set_xlabel("tokens per second")
    axes.set_title(f"{case.case}: {case.paths} paths, {case.prompt_tokens} prompt tokens")
    figure.savefig(target, dpi=120)


def machine() -> str:
    """Name the CPU, and how many threads it has."""
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
    name = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{name}, {os.cpu_count()} threads"


def _version() -> str:
    import llama_cpp

    return str(llama_cpp.__version__)


if __name__ == "__main__":
    main()
