"""The ceiling: the very decode calls of a run of lmsi, once more with nothing between them.

A run is recorded as its calls to llama.cpp: batches, shares and drops, in order. Replayed on an
empty cache they cost what decoding costs at the same widths and the same cells, without drawing
tokens, text or Python in between. One record:

    [("share", 64, 65), ("decode", <batch of 57 tokens>), ("share", 65, 0), ...]
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job, Measurement, sampling_config
from benchmarks.peers import measured, requests
from lmsi_cli.engine.context import Batch, LlamaContext
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.layout import Layout

Call = tuple[Any, ...]


def run_and_replay(job: Job) -> list[Measurement]:
    """Measure lmsi, then its calls alone."""
    with LlamaEngine(Path(job.model), sampling_config(job)) as engine:
        engine.last_logits([job.prompts[0][:1]])  # see peers.py
        with _recorded() as calls:
            begun = time.perf_counter()
            found = list(engine.generate(requests(job), sampling_config(job), "The answer is"))
            tokens = sum(g.tokens for g in found)
            run = measured("lmsi", job, tokens, begun, len(found))
        layout: Layout = calls.pop(0)[1]
        begun = time.perf_counter()
        context = LlamaContext(engine.model, layout, job.threads)
        steps = _replay(context, calls)
        bare = measured("ceiling", job, tokens, begun, len(found))
        context.close()
    bare.detail.update(steps, width=layout.width, unified=float(layout.unified))
    return [run, bare]


@contextmanager
def _recorded() -> Iterator[list[Call]]:
    """Note every call to a context, its batches copied."""
    calls: list[Call] = []
    kept = {name: getattr(LlamaContext, name) for name in ("__init__", "decode", "share", "drop")}

    def spy(name: str) -> Any:  # noqa: ANN401 - a method
        def method(self: LlamaContext, *given: Any) -> None:  # noqa: ANN401 - passed on
            if name == "__init__":
                calls.append(("layout", given[1]))
            else:
                calls.append(("decode", _copy(self.batch)) if name == "decode" else (name, *given))
            kept[name](self, *given)

        return method

    for name in kept:
        setattr(LlamaContext, name, spy(name))
    try:
        yield calls
    finally:
        for name, method in kept.items():
            setattr(LlamaContext, name, method)


def _copy(batch: Batch) -> Batch:
    n = batch.size
    copy = Batch(n)
    copy.add(batch.token[:n], batch.pos[:n], batch.seq[:n], batch.out[:n])
    return copy


def _replay(context: LlamaContext, calls: list[Call]) -> dict[str, float]:
    """Make the calls; returns how many steps and prompts there were."""
    lib, raws = context.lib, {id(c[1]): c[1].raw(context.lib) for c in calls if c[0] == "decode"}
    for call in calls:
        if call[0] == "decode":
            assert lib.llama_decode(context.raw, raws[id(call[1])]) == 0
            lib.llama_get_logits(context.raw)  # waits until they are there
        else:
            getattr(context, call[0])(*call[1:])
    return {"decodes": float(len(raws))}
