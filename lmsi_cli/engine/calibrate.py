"""Which KV cache a job gets: set by hand, measured on this machine, or chosen by a rule.

Knows the settings, a loaded model and the free memory; the arithmetic is in ``cache_layout.py``. A
long job begins with a second of measuring at the middle of paths as long as its own; a shorter one
measures only whether fused attention is faster there, which no rule could tell: it depends on the
CPU. The result is remembered per machine, llama.cpp build, model file (repacked or not), threads
and lengths. It holds the width, whether the cache is unified, and llama.cpp's number for fused
attention:

    [64, false, 1]
"""

from __future__ import annotations

import hashlib
import logging
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from lmsi_cli.atomic import cache_folder
from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.cache_layout import (
    MOST_SEQUENCES,
    CacheKind,
    Flash,
    Layout,
    Need,
    bytes_of,
    lay_out,
    rule_of_thumb,
    usual_attention,
    written,
)
from lmsi_cli.engine.checks import NoMemoryError
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.cpu_check import build_id, recall, remember
from lmsi_cli.engine.llama import LlamaModel, default_threads

LOG = logging.getLogger(__name__)
WIDTHS = (16, 32, 64, 96)
KINDS = (
    CacheKind(0, True, Flash.OFF),
    CacheKind(0, False, Flash.ON),
    CacheKind(0, False, Flash.OFF),
)
STEPS = 3  # timed steps, after one that is not timed
MORE_STEPS = 15  # for a single layout whose speed itself matters, as in a dry run
CLOSE = 0.97  # a narrower width this close to the fastest is preferred: it takes less memory
WORTH = 20  # a job is calibrated if it is this many times the cost of calibrating
# The same for attention alone: paths side by side, rounds of which the best counts, times the cost.
TRIED, ROUNDS, QUICK = 32, 2, 2
BUCKET = 64  # tokens; prompts of about the same length share a measurement
MEMORY_SHARE = 0.7  # of the free memory that the KV cache may take


class Pace(NamedTuple):
    """Tokens per second."""

    write: float
    read: float


def choose(model: LlamaModel, config: EngineConfig, need: Need) -> CacheKind:
    """Choose width, kind and attention for a job; what the user set by hand stays as set.

    On a CPU the rest is measured if the job is long enough, or at least the attention; otherwise
    the rule of thumb decides.
    """
    unnamed = not model.path.exists()  # deleted since it was loaded: no record can be named
    settled = (config.parallel and config.kv != "auto") or config.ctx or model.gpu_layers
    measured = None if settled or unnamed else calibrated(model, need, config.threads)
    found = measured or rule_of_thumb(need, gpu=bool(model.gpu_layers))
    # setting the number of cells means cells that all paths share
    unified = bool(config.ctx) or found.unified if config.kv == "auto" else config.kv == "unified"
    flash = found.flash if unified == found.unified else usual_attention(need, unified)
    if config.flash_attn != "auto":
        flash = Flash[config.flash_attn.upper()]
    elif not (measured or model.gpu_layers or unnamed):
        flash = faster_attention(model, need, CacheKind(TRIED, unified, flash), config.threads)
    return CacheKind(config.parallel or found.width, unified, flash)


def sized(
    model: LlamaModel, config: EngineConfig, need: Need, kind: CacheKind, watched: bool = False
) -> Layout:
    """Lay the cache out; if ``watched``, many questions are open and wait for a decision.

    NoMemoryError: it would take more than ``MEMORY_SHARE`` of the free memory.
    """
    questions = min(kind.width, MOST_SEQUENCES - 1 - kind.width) if watched else 1
    layout = lay_out(need, kind, questions, cells=config.ctx)
    wanted, free = bytes_of(layout, model.sizes), psutil.virtual_memory().available
    if wanted > MEMORY_SHARE * free:
        raise NoMemoryError(
            f"the KV cache needs {wanted / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            hint="lower --max-tokens, --set ctx or --set parallel, or close other programs",
        )
    return layout


def calibrated(model: LlamaModel, need: Need, threads: int) -> CacheKind | None:
    """The kind that decodes such prompts fastest: remembered, or measured for a long job.

    Among kinds of about the same speed the narrowest is taken. An adapter does not change the
    ranking. None if a job is short and nothing is remembered, or if not even the narrowest fits.
    """
    file = _file("calibration", model, need, threads)
    known = recall(file, CacheKind)
    cost = len(KINDS) * (need.longest + (1 + STEPS) * sum(WIDTHS))
    if known is None and need.paths * written(need) > WORTH * cost:
        room = MEMORY_SHARE * psutil.virtual_memory().available
        rates: dict[CacheKind, float] = {}
        for kind in KINDS:
            widths = [kind._replace(width=w) for w in WIDTHS]
            fitting = [k for k in widths if bytes_of(lay_out(need, k), model.sizes) <= room]
            rates |= measure(model, need, fitting, threads)[0] if fitting else {}
        if rates:
            top = max(rates.values())
            close = [k for k, rate in rates.items() if rate >= CLOSE * top]
            known = min(close, key=lambda k: k.width)
            speeds = [(k.width, k.unified, k.flash.name, round(r)) for k, r in rates.items()]
            LOG.info("calibration (width, unified, fused, tokens/s): %s", speeds)
            remember(file, known)
    return known


