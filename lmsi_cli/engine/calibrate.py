"""Which KV cache a job gets: set by hand, measured on this machine, or chosen by a rule.

Knows the settings, a loaded model and the free memory; the arithmetic is in ``cache_layout.py``. A
long job begins with a second of measuring, in the middle of paths as long as its own. The result is
remembered per machine, llama.cpp build, model file (repacked or not), threads and prompt length, as
width, whether it is unified, and fused attention by llama.cpp's number:

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
STEPS = 3  # that are timed, after one that is not
MORE_STEPS = 15  # for a dry run: one layout, and the figure itself is shown
CLOSE = 0.97  # a narrower width that is this good is preferred: it takes less memory
WORTH = 20  # times its own cost that a calibration's job must have
BUCKET = 64  # tokens; prompts of about the same length share a measurement
MEMORY_SHARE = 0.7  # of the free memory that the KV cache may take


class Pace(NamedTuple):
    """Tokens per second."""

    write: float
    read: float


def choose(model: LlamaModel, config: EngineConfig, need: Need) -> CacheKind:
    """Width, kind and attention for a job; what the user set by hand stays as set.

    Measured where it is worth it and something is left to choose; else by the rule.
    """
    settled = bool(config.parallel and config.kv != "auto") or bool(config.ctx)
    found = None
    if not settled and not model.gpu_layers:
        found = calibrated(model, need, config.threads)
    found = found or rule_of_thumb(need, gpu=bool(model.gpu_layers))
    # a number of cells means cells that all paths share
    unified = bool(config.ctx) or found.unified if config.kv == "auto" else config.kv == "unified"
    flash = found.flash if unified == found.unified else usual_attention(need, unified)
    if config.flash_attn != "auto":
        flash = Flash[config.flash_attn.upper()]
    return CacheKind(config.parallel or found.width, unified, flash)


def sized(
    model: LlamaModel, config: EngineConfig, need: Need, kind: CacheKind, watched: bool = False
) -> Layout:
    """Lay the cache out; where questions are watched, many are open and wait for a decision.

    Raises:
        NoMemoryError: It would take more of the free memory than it may.
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
    """What decodes such prompts fastest: as remembered, or measured if the job is long enough.

    Of widths that are about as fast the narrowest is taken.

    Args:
        model: The loaded model; its adapter, if any, does not change the order.
        need: The job.
        threads: As configured; 0 for the default.

    Returns:
        None if the job is short and nothing is remembered, or if not even the narrowest fits.
    """
    if not model.path.exists():  # gone since it was loaded, and so not to be named
        return None
    file = _file(model, need, threads)
    known = recall(file, CacheKind)
    cost = len(KINDS) * (need.longest + (1 + STEPS) * sum(WIDTHS))
    if known is None and need.paths * written(need) > WORTH * cost:
        room = MEMORY_SHARE * psutil.virtual_memory().available
        rates: dict[CacheKind, float] = {}
        for kind in KINDS:
            widths = [kind._replace(width=w) for w in WIDTHS]
            fitting = [k for k in widths if bytes_of(lay_out(need, k), model.sizes) <= room]
            rates |= measure(model, need, fitting, threads) if fitting else {}
        if rates:
            top = max(rates.values())
            close = [k for k, rate in rates.items() if rate >= CLOSE * top]
            known = min(close, key=lambda k: k.width)
            speeds = [(k.width, k.unified, k.flash.name, round(r)) for k, r in rates.items()]
            LOG.info("calibration (width, unified, fused, tokens/s): %s", speeds)
            remember(file, known)
    return known


def _file(model: LlamaModel, need: Need, threads: int) -> Path:
    stat, threads = model.path.stat(), threads or default_threads()
    lengths = need.longest // BUCKET, need.prefix // BUCKET, written(need) // BUCKET
    of_file = str(model.path.resolve()), stat.st_size, stat.st_mtime_ns
    facts = (*of_file, model.gpu_layers, model.repacked, threads, *lengths)
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache_folder() / f"calibration-{build_id()}-{name}.json"


def measure(
    model: LlamaModel, need: Need, kinds: list[CacheKind], threads: int
) -> dict[CacheKind, float]:
    """Tokens per second of kinds that differ in width alone, narrowest first.

    Some steps are timed in one cache, the widest kind's, in the middle of paths: what is fast
    beside an empty cache may be slow there. Reading prompts is not timed.
    """
    with _cache(model, need, kinds[-1], threads) as context:
        cells = _fill(context, need)
        return {k: _rate(context, k.width, cells) for k in kinds}


def pace(model: LlamaModel, need: Need, kind: CacheKind, threads: int) -> Pace:
    """Tokens per second that a kind of cache writes, and that it reads of prompts."""
    with _cache(model, need, kind, threads) as context:
        cells = _fill(context, need)
        return Pace(_rate(context, kind.width, cells, MORE_STEPS), cells.read)


def _cache(model: LlamaModel, need: Need, kind: CacheKind, threads: int) -> closing[LlamaContext]:
    """A cache with room for what is measured, even where paths may have fewer tokens than that."""
    room = max(need.max_tokens, written(need) + 1 + MORE_STEPS)
    job = need._replace(paths=kind.width, max_tokens=room)
    return closing(LlamaContext(model, lay_out(job, kind), threads))


class _Cells(NamedTuple):
    """Cells that a path has alone, as bytes; where it goes on; tokens of a prompt read a second."""

    own: Any  # a ctypes buffer, or None where all are its own anyway
    end: int
    read: float


def _fill(context: LlamaContext, need: Need) -> _Cells:
    """Read what a path sees at half its length into the prefix's sequence.

    In a unified cache the prompt is shared, and what a path has written is a copy for each, which
    all others walk past.
    """
    sequence, length = context.layout.width, need.longest + written(need)
    ids = np.arange(length, dtype=np.int32) % context.model.n_vocab
    begun, saved, end = time.perf_counter(), None, length
    if context.layout.unified:
        context.read(ids[: written(need)], 0, sequence)
        saved = context.saved(sequence)
        context.drop(sequence)
        ids, end = ids[: need.longest], max(need.longest, written(need))
    context.read(ids, 0, sequence)
    return _Cells(saved, end, length / (time.perf_counter() - begun))


def _rate(context: LlamaContext, width: int, cells: _Cells, steps: int = STEPS) -> float:
    """Tokens per second of ``width`` paths in the middle; a hiccup does not count."""
    paths = np.arange(width, dtype=np.int32)
    for path in range(width):
        if cells.own is not None:
            context.restore(cells.own, path)
        context.share(context.layout.width, path)
    seconds = []
    for step in range(1 + steps):
        begun = time.perf_counter()
        context.batch.clear()
        context.batch.add(paths, np.full(width, cells.end + step, np.int32), paths, 1)
        context.decode()
        context.logits(width)  # waits for the end of the step
        seconds.append(time.perf_counter() - begun)
    for path in range(width):
        context.drop(path)
    return width / statistics.median(seconds[1:])
