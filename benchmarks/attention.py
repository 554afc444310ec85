"""Bare decode by kind of KV cache, at the depths and widths that real paths reach.

Every path shares its prompt with the others and has cells of its own for what it has written, as
in a job. Run it alone: ggml's threads spin. A line per depth and kind, in tokens per second:

    python -m benchmarks.attention --model qwen.gguf --out benchmarks/results

    {"depth": 400, "kv": "split", "fused": false, "keys": "q8_0", "rates": {"1": 22, "8": 90}}
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.machine import machine
from lmsi_cli.engine.cache_layout import PAGE, Flash, Layout
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.llama import LlamaModel, default_threads

DEPTHS, WIDTHS = (64, 256, 400, 1000), (1, 8, 32, 64, 96)
PROMPT = 120  # tokens that all paths share; three quarters of a depth that is less
STEPS = 4  # the first is not counted
KEYS = {"f16": 1, "q8_0": 8}  # ggml's numbers of the types


def main() -> None:
    """Measure one model and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--label", default="")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--keys", nargs="+", choices=KEYS, default=list(KEYS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with closing(LlamaModel(given.model)) as model:
        kinds = product(given.depths, ("unified", "split"), (False, True), given.keys)
        lines = [json.dumps(line(model, *kind)) for kind in kinds]
    name = given.label or given.model.stem
    case = {"case": name, "machine": machine(), "threads": default_threads()}
    text = json.dumps(case).removesuffix("}") + ', "lines": [\n' + ",\n".join(lines) + "\n]}\n"
    (given.out / f"attention-{name}.json").write_text(text)


def line(model: LlamaModel, depth: int, kv: str, fused: bool, keys: str) -> dict[str, Any]:
    """The rates of one kind at one depth."""
    prompt, widest, unified = min(PROMPT, depth * 3 // 4), max(WIDTHS), kv == "unified"
    room = depth + STEPS
    each = room - prompt if unified else -(-room // PAGE) * PAGE
    cells = -(-(PROMPT + (widest + 1) * each) // PAGE) * PAGE if unified else (widest + 1) * each
    layout = Layout(widest, widest + 1, cells, unified, Flash.ON if fused else Flash.OFF)
    params = model.lib.llama_context_default_params()
    params.type_k = KEYS[keys]
    with patch.object(model.lib, "llama_context_default_params", lambda: params):
        context = LlamaContext(model, layout, 0)
    with closing(context):
        rates = {width: rate(context, width, prompt, depth) for width in WIDTHS}
    found = {"depth": depth, "kv": kv, "fused": fused, "keys": keys, "rates": rates}
    print(found, flush=True)
    return found


def rate(context: LlamaContext, width: int, prompt: int, depth: int) -> int:
    """Tokens per second of one width; the median of the counted steps ignores hiccups."""
    ids, source = np.arange(depth, dtype=np.int32) % context.model.n_vocab, context.layout.width
    paths, own = np.arange(width, dtype=np.int32), None
    if context.layout.unified:
        context.read(ids[: depth - prompt], prompt, source)
        own = context.saved(source)
        context.drop(source)
    context.read(ids[: prompt if own else depth], 0, source)
    for path in range(width):
        if own:
            context.restore(own, path)
        context.share(source, path)
    seconds = []
    for position in range(depth, depth + STEPS):
        begun = time.perf_counter()
        context.decode(paths, np.full(width, position), paths, 1)
        context.logits(width)  # waits for the end of the step
        seconds.append(time.perf_counter() - begun)
    for sequence in range(source + 1):
        context.drop(sequence)
    return round(width / statistics.median(seconds[1:]))


if __name__ == "__main__":
    main()
