"""Which cache and which width decode fastest, found by decoding a little and then remembered.

Knows one loaded model and the layouts to try; nothing of questions or files of a run. Measured once
per machine, llama.cpp build, model file (repacked or not), threads and prompt length, and only
where the work to be done is many times the measurement. What is kept, in the cache folder:

    {"width": 64, "unified": false, "flash": 1, "rates": {"unified 32": 2101.5, "split 64": 2690.0}}
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
from lmsi_cli.engine.layout import Choice, Flash, Layout, Need, lay_out
from lmsi_cli.engine.llama import LlamaModel, default_threads
from lmsi_cli.engine.probe import cache_folder
from lmsi_cli.records import Record

LOG = logging.getLogger(__name__)
WIDTHS = (16, 32, 64, 96)
KINDS = (Choice(0, True, Flash.OFF), Choice(0, False, Flash.ON))
STEPS = 3  # that are timed, after one that is not
MORE_STEPS = 15  # for a forecast: one layout, and the figure itself is told
WRITTEN = 48  # tokens that a path has written when a step is timed
CLOSE = 0.97  # a narrower width that is this good is preferred: it takes less memory
WORTH = 20  # times its own cost that a calibration's job must have
TYPICAL = 4  # a path ends, by experience, after this fraction of the tokens it may have
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
    return need.paths * need.max_tokens / TYPICAL > WORTH * cost


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

    Some steps are timed in one cache, the widest choice's; reading prompts is not.
    """
    with _prompted(model, need, choices[-1], threads) as (context, written, _):
        return {c: _rate(context, c.width, need.longest, written) for c in choices}


def pace(model: LlamaModel, need: Need, choice: Choice, threads: int) -> Pace:
    """Tokens per second that a choice writes, and that it reads of prompts."""
    with _prompted(model, need, choice, threads) as (context, written, read):
        return Pace(_rate(context, choice.width, need.longest, written, MORE_STEPS), read)


@contextmanager
def _prompted(
    model: LlamaModel, need: Need, choice: Choice, threads: int
) -> Iterator[tuple[LlamaContext, Any, float]]:
    """A cache with a prompt, the prompt's first cells as bytes, and tokens read per second."""
    context = LlamaContext(model, lay_out(need._replace(paths=choice.width), choice), threads)
    try:
        begun = time.perf_counter()
        written = _read_prompt(context, need.longest)
        yield context, written, need.longest / (time.perf_counter() - begun)
    finally:
        context.close()


def _read_prompt(context: LlamaContext, length: int) -> Any:  # noqa: ANN401 - a ctypes buffer
    """Read a prompt into the prefix's sequence; returns its first cells as llama.cpp saves them."""
    sequence, done, state = context.layout.width, 0, None
    for size in (min(WRITTEN, length), length - min(WRITTEN, length)):
        for at in range(done, done + size, context.batch.capacity):
            chunk = np.arange(at, min(at + context.batch.capacity, done + size), dtype=np.int32)
            context.batch.clear()
            context.batch.add(chunk % context.model.n_vocab, chunk, sequence, 0)
            context.decode()
        done += size
        state = state or context.saved(sequence)
    return state


def _rate(
    context: LlamaContext,
    width: int,
    start: int,
    written: Any,  # noqa: ANN401 - a ctypes buffer
    steps: int = STEPS,
) -> float:
    """Tokens per second of ``width`` paths that follow the prompt; a hiccup does not count."""
    paths = np.arange(width, dtype=np.int32)
    for path in range(width):
        if context.layout.unified:  # cells of its own, which all others walk past
            context.restore(written, path)
        context.share(context.layout.width, path)
    seconds = []
    for step in range(1 + steps):
        begun = time.perf_counter()
        context.batch.clear()
        context.batch.add(paths, np.full(width, start + step, np.int32), paths, 1)
        context.decode()
        context.logits(width)  # waits for the end of the step
        seconds.append(time.perf_counter() - begun)
    for path in range(width):
        context.drop(path)
    return width / statistics.median(seconds[1:])


def _best(rates: dict[Choice, float]) -> Calibration:
    top = max(rates.values())
    choice = min((c for c, rate in rates.items() if rate >= CLOSE * top), key=lambda c: c.width)
    named = {f"{'unified' if c.unified else 'split'} {c.width}": r for c, r in rates.items()}
    return Calibration(
        width=choice.width, unified=choice.unified, flash=int(choice.flash), rates=named
    )


def _remember(file: Path, found: Calibration) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".tmp")
        fresh.write_bytes(msgspec.json.encode(found))
        fresh.replace(file)
    except OSError:
        return  # a read-only home costs a measurement at every start, nothing else
