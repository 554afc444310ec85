"""Many paths a question on a real model, as users draw them: lmsi beside its peers.

Uses questions of a public set, lets paths end naturally, and times loading and prefill, too. The
peers take turns within a round, so that a slow spell of the machine hits them all; what counts is
the ratio within a round. Run it alone: ggml's threads spin. Writes a JSON file and plot per model:

    python -m benchmarks.sampling --model qwen.gguf --source gsm8k:test.jsonl --tools build/bin
    python -m benchmarks.sampling --model qwen.gguf --source ... --openvino ov/bin/python

``--tools`` is the folder of ``llama-server`` and ``llama-batched-bench``, built from the installed
llama-cpp-python's source archive; ``--openvino`` the Python of an environment with openvino-genai.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import jinja2

from benchmarks.machine import machine
from benchmarks.peers import PEERS, Job
from lmsi_cli.tasks.readers import read_labelled

REQUEST = "Please reason step by step, and put your final answer within \\boxed{}."
SLOW = ("loop", "transformers")  # these get fewer questions: a rate does not need them all
Measured = dict[str, Any]


def main() -> None:
    """Measure one model and write the results."""
    given = _arguments()
    job = job_of(given)
    rounds: list[list[Measured]] = []
    for _ in range(given.rounds):
        rounds.append(one_round(given, job))
    name = given.label or given.model.stem
    case = {"case": name, "machine": machine(), "questions": given.limit, "paths": given.paths,
            "max_tokens": given.max_tokens, "threads": given.threads, "rounds": rounds}  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"sampling-{name}.json"
    file.write_text(json.dumps(case, indent=1) + "\n")
    print(table(case))
    plot(case, file.with_suffix(".svg"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", required=True, help="a question set, like gsm8k:test.jsonl")
    parser.add_argument("--label", default="")
    parser.add_argument("--limit", type=int, default=64, help="questions")
    parser.add_argument("--slow", type=int, default=2, help="questions for the slow peers")
    parser.add_argument("--paths", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--tools", default="")
    parser.add_argument("--openvino", default="")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    lacking = {"openvino"} if not given.openvino else set()
    lacking |= {"server", "server-n", "ceiling"} if not given.tools else set()
    lacking |= {"lmsi-openvino"} if find_spec("openvino_genai") is None else set()
    given.peers = [p for p in given.peers if p not in lacking]
    return given


def job_of(given: argparse.Namespace) -> Job:
    """The job, with prompts made by the model's own chat template, or plain ones."""
    template, around = _template(given.model)
    prompts = [
        template.render(
            messages=[{"role": "user", "content": f"{q.question}\n{REQUEST}"}],
            add_generation_prompt=True,
            **around,
        )
        if template
        else f"Q: {q.question}\nA: Let's think step by step."
        for q in read_labelled(given.source)[: given.limit]
    ]
    same = {k: getattr(given, k) for k in ("source", "paths", "max_tokens", "threads", "tools")}
    prompt = "boxed" if template else "cot-zero"
    return Job(prompt, str(given.model.absolute()), prompts=prompts, **same)


def _template(model: Path) -> tuple[jinja2.Template | None, dict[str, str]]:
    fields = gguf.GGUFReader(model).fields
    if "tokenizer.chat_template" not in fields:
        return None, {}
    words = fields["tokenizer.ggml.tokens"]
    ends = {"bos_token": "bos", "eos_token": "eos"}
    numbers = {k: fields.get(f"tokenizer.ggml.{v}_token_id") for k, v in ends.items()}
    around = {k: str(words.contents(f.contents())) for k, f in numbers.items() if f}
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.from_string(fields["tokenizer.chat_template"].contents()), around


def one_round(given: argparse.Namespace, job: Job) -> list[Measured]:
    """Each peer once; the ceiling gets the mean lengths of lmsi's own prompts and paths."""
    found: list[Measured] = []
    for peer in given.peers:
        asked = job._replace(prompts=job.prompts[: given.slow]) if peer in SLOW else job
        own = [m for m in found if m["peer"] == "lmsi"]
        if peer == "ceiling" and own:
            asked = job._replace(mean=(_prompt_tokens(job), own[0]["tokens"] // own[0]["paths"]))
        python = given.openvino if peer == "openvino" else sys.executable
        found += _measured(python, peer, asked)
    return found


def _measured(python: str, peer: str, job: Job) -> list[Measured]:
    """Run one peer; if it fails, print the end of its errors and return nothing."""
    command = [python, "-m", "benchmarks.peers", peer]
    given = json.dumps(job._asdict()).encode()
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    lines = [x for x in done.stdout.decode().splitlines() if x.startswith("MEASURED ")]
    if not lines:
        print(f"{peer}: {done.stderr.decode().strip()[-300:]}", file=sys.stderr)
        return []
    measured = json.loads(lines[-1].removeprefix("MEASURED "))
    rate = measured["tokens"] / measured["seconds"]
    print(f"{peer:13} {measured['tokens']:7} tokens, {rate:6.1f} a second", file=sys.stderr)
    return [measured]


def _prompt_tokens(job: Job) -> int:
    from llama_cpp import Llama

    words = Llama(job.model, vocab_only=True, verbose=False)
    counts = [len(words.tokenize(p.encode(), special=True)) for p in job.prompts]
    return round(statistics.mean(counts))


def ratios(case: Measured) -> dict[str, list[float]]:
    """Give lmsi's tokens a second as a multiple of each peer's, round by round."""
    found: dict[str, list[float]] = {}
    for measured in case["rounds"]:
        rates = {m["peer"]: m["tokens"] / m["seconds"] for m in measured}
        for peer in rates:
            found.setdefault(peer, []).append(rates["lmsi"] / rates[peer])
    return found


def rates(case: Measured) -> dict[str, list[float]]:
    """Tokens a second of each peer, one number a round."""
    found: dict[str, list[float]] = {}
    for m in (m for measured in case["rounds"] for m in measured):
        found.setdefault(m["peer"], []).append(m["tokens"] / m["seconds"])
    return found


def table(case: Measured) -> str:
    """Medians over the rounds."""
    speeds, beside = rates(case), ratios(case)
    rows = [f"{case['case']}, {case['machine']}", f"{'':13} tokens/s  lmsi is"]
    for peer in speeds:
        rate, ratio = statistics.median(speeds[peer]), statistics.median(beside[peer])
        rows.append(f"{peer:13} {rate:8.1f} {ratio:7.2f}x")
    return "\n".join(rows)


def plot(case: Measured, target: Path) -> None:
    """Bars of the medians, with a dot for every round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    speeds = sorted(rates(case).items(), key=lambda item: statistics.median(item[1]))
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.4 * len(speeds)), layout="constrained")
    for i, (peer, values) in enumerate(speeds):
        axes.barh(i, statistics.median(values), color="#4878a8" if peer == "lmsi" else "#b8b8b8")
        axes.plot(values, [i] * len(values), "k.", markersize=4)
    axes.set_yticks(range(len(speeds)), [peer for peer, _ in speeds])
    axes.set_xlabel("tokens a second, loading and prompts included")
    axes.set_title(f"{case['case']}: {case['questions']} questions x {case['paths']} paths")
    figure.savefig(target)


if __name__ == "__main__":
    main()
