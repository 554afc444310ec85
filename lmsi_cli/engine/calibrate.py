"""Which cache and which width decode fastest, found by decoding a little and then remembered.

Knows one loaded model and the layouts to try; nothing of questions or files of a run. Measured once
per machine, llama.cpp build, model file (repacked or not), threads and prompt length, and only
where the work to be done is many times the measurement. What is kept, in the cache folder:

    {"width": 64, "unified": false, "flash": 1,
     "rates": {"unified 32": 2101.5, "split 64 fused": 2690.0}}
"""

from __future__ import annotations

import hashlib
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from lmsi_cli.engine.builds import build_id
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.layout import Choice, Flash, Layout, Need, lay_out, written
from lmsi_cli.engine.llama import LlamaModel, default_threads
from lmsi_cli.engine.probe import cache_folder
from lmsi_cli.records import Record

LOG = logging.getLogger(__name__)
WIDTHS = (16, 32, 64, 96)
KINDS = (Choice(0, True, Flash.OFF), Choice(0, False, Flash.ON), Choice(0, False, Flash.OFF))
STEPS = 3  # that are timed, after one that is not
MORE_STEPS = 15  # for a forecast: one layout, and the figure itself is told
CLOSE = 0.97  # a narrower width that is this good is preferred: it takes less memory
WORTH = 20  # times its own cost that a calibration's job must have
BUCKET = 64  # tokens; prompts of about the same length share a measurement


class Calibration(Record, frozen=True, kw_only=True):
    """The best of what was tried, and tokens per second of everything tried."""

    width: int
    unified: bool
    flash: int
    rates: dict[str, float]

    @property
    def choice(self) -> Choice:
        """The best, as the layout wants it."""
        return Choice(self.width, self.unified, Flash(self.flash))


class Pace(NamedTuple):
    """Tokens per second."""

    write: float
    read: float


def worth_it(need: Need) -> bool:
    """Whether the job is long enough; both sides counted in tokens."""
    cost = len(KINDS) * (need.longest + (1 + STEPS) * sum(WIDTHS))
    return need.paths * written(need) > WORTH * cost


def recall(model: LlamaModel, need: Need, threads: int) -> Calibration | None:
    """Look a former calibration up; see ``calibrate``."""
    try:
        return msgspec.json.decode(_file(model, need, threads).read_bytes(), type=Calibration)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError):
        return None


def calibrate(
    model: LlamaModel, need: Need, threads: int, fits: Callable[[Layout], bool]
) -> Calibration | None:
    """Measure and remember how this model decodes such prompts fastest.

    Args:
        model: The loaded model; its adapter, if any, does not change the order.
        need: The job.
        threads: As configured; 0 for the default.
        fits: Whether a layout may be allocated; what does not fit is not tried.

    Returns:
        None if not even the narrowest fits.
    """
    rates = _measure_all(model, need, threads, fits)
    if not rates:
        return None
    found = _best(rates)
    LOG.info(
        "calibration: %s tokens/s", ", ".join(f"{k}: {v:,.0f}" for k, v in found.rates.items())
    )
    _remember(_file(model, need, threads), found)
    return found


def _file(model: LlamaModel, need: Need, threads: int) -> Path:
    stat = model.path.stat()
    facts = (
        str(model.path.resolve()),
        stat.st_size,
        stat.st_mtime_ns,
        model.gpu_layers,
        model.repacked,
        threads or default_threads(),
        need.longest // BUCKET,
        need.prefix // BUCKET,
        written(need) // BUCKET,
    )
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache_folder() / f"calibration-{build_id()}-{name}.json"


def _measure_all(
    model: LlamaModel, need: Need, threads: int, fits: Callable[[Layout], bool]
) -> dict[Choice, float]:
    rates: dict[Choice, float] = {}
    for kind in KINDS:
        choices = [kind._replace(width=w) for w in WIDTHS]
        choices = [c for c in choices if fits(lay_out(need, c))]
        if choices:
            rates.update(measure(model, need, choices, threads))
    return rates


def measure(
    model: LlamaModel, need: Need, choices: list[Choice], threads: int
) -> dict[Choice, float]:
    """Tokens per second of choices that differ in width alone, narrowest first.

    Some steps are timed in one cache, the widest choice's, in the middle of paths: what is fast
    beside an empty cache may be slow there. Reading prompts is not timed.
    """
    with _prompted(model, need, choices[-1], threads) as (context, cells, _):
        return {c: _rate(context, c.width, cells) for c in choices}


def pace(model: LlamaModel, need: Need, choice: Choice, threads: int) -> Pace:
    """Tokens per second that a choice writes, and that it reads of prompts."""
    with _prompted(model, need, choice, threads) as (context, cells, read):
        return Pace(_rate(context, choice.width, cells, MORE_STEPS), read)


@contextmanager
def _prompted(
    model: LlamaModel, need: Need, choice: Choice, threads: int
) -> Iterator[tuple[LlamaContext, _Cells, float]]:
    """A cache with a prompt, a path's own cells, and tokens of a prompt read per second.

    It has room for what is measured, even where paths may have fewer tokens than that.
    """
    room = max(need.max_tokens, written(need) + 1 + MORE_STEPS)
    job = need._replace(paths=choice.width, max_tokens=room)
    context = LlamaContext(model, lay_out(job, choice), threads)
    try:
        begun = time.perf_counter()
        cells = _fill(context, need)
        yield context, cells, cells.read / (time.perf_counter() - begun)
    finally:
        context.close()


class _Cells(NamedTuple):
    """Cells that a path has alone, as bytes; where it goes on; tokens read to make them."""

    own: Any  # a ctypes buffer, or None where all are its own anyway
    end: int
    read: int


def _fill(context: LlamaContext, need: Need) -> _Cells:
    """Read what a path sees at half its length into the prefix's sequence.

    In a unified cache the prompt is shared, and what a path has written is a copy for each, which
    all others walk past.
    """
    sequence, own = context.layout.width, written(need)
    if not context.layout.unified:
        _read(context, need.longest + own)
        return _Cells(None, need.longest + own, need.longest + own)
    _read(context, own)
    saved = context.saved(sequence)
    context.drop(sequence)
    _read(context, need.longest)
    return _Cells(saved, max(need.longest, own), need.longest + own)


def _read(context: LlamaContext, length: int) -> None:
    for at in range(0, length, context.batch.capacity):
        chunk = np.arange(at, min(at + context.batch.capacity, length), dtype=np.int32)
        context.batch.clear()
        context.batch.add(chunk % context.model.n_vocab, chunk, context.layout.width, 0)
        context.decode()


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


def _best(rates: dict[Choice, float]) -> Calibration:
    top = max(rates.values())
    choice = min((c for c, rate in rates.items() if rate >= CLOSE * top), key=lambda c: c.width)
    named = {_name(c): rate for c, rate in rates.items()}
    return Calibration(
        width=choice.width, unified=choice.unified, flash=int(choice.flash), rates=named
    )


def _name(choice: Choice) -> str:
    kind = "unified" if choice.unified else "split"
    return f"{kind} {choice.width}{' fused' if choice.flash == Flash.ON else ''}"


def _remember(file: Path, found: Calibration) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".tmp")
        fresh.write_bytes(msgspec.json.encode(found))
        fresh.replace(file)
    except OSError:
        return  # a read-only home costs a measurement at every start, nothing else
