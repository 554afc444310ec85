"""From pairs and a GGUF file to a LoRA adapter in PEFT's format, and what that took.

Knows nothing of llama.cpp, of the command line or of where the pairs come from. What it tells:

    TrainSummary(steps=98, examples=780, first_loss=0.61, final_loss=0.24, seconds=61.0, ...)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record, TrainExample
from lmsi_cli.training import (
    arithmetic,
    checkpoint,
    data,
    export,
    fitting,
    heap,
    load,
    lora,
    memory,
)
from lmsi_cli.training.loop import Job, LogLine, fit
from lmsi_cli.training.step import recompute

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 30_000  # a matrix this tall holds words and is no typical product


class TrainSummary(Record, frozen=True, kw_only=True):
    """What a training run did; losses are means over the first and the last few steps."""

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    first_loss: float
    final_loss: float
    seconds: float
    tokens_per_second: float
    dtype: load.Dtype
    peak_rss_mib: int
    foretold_rss_mib: int = 0


class Trained(NamedTuple):
    """The summary, and the model with its adapter for the proofs of ``verify``."""

    summary: TrainSummary
    model: nn.Module


def train(
    examples: Sequence[TrainExample],
    gguf: Path,
    config: TrainConfig,
    out: Path,
    codec: data.Codec,
    progress: Progress,
) -> Trained:
    """Train an adapter over ``gguf`` and save it in ``out``; goes on where a killed run stopped.

    The last checkpoint stays (``checkpoint.remove``), so that a proof that was interrupted, or
    failed for a reason outside, costs no training.

    Args:
        examples: Prompt/completion pairs; the loss falls on completions only.
        gguf: The base model.
        config: All settings.
        out: Folder for adapter_config.json, adapter_model.safetensors, the log and checkpoints.
        codec: The GGUF's own tokenizer.
        progress: Told of every step.

    Raises:
        LmsiError: There is nothing to train on, the model cannot be trained, or the loss is NaN.
    """
    heap.prepare()
    heap.give_back()  # what sampling has left
    lora.refuse_dora(config)
    tokens = data.tokenize(examples, codec, config.max_length)
    if not tokens.examples:
        raise LmsiError(
            f"nothing to train on: {len(examples)} examples, "
            f"{tokens.dropped} longer than {config.max_length} tokens",
            hint="loosen the filters of `lmsi vote`, or raise --max-length",
        )
    if tokens.dropped:
        progress.say(
            f"{tokens.dropped} of {len(examples)} examples are longer than "
            f"{config.max_length} tokens and left out"
        )
    export.preflight(gguf, config.target, config.layers, config.rank)
    dtype = _dtype(config, gguf)
    run = memory.outline(gguf, tokens.examples, dtype)
    config, chosen, checkpointing, foretold, _ = fitting.settle(run, config, out, progress)
    model = lora.add_lora(load.load_base(gguf, dtype), config, gguf.name)
    recompute(model, checkpointing)
    name = checkpoint.fingerprint(gguf, chosen, config)
    job = Job(chosen, config, dtype, out, name)
    log = fit(model, job, progress)
    export.save_adapter(model, out)
    summary = _summary(job, log, len(examples) - len(chosen))
    told = msgspec.structs.replace(summary, foretold_rss_mib=foretold.peak >> 20)
    return Trained(told, model)


def _dtype(config: TrainConfig, gguf: Path) -> load.Dtype:
    """As asked for; left to us, bf16 where the CPU has it and is seen to be faster with it."""
    dtype = load.pick_dtype(config.dtype)
    if config.dtype != "auto" or dtype == "fp32":
        return dtype
    shapes = [s for s in load.read_meta(gguf).shapes.values() if len(s) == 2]
    inner = [s for s in shapes if max(s) < VOCABULARY] or shapes
    out, into = max(inner, key=math.prod)
    return "bf16" if arithmetic.compare(out, into).pays else "fp32"


def _summary(job: Job, log: list[LogLine], dropped: int) -> TrainSummary:
    # One step's loss is noisy (its formats vary), so both ends are means over a tenth of the run.
    few = max(1, min(20, len(log) // 10))
    seconds = sum(line.seconds for line in log)
    tokens = sum(line.tokens for line in log)
    return TrainSummary(
        steps=len(log),
        examples=len(job.examples),
        dropped_too_long=dropped,
        tokens=tokens,
        unpacked_tokens=sum(line.unpacked_tokens for line in log),
        completion_tokens=sum(line.completion_tokens for line in log),
        first_loss=fmean(line.loss for line in log[:few]),
        final_loss=fmean(line.loss for line in log[-few:]),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        dtype=job.dtype,
        peak_rss_mib=_peak_rss_mib(),
    )


def _peak_rss_mib() -> int:
    """The process's largest resident size; on Windows the present one."""
    try:
        import resource
    except ImportError:
        import psutil

        return int(psutil.Process().memory_info().rss) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10  # macOS counts bytes, Linux KiB
