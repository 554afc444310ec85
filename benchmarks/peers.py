r"""Let one program draw the paths of a job once, in a process of its own.

All get the same file, threads, questions, request, token limit and sampling settings, and end a
path where the model ends it. The clock runs from the start of the process to the last path: it
includes loading, reading prompts and starting a server, as it would for a user. This file needs
nothing but the program that it measures, which may thus live in an environment of its own. A job
goes in on stdin, a measurement comes out:

    {"prompt": "boxed", "model": "m.gguf", "source": "gsm8k:test.jsonl",
     "prompts": ["<|im_start|>user\n..."], "paths": 8, "max_tokens": 512, "threads": 2,
     "tools": "build/bin", "mean": [130, 280]}
    {"peer": "loop", "paths": 512, "tokens": 143360, "seconds": 612.0, "peak_mib": 812}
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# One chain for all; the penalties that some programs add by default are off.
CHAIN = {"temperature": 0.7, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
SLOTS = 32  # of llama-server; OpenVINO and the ceiling decode twice as many side by side
PAUSE, WAIT = 0.1, 3600  # seconds between checks for a server, and at most for one answer


class Job(NamedTuple):
    """What to draw; ``mean`` are the mean tokens of a prompt and of a path in lmsi's own run.

    ``prompt`` is the setting by which lmsi writes the same ``prompts``.
    """

    prompt: str
    model: str
    source: str
    prompts: list[str]
    paths: int
    max_tokens: int
    threads: int
    tools: str = ""
    mean: tuple[int, int] = (0, 0)


def lmsi(job: Job, engine: str = "llama") -> tuple[int, int]:
    """The command as a user types it; returns how many paths and tokens were drawn."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lmsi_cli", "sample", job.source, "-m", job.model]
        command += ["-o", f"{folder}/run", "--limit", len(job.prompts), "--paths", job.paths]
        command += ["--max-tokens", job.max_tokens, "--threads", job.threads]
        command += ["--temperature", CHAIN["temperature"], "--set", f"top_k={CHAIN['top_k']}", "-q"]
        command += ["--engine", engine, "--prompt", job.prompt]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        lines = Path(folder, "run", "paths.jsonl").read_text().splitlines()
    tokens = [json.loads(line)["num_generated_tokens"] for line in lines]
    return len(tokens), sum(tokens)


def loop(job: Job) -> tuple[int, int]:
    """llama-cpp-python's completions, one after another; it keeps the prompt in its cache."""
    from llama_cpp import Llama

    threads = {"n_threads": job.threads, "n_threads_batch": job.threads}
    model = Llama(job.model, n_ctx=job.max_tokens + 1024, **threads, verbose=False)
    tokens = 0
    for prompt in job.prompts:
        for i in range(job.paths):
            reply = model.create_completion(prompt, max_tokens=job.max_tokens, seed=i, **CHAIN)
            tokens += reply["usage"]["completion_tokens"]
    return job.paths * len(job.prompts), tokens


def server(job: Job) -> tuple[int, int]:
    """llama-server with 32 slots and a unified cache; one request a path, all at once."""
    bodies = [_body(job, p) | {"seed": i} for p in job.prompts for i in range(job.paths)]
    with _running(job) as address, ThreadPoolExecutor(2 * SLOTS) as pool:
        replies = list(pool.map(lambda body: _post(address, body), bodies))
    return len(replies), sum(r["tokens_predicted"] for r in replies)


