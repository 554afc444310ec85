"""One peer draws paths once, in a process of its own: a job in on stdin, one measurement out.

Every peer gets the same file, threads, token ids, token limit and sampling settings. Loading the
model is not timed; reading the prompts is. A job and a measurement:

    {"model": "m.gguf", "prompts": [[49, 26]], "paths": 32, "max_tokens": 48, "threads": 2,
     "server": "/build/bin/llama-server"}
    {"peer": "loop", "paths": 32, "tokens": 1536, "seconds": 61.2, "peak_bytes": 812000000}
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import server
from benchmarks.jobs import SAMPLING, STOP, Job, Measurement, sampling_config
from lmsi_cli.engine.base import Request, Wanted


def lmsi(job: Job) -> Measurement:
    """The tool's own engine, as a user gets it."""
    from lmsi_cli.engine.engine import LlamaEngine

    with LlamaEngine(Path(job.model), sampling_config(job)) as engine:
        engine.last_logits([job.prompts[0][:1]])  # the mapped weights are read from the file now
        begun = time.perf_counter()
        found = list(engine.generate(requests(job), sampling_config(job), "The answer is"))
        return measured("lmsi", job, sum(g.tokens for g in found), begun, len(found))


def requests(job: Job) -> list[Request]:
    """The job's prompts as the engine wants them."""
    wanted = tuple(Wanted(i, i) for i in range(job.paths))
    return [Request(f"q{i}", tuple(p), wanted) for i, p in enumerate(job.prompts)]


def loop(job: Job) -> Measurement:
    """llama-cpp-python's own completions, one after the other; it keeps the prompt in its cache."""
    from llama_cpp import Llama

    room = max(map(len, job.prompts)) + job.max_tokens + 8
    model = Llama(
        job.model, n_ctx=room, n_threads=job.threads, n_threads_batch=job.threads, verbose=False
    )
    model.eval(job.prompts[0][:1])  # as for lmsi, and as llama-server does by itself
    model.reset()
    begun, tokens = time.perf_counter(), 0
    for prompt in job.prompts:
        for i in range(job.paths):
            said = model.create_completion(
                prompt, max_tokens=job.max_tokens, seed=i, stop=[STOP], **SAMPLING
            )
            tokens += said["usage"]["completion_tokens"]
    return measured("loop", job, tokens, begun)


def llama_server(job: Job) -> Measurement:
    """llama-server with a slot per path and one request per path, all at once."""
    with server.running(job) as address:
        begun = time.perf_counter()
        return measured("server", job, server.one_request_per_path(job, address), begun)


def llama_server_shared(job: Job) -> Measurement:
    """llama-server with one request per prompt that asks for all its paths (``n_cmpl``)."""
    with server.running(job) as address:
        begun = time.perf_counter()
        return measured("server-n", job, server.one_request_per_prompt(job, address), begun)


def transformers(job: Job) -> Measurement:
    """``generate`` of transformers, on the same file dequantised; bf16 where the CPU has it."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job.threads)
    path = Path(job.model)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16
    )
    end = model.generation_config.eos_token_id
    begun, tokens = time.perf_counter(), 0
    for prompt in job.prompts:
        ids = torch.tensor([prompt])
        said = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            num_return_sequences=job.paths,
            max_new_tokens=job.max_tokens,
            pad_token_id=end if end is not None else 0,
            temperature=SAMPLING["temperature"],
            top_k=SAMPLING["top_k"],
        )[:, len(prompt) :]
        tokens += sum(_written(row.tolist(), end) for row in said)
    return measured("transformers", job, tokens, begun)


def _written(row: list[int], end: int | None) -> int:
    return row.index(end) + 1 if end in row else len(row)


def measured(
    peer: str, job: Job, tokens: int, begun: float, paths: int | None = None
) -> Measurement:
    """Stop the clock."""
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024
    count = paths or job.paths * len(job.prompts)
    return Measurement(peer=peer, paths=count, tokens=tokens, seconds=seconds, peak_bytes=peak)


def ceiling(job: Job) -> list[Measurement]:
    """lmsi, and its decode calls alone."""
    from benchmarks.ceiling import run_and_replay

    return run_and_replay(job)


PEERS: dict[str, Callable[[Job], Measurement | list[Measurement]]] = {
    "lmsi": lmsi,
    "ceiling": ceiling,
    "loop": loop,
    "server": llama_server,
    "server-n": llama_server_shared,
    "transformers": transformers,
}


def main() -> None:
    """Run the peer named on the command line on the job that stands on stdin."""
    job = msgspec.convert(json.load(sys.stdin), Job)
    found = PEERS[sys.argv[1]](job)
    for one in found if isinstance(found, list) else [found]:
        print("MEASURED " + msgspec.json.encode(one).decode(), flush=True)


if __name__ == "__main__":
    main()
