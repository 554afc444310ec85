"""llama-server on loopback for one measurement, asked over HTTP as its users ask it.

Built from the source archive of the installed llama-cpp-python, so that the same llama.cpp stands
on both sides (see ``docs/performance.md``). One request's body:

    {"prompt": [49, 26], "n_predict": 48, "temperature": 0.7, "cache_prompt": true}
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from benchmarks.jobs import SAMPLING, STOP, Job

START_LIMIT = 120  # seconds
ANSWER_LIMIT = 3600


@contextmanager
def running(job: Job) -> Iterator[str]:
    """Start a server with a slot per path; yields its address."""
    room = (max(map(len, job.prompts)) + job.max_tokens + 8) * job.paths
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = ["--threads", str(job.threads), "--threads-batch", str(job.threads)]
    size = ["--parallel", str(job.paths), "--ctx-size", str(room), "--port", str(port)]
    child = subprocess.Popen(
        [job.server, "--model", job.model, "--host", "127.0.0.1", *size, *threads],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _ready(f"http://127.0.0.1:{port}", child)
    finally:
        child.terminate()
        child.wait()


def _ready(address: str, child: subprocess.Popen[bytes]) -> str:
    for _ in range(START_LIMIT * 10):
        if child.poll() is not None:
            raise SystemExit(f"llama-server ended with code {child.returncode}")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return address
    raise SystemExit("llama-server did not start")


def one_request_per_path(job: Job, address: str) -> int:
    """All paths of all prompts at once; returns the tokens written."""
    bodies = [_body(job, p, seed=i) for p in job.prompts for i in range(job.paths)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        return sum(said["tokens_predicted"] for said in pool.map(_post(address), bodies))


def one_request_per_prompt(job: Job, address: str) -> int:
    """One request per prompt, whose copies share what the server lets them share."""
    bodies = [_body(job, p, seed=0) | {"n_cmpl": job.paths} for p in job.prompts]
    told = map(_post(address), bodies)
    return sum(s["tokens_predicted"] for many in told for s in many)


def _body(job: Job, prompt: list[int], seed: int) -> dict[str, Any]:
    limit = {"n_predict": job.max_tokens, "cache_prompt": True, "seed": seed, "stop": [STOP]}
    return {"prompt": prompt, **limit, **SAMPLING}


def _post(address: str) -> Any:  # noqa: ANN401 - a function from body to answer
    def post(body: dict[str, Any]) -> Any:  # noqa: ANN401 - parsed JSON
        request = urllib.request.Request(
            f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT) as answer:
            return json.load(answer)

    return post
