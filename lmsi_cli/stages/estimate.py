"""What a run of the sampler would cost: memory, tokens and time, from a small trial.

Knows an engine and the requests of the run. A few questions are answered once, to see how long a
path is; the speed is that of the very cache which the run would take. Nothing is written.

    Estimate(width=64, unified=False, cells=16896, cache_bytes=139000000, model_bytes=51559424,
             trial_paths=24, tokens_per_path=63.5, tokens_s=2660.0, seconds=151.2, at_most=False)
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, blocks
from lmsi_cli.engine.cache_layout import bytes_of, need_of, shared_prefix
from lmsi_cli.engine.context_check import split_for
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.records import Record

TRIAL_PATHS = 24
TRIAL_SECONDS = 30.0  # then the paths that still run count with all the tokens they may have
BESIDES_DECODING = 1.08  # drawing, text and copies of prompts, as measured on the embedded model


class Estimate(Record, frozen=True, kw_only=True):
    """Bytes, tokens and seconds of a run to come; ``at_most``: some trial paths were not done."""

    width: int
    unified: bool
    cells: int
    cache_bytes: int
    model_bytes: int
    trial_paths: int
    tokens_per_path: float
    tokens_s: float
    seconds: float
    at_most: bool


def estimate(
    requests: Sequence[Request], engine: LlamaEngine, config: SamplingConfig, trigger: str
) -> Estimate:
    """Try a few paths and reckon up the rest.

    Args:
        requests: All of the run, none of them drawn yet.
        engine: The loaded model.
        config: Settings of the run; an early stop makes the time an upper bound.
        trigger: The task's words before an answer.

    Raises:
        LmsiError: No question fits the context, or the cache does not fit the memory.
    """
    fitting = split_for(engine, requests, config).fitting
    parts = blocks(fitting)
    need = max((need_of(part, config.max_tokens) for part in parts), key=lambda n: n.longest)
    layout, pace = engine.pace(need)
    lengths, open_ = _trial(fitting, engine, config, trigger)
    length = (sum(lengths) + open_ * config.max_tokens) / (len(lengths) + open_)
    paths = sum(len(r.wanted) for r in fitting)
    read = sum(_to_read(part) for part in parts)
    return Estimate(
        width=layout.width,
        unified=layout.unified,
        cells=layout.cells,
        cache_bytes=bytes_of(layout, engine.model.sizes),
        model_bytes=engine.info.bytes,
        trial_paths=len(lengths),
        tokens_per_path=length,
        tokens_s=pace.write / BESIDES_DECODING,
        seconds=paths * length * BESIDES_DECODING / pace.write + read / pace.read,
        at_most=open_ > 0,
    )


def _to_read(block: Sequence[Request]) -> int:
    """Tokens of prompts, of which the common start is read once."""
    prefix = shared_prefix([r.prompt for r in block])
    return prefix + sum(len(r.prompt) - prefix for r in block)


def _trial(
    requests: Sequence[Request], engine: LlamaEngine, config: SamplingConfig, trigger: str
) -> tuple[list[int], int]:
    """Tokens of finished trial paths, and how many were not finished in time."""
    requests = [r for r in requests if r.block == requests[0].block]
    spread = requests[:: max(1, len(requests) // TRIAL_PATHS)][:TRIAL_PATHS]
    each = max(1, TRIAL_PATHS // len(spread))
    asked = [r._replace(wanted=r.wanted[:each]) for r in spread]
    begun, lengths = time.monotonic(), list[int]()
    paths = engine.generate(asked, config, trigger)
    for path in paths:
        lengths.append(path.tokens + (path.first.tokens if path.first else 0))
        if time.monotonic() - begun > TRIAL_SECONDS:
            break
    return lengths, sum(len(r.wanted) for r in asked) - len(lengths)