def server_n(job: Job) -> tuple[int, int]:
    """The same server, asked once a question for all of its paths (``n_cmpl``)."""
    bodies = [_body(job, p) | {"n_cmpl": job.paths} for p in job.prompts]
    with _running(job) as address, ThreadPoolExecutor(SLOTS // job.paths) as pool:
        replies = [r for many in pool.map(lambda b: _post(address, b), bodies) for r in many]
    return len(replies), sum(r["tokens_predicted"] for r in replies)


@contextmanager
def _running(job: Job) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    cells = SLOTS * (job.max_tokens + 256)
    command = [f"{job.tools}/llama-server", "-m", job.model, "--port", port, "-np", SLOTS]
    command += ["-c", cells, "-t", job.threads, "-tb", job.threads, "--kv-unified"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(list(map(str, command)), **quiet)
    try:
        yield _ready(f"http://127.0.0.1:{port}", child)
    finally:
        child.terminate()
        child.wait()


def _ready(address: str, child: subprocess.Popen[bytes]) -> str:
    while child.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            time.sleep(PAUSE)
        else:
            return address
    raise SystemExit(f"llama-server ended with code {child.returncode}")


def _body(job: Job, prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "n_predict": job.max_tokens, "cache_prompt": True, **CHAIN}


def _post(address: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - parsed JSON
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/completion", json.dumps(body).encode(), head)
    with urllib.request.urlopen(request, timeout=WAIT) as reply:
        return json.load(reply)


def transformers(job: Job) -> tuple[int, int]:
    """``generate`` on the same file, dequantised; bf16 where the CPU has it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(job.threads)
    file = {"gguf_file": Path(job.model).name}
    words = AutoTokenizer.from_pretrained(Path(job.model).parent, **file)
    model = AutoModelForCausalLM.from_pretrained(
        Path(job.model).parent, dtype=torch.bfloat16, **file
    )
    chain = {"do_sample": True, "temperature": CHAIN["temperature"], "top_k": CHAIN["top_k"]}
    limits = {"num_return_sequences": job.paths, "max_new_tokens": job.max_tokens}
    tokens = 0
    for prompt in job.prompts:
        asked = words(prompt, add_special_tokens=False, return_tensors="pt")
        replies = model.generate(**asked, **chain, **limits)[:, asked["input_ids"].shape[1] :]
        tokens += int((replies != words.pad_token_id).sum())
    return job.paths * len(job.prompts), tokens


def openvino(job: Job) -> tuple[int, int]:
    """OpenVINO GenAI with continuous batching and prefix caching; it reads GGUF itself."""
    import openvino_genai as ov

    plan = ov.SchedulerConfig()
    plan.max_num_seqs, plan.enable_prefix_caching = 2 * SLOTS, True
    settings = {"scheduler_config": plan, "INFERENCE_NUM_THREADS": job.threads}
    pipe = ov.LLMPipeline(job.model, "CPU", **settings)
    config = ov.GenerationConfig(
        max_new_tokens=job.max_tokens,
        do_sample=True,
        temperature=CHAIN["temperature"],
        top_k=CHAIN["top_k"],
        num_return_sequences=job.paths,
        apply_chat_template=False,
    )
    replies = pipe.generate(job.prompts, config).texts
    words = pipe.get_tokenizer()
    return len(replies), sum(words.encode(t).input_ids.shape[1] for t in replies)


def ceiling(job: Job) -> tuple[int, int]:
    """llama.cpp's own batched benchmark: prompts and paths of the same mean length, no sampling."""
    prompt, path = job.mean
    sizes = ["-npp", prompt, "-ntg", path, "-npl", 2 * SLOTS, "-fa", "off"]
    sizes += ["-c", 2 * SLOTS * (prompt + path + 8), "-t", job.threads, "-tb", job.threads]
    command = [f"{job.tools}/llama-batched-bench", "-m", job.model, *sizes]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return 2 * SLOTS, 2 * SLOTS * path


PEERS: dict[str, Callable[[Job], tuple[int, int]]] = {
    "lmsi": lmsi,
    "lmsi-openvino": partial(lmsi, engine="openvino"),
    "ceiling": ceiling,
    "server": server,
    "server-n": server_n,
    "openvino": openvino,
    "loop": loop,
    "transformers": transformers,
}


def main() -> None:
    """Run the peer named on the command line on the job that is read from stdin."""
    begun = time.perf_counter()
    paths, tokens = PEERS[sys.argv[1]](Job(**json.load(sys.stdin)))
    seconds = time.perf_counter() - begun
    sides = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(side).ru_maxrss for side in sides) // 1024
    found = {"paths": paths, "tokens": tokens, "seconds": seconds, "peak_mib": peak}
    print("MEASURED " + json.dumps({"peer": sys.argv[1], **found}), flush=True)


if __name__ == "__main__":
    main()
