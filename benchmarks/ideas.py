"""Settings that lmsi does not use, beside those that it does: what each would gain on one model.

Decodes invented tokens: no text, no answers. The usual settings and each idea take turns, so that a
slow spell of the machine meets all; what is compared is a median of ratios. Run it alone.

    python -m benchmarks.ideas --model qwen2.5-0.5b-Q4_K_M.gguf --out results

A file holds, for every case, the usual rate of each round and that of each idea (tokens/s):

    {"case": "32 paths after 1000, unified", "usual": [112.4, 110.9], "ideas": {"keys q8_0": [...]}}
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine import calibrate
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.layout import Choice, Flash, Need, lay_out
from lmsi_cli.engine.llama import LlamaModel, default_threads
from lmsi_cli.engine.sampling import draw

Q8_0, Q4_0 = 8, 2  # ggml's numbers of its types
MAX_TOKENS = 128
DRAWN_ROWS = 32
STEPS = 10  # that are timed; lmsi's own calibration is content with fewer


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of one case, one number per round."""

    case: str
    usual: list[float]
    ideas: dict[str, list[float]]


def main() -> None:
    """Measure every idea on one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    calibrate.STEPS = STEPS
    model = LlamaModel(given.model)
    found = [
        *(decoding(model, prompt, choice, given.rounds) for prompt, choice in CASES),
        reading(model, given.rounds),
        mixing(model, given.rounds),
        drawing(model, given.rounds),
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"ideas-{given.model.stem}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    print("\n".join(map(table, found)))


CASES = (
    (60, Choice(32, False, Flash.ON)),
    (60, Choice(64, False, Flash.ON)),
    (1000, Choice(32, True, Flash.OFF)),
    (1000, Choice(32, True, Flash.ON)),
    (1000, Choice(32, False, Flash.ON)),
)


def decoding(model: LlamaModel, prompt: int, choice: Choice, rounds: int) -> Found:
    """Steps of paths that have written a little after a shared prompt."""
    need = Need(prompt, prompt, MAX_TOKENS, choice.width)

    def rate(**changes: int) -> float:
        with _changed(model, **changes):
            return calibrate.measure(model, need, [choice], 0)[choice]

    threads = default_threads()
    ideas = {
        "keys q8_0": {"type_k": Q8_0},
        "one thread": {"n_threads_batch": 1},  # a step of many paths is a batch to llama.cpp
        "twice the threads": {"n_threads_batch": 2 * threads},
    }
    if choice.flash == Flash.ON:  # llama.cpp takes quantised values with fused attention only
        ideas["keys, values q8_0"] = {"type_k": Q8_0, "type_v": Q8_0}
        ideas["keys, values q4_0"] = {"type_k": Q4_0, "type_v": Q4_0}
    kind = "unified" if choice.unified else "split"
    name = f"{choice.width} paths after {prompt}, {kind}, fused {choice.flash.name.lower()}"
    return _by_turns(name, rate, ideas, rounds)


def reading(model: LlamaModel, rounds: int) -> Found:
    """Tokens per second of a prompt of 1,000 that is read alone."""
    choice = Choice(32, False, Flash.ON)
    layout = lay_out(Need(1000, 1000, MAX_TOKENS, 32), choice)

    def rate(batch: int = layout.batch, **changes: int) -> float:
        with _changed(model, **changes):
            context = LlamaContext(model, layout._replace(batch=batch), 0)
            seconds = _read(context, 1000)
            context.close()
            return 1000 / seconds

    threads = default_threads()
    ideas = {f"n_ubatch {n}": {"n_ubatch": n} for n in (64, 128, 256)}
    ideas["batch 1024"] = {"batch": 1024}
    ideas["one thread"] = {"n_threads_batch": 1}
    ideas["twice the threads"] = {"n_threads_batch": 2 * threads}
    return _by_turns("reading a prompt of 1000, 512 at once", rate, ideas, rounds)


def mixing(model: LlamaModel, rounds: int) -> Found:
    """A new prompt of 64 tokens while 32 paths run: two decodes, or both in one batch."""

    def rate(together: bool = False, unified: bool = True) -> float:
        choice = Choice(32, unified, Flash.OFF if unified else Flash.ON)
        layout = lay_out(Need(60, 200, MAX_TOKENS, 32), choice)
        context = LlamaContext(model, layout, 0)
        _read(context, 60)
        for path in range(32):
            context.share(32, path)
        seconds = _step_and_prompt(context, together)
        context.close()
        return 96 / seconds

    ideas: dict[str, dict[str, Any]] = {
        "unified, together": {"together": True},
        "split, apart": {"unified": False},
        "split, together": {"unified": False, "together": True},
    }
    return _by_turns("32 paths and a prompt of 64, unified, apart", rate, ideas, rounds)


def _step_and_prompt(context: LlamaContext, together: bool) -> float:
    paths, new = np.arange(32, dtype=np.int32), np.arange(64, dtype=np.int32)
    last = (new == 63).astype(np.int8)
    seconds = []
    for step in range(4):
        begun = time.perf_counter()
        context.batch.clear()
        context.batch.add(paths, np.full(32, 60 + step, np.int32), paths, 1)
        if not together:
            context.decode()
            context.logits(32)
            context.batch.clear()
        context.batch.add(new, new, 33, last)
        context.decode()
        context.logits(1)
        seconds.append(time.perf_counter() - begun)
        context.drop(33)
    return statistics.median(seconds[1:])


def drawing(model: LlamaModel, rounds: int) -> Found:
    """Rows per second: lmsi's draw, log-probabilities included, and llama.cpp's own chain."""
    lib, rows = model.lib, DRAWN_ROWS
    layout = lay_out(Need(8, 8, 64, rows), Choice(rows, False, Flash.ON))
    context = LlamaContext(model, layout, 0)
    paths = np.arange(rows, dtype=np.int32)
    context.batch.add(paths, np.zeros(rows, np.int32), paths, 1)
    context.decode()
    logits, u = context.logits(rows), np.random.default_rng(0).random(rows)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for part in (
        lib.llama_sampler_init_top_k(40),
        lib.llama_sampler_init_temp(0.7),
        lib.llama_sampler_init_dist(0),
    ):
        lib.llama_sampler_chain_add(chain, part)

    def rate(own: bool = True) -> float:
        begun = time.perf_counter()
        for _ in range(5):
            if own:
                draw(logits, u, SamplingConfig())
            else:
                for row in range(rows):
                    lib.llama_sampler_sample(chain, context.raw, row)
        return 5 * rows / (time.perf_counter() - begun)

    found = _by_turns("drawing, rows", rate, {"llama.cpp's samplers": {"own": False}}, rounds)
    lib.llama_sampler_free(chain)
    context.close()
    return found


def _by_turns(
    case: str, rate: Callable[..., float], ideas: dict[str, dict[str, Any]], rounds: int
) -> Found:
    usual: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in ideas}
    for _ in range(rounds):
        usual.append(rate())
        for name, changes in ideas.items():
            found[name].append(rate(**changes))
    return Found(case=case, usual=usual, ideas=found)


@contextmanager
def _changed(model: LlamaModel, **changes: int) -> Iterator[None]:
    """Make llama.cpp's contexts with other parameters than lmsi sets."""
    make = model.lib.llama_init_from_model

    def changed(raw: Any, params: Any) -> Any:  # noqa: ANN401 - ctypes
        for name, value in changes.items():
            setattr(params, name, value)
        return make(raw, params)

    model.lib.llama_init_from_model = changed
    try:
        yield
    finally:
        model.lib.llama_init_from_model = make


def _read(context: LlamaContext, length: int) -> float:
    """Seconds for reading a prompt into the prefix's sequence."""
    begun = time.perf_counter()
    for at in range(0, length, context.batch.capacity):
        chunk = np.arange(at, min(at + context.batch.capacity, length), dtype=np.int32)
        context.batch.clear()
        out = (chunk == length - 1).astype(np.int8)
        context.batch.add(chunk % context.model.n_vocab, chunk, context.layout.width, out)
        context.decode()
    context.logits(1)
    return time.perf_counter() - begun


def table(found: Found) -> str:
    """The median of each idea's ratio to the usual settings of the same round."""
    rows = [f"{found.case}: {statistics.median(found.usual):,.0f} a second"]
    for name, rates in found.ideas.items():
        ratios = [a / b for a, b in zip(rates, found.usual, strict=True)]
        low, high = min(ratios), max(ratios)
        rows.append(f"  {name:22} {statistics.median(ratios):.2f}x ({low:.2f} to {high:.2f})")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