def faster_attention(model: LlamaModel, need: Need, kind: CacheKind, threads: int) -> Flash:
    """The kind's attention, or the other one if that decodes clearly faster: measured once.

    It stays if the job is too short to measure, and nothing is remembered.
    """
    file = _file(f"attention-{'unified' if kind.unified else 'split'}", model, need, threads)
    known = recall(file, CacheKind)
    other = kind._replace(flash=Flash.OFF if kind.flash == Flash.ON else Flash.ON)
    cost = 2 * ROUNDS * (need.longest + written(need) + (1 + STEPS) * TRIED)
    room = MEMORY_SHARE * psutil.virtual_memory().available
    fits = max(bytes_of(lay_out(need, k), model.sizes) for k in (kind, other)) <= room
    if known is None and fits and need.paths * written(need) > QUICK * cost:
        both = kind, other
        rounds = [[measure(model, need, [k], threads)[0][k] for k in both] for _ in range(ROUNDS)]
        rates = dict(zip(both, map(max, *rounds), strict=True))
        known = other if CLOSE * rates[other] > rates[kind] else kind
        LOG.info("attention (fused, tokens/s): %s", {k.flash.name: round(rates[k]) for k in rates})
        remember(file, known)
    return known.flash if known else kind.flash


def _file(what: str, model: LlamaModel, need: Need, threads: int) -> Path:
    stat, threads = model.path.stat(), threads or default_threads()
    lengths = need.longest // BUCKET, need.prefix // BUCKET, written(need) // BUCKET
    of_file = str(model.path.resolve()), stat.st_size, stat.st_mtime_ns
    facts = (*of_file, model.gpu_layers, model.repacked, threads, *lengths)
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache_folder() / f"{what}-{build_id()}-{name}.json"


def measure(
    model: LlamaModel, need: Need, kinds: list[CacheKind], threads: int, steps: int = STEPS
) -> tuple[dict[CacheKind, float], float]:
    """Tokens written per second by kinds that differ in width alone, narrowest first; tokens read.

    A few steps are timed at the middle of paths, in one cache for the widest kind: what is fast
    in an empty cache may be slow there. It has room for them, even if paths may be shorter.
    """
    room = max(need.max_tokens, written(need) + 1 + steps)
    job = need._replace(paths=kinds[-1].width, max_tokens=room)
    with closing(LlamaContext(model, lay_out(job, kinds[-1]), threads)) as context:
        begun = time.perf_counter()
        own, end = _fill(context, need)
        read = (need.longest + written(need)) / (time.perf_counter() - begun)
        positions = np.arange(end, end + 1 + steps, dtype=np.int32)
        return {k: _rate(context, k.width, own, positions) for k in kinds}, read


def _fill(context: LlamaContext, need: Need) -> tuple[Any, int]:
    """Fill the prefix's sequence with what a path sees at half its length.

    In a unified cache the paths share the prompt, but each has its own copy of what it has
    written, which all others must skip.

    Returns:
        A path's own cells for ``restore`` (None in a split cache), and the position it goes on at.
    """
    sequence, end, own = context.layout.width, need.longest + written(need), None
    ids = np.arange(end, dtype=np.int32) % context.model.n_vocab
    if context.layout.unified:
        context.read(ids[: written(need)], 0, sequence)
        own = context.saved(sequence)
        context.drop(sequence)
        ids, end = ids[: need.longest], max(need.longest, written(need))
    context.read(ids, 0, sequence)
    return own, end


def _rate(context: LlamaContext, width: int, own: Any, positions: NDArray[np.int32]) -> float:  # noqa: ANN401 - ctypes
    """Tokens per second of paths at these positions; the median ignores hiccups."""
    paths = np.arange(width, dtype=np.int32)
    for path in range(width):
        if own is not None:
            context.restore(own, path)
        context.share(context.layout.width, path)
    seconds = []
    for position in positions:
        begun = time.perf_counter()
        context.decode(paths, np.full(width, position), paths, 1)
        context.logits(width)  # waits for the end of the step
        seconds.append(time.perf_counter() - begun)
    for path in range(width):
        context.drop(path)
    return width / statistics.median(seconds[1:])
