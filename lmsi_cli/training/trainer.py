"""From examples and a GGUF file to a LoRA adapter in PEFT's format, and a summary of the run.

Knows nothing of llama.cpp, of the command line or of where the examples come from. Its result:

    TrainSummary(steps=98, examples=780, final_loss=0.24, ...), logits
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.training import (
    adapter,
    attention,
    checkpoint,
    data,
    devices,
    load,
    memory,
    processes,
    verify,
)
from lmsi_cli.training.data import Example
from lmsi_cli.training.examples import FEWEST, chosen, one_each, refuse_empty, split
from lmsi_cli.training.header import GgufMeta, read_meta, repository
from lmsi_cli.training.loop import LogLine, Outcome, TrainingRun, fit, plan
from lmsi_cli.training.validation import SELDOM

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 30_000  # a matrix with a side this long holds words and is no typical product
# loss and learning rates of models below and from LARGE parameters on; measured in docs/log.md
AUTO, SMALL_LR, LARGE_LR, LARGE = "auto", 1e-3, 2e-4, 100_000_000
FEW_PAIRS = 32  # four steps; training on fewer was not measured, and plain examples are many more
PAIRS_LR = 5e-5  # of a large model on pairs; measured: at 2e-4 it lost what it gained at this rate
LARGE_ROWS = 768  # tokens of a row: a large model is as fast with them on a CPU, in less memory


class Validation(Record, frozen=True, kw_only=True):
    """Held-out losses, in nats per completion token, and the step whose adapter was taken."""

    questions: int
    base_loss: float
    best_loss: float
    last_loss: float
    best_step: int


class TrainSummary(Record, frozen=True, kw_only=True):
    """What a training run did; losses are means over the first and the last few steps.

    ``stopped`` says why it ended before its last step; empty if it did not. ``reward_margin`` and
    ``reward_accuracy`` (``loop.LogLine``), for pairs only, are means over the last few steps.
    """

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    first_loss: float
    final_loss: float
    seconds: float
    tokens_per_second: float
    dtype: load.Dtype
    peak_rss_mib: int
    validation: Validation | None = None
    stopped: str = ""
    device: str = "cpu"
    peak_device_mib: int = 0
    processes: int = 1
    reward_margin: float | None = None
    reward_accuracy: float | None = None


def train(  # noqa: PLR0913 - the base and what is known of it
    examples: Sequence[Example],
    gguf: Path,
    config: TrainConfig,
    out: Path,
    codec: data.Codec,
    progress: Progress,
    witness: verify.Witness | None = None,
) -> tuple[TrainSummary, verify.LogitsFn]:
    """Train an adapter over ``gguf`` and save it in ``out``; resume a run that was killed.

    Only the completions of ``examples`` count in the loss. The last checkpoint stays, so if the
    proof is interrupted, or fails for an outside reason, no training is lost. ``codec`` is the
    GGUF's own tokenizer; ``witness`` has llama.cpp's logits, which PyTorch's must match first.

    Returns the summary, and the adapted model's logits for the proofs of ``verify``. LmsiError:
    there is nothing to train on, the model cannot be trained, the run does not fit into memory, or
    the loss is NaN.
    """
    memory.prepare()
    memory.give_back()  # free memory that sampling left behind
    # 1. The examples to train on and to validate on, as token ids.
    meta = read_meta(gguf)
    config = suited(config, meta)
    units, dropped, watched, unseen = _material(examples, codec, config, meta, progress)
    # 2. Whether the model can be trained, in which arithmetic, and whether it fits into memory.
    adapter.preflight(gguf, config)
    device = devices.pick(config.device, processes.place().local)
    dtype = devices.pick_dtype(config.dtype, device, _largest_product(meta))
    longest = max(e.length for e in [*units, *watched])
    packs = attention.supports(load.configuration(meta), longest)
    rows = rows_of(config, meta, device) if packs else 0
    config = msgspec.structs.replace(config, row_tokens=rows)
    recomputing = config.gradient_checkpointing == "on"
    if device == "cpu":  # a GPU has a memory of its own
        recomputing = memory.recomputing(meta, units, dtype, config, progress.say)
    progress.say(f"training with --loss {config.loss} --lr {config.lr:g}")
    processes.wait()  # no checkpoint is written before all have read the last one
    # 3. The model with its adapter.
    base = load.load_base(gguf, dtype)
    if witness is not None:
        prompts, wanted = witness
        verify.check_base(verify.torch_logits(base, dtype)(prompts, True), wanted)
    model = adapter.add_lora(base, config, repository(meta.general) or gguf.name).to(device)
    adapter.fill(model, config)
    if recomputing:
        recompute(model)
    # 4. The steps.
    header = checkpoint.begun(units, config, sha256_file(gguf), adapter.fingerprint(config))
    training = TrainingRun(units, config, dtype, out, header, watched, unseen)
    outcome = fit(model, training, progress)
    adapter.save_adapter(model, out)
    return _summary(training, outcome, dropped, device), verify.torch_logits(model, dtype)


def recompute(model: nn.Module) -> None:
    """Keep only each block's input for the backward pass, and compute the block again there.

    Takes a third more time and a fraction of the memory; the gradient is the same.
    """
    # Newer transformers say "activation", and warn about the old name.
    kinds = ("activation", "gradient")
    kind = next(k for k in kinds if hasattr(model, f"{k}_checkpointing_enable"))
    settings = {"use_reentrant": False}  # the other way needs inputs that require a gradient
    enable = getattr(model, f"{kind}_checkpointing_enable")
    enable(**{f"{kind}_checkpointing_kwargs": settings})


def suited(config: TrainConfig, meta: GgufMeta, pairs: int = 0) -> TrainConfig:
    """Replace an ``auto`` loss and rate with those for the model's size and number of pairs."""
    large, loss, rate = meta.parameters >= LARGE, config.loss, config.lr
    if loss == AUTO:
        loss = "scpo" if large and pairs >= FEW_PAIRS else "sft"
    if rate == AUTO:
        rate = (PAIRS_LR if loss == "scpo" else LARGE_LR) if large else SMALL_LR
    return msgspec.structs.replace(config, loss=loss, lr=rate)


def rows_of(config: TrainConfig, meta: GgufMeta, device: str) -> int:
    """Tokens of a row: as set, or else by the device and the model's size."""
    large = device == "cpu" and meta.parameters >= LARGE
    return config.row_tokens or (LARGE_ROWS if large else data.MAX_ROW_TOKENS)


def _material(
    examples: Sequence[Example],
    codec: data.Codec,
    config: TrainConfig,
    meta: GgufMeta,
    progress: Progress,
) -> tuple[list[data.TokenExample], int, list[data.TokenExample], bool]:
    """The examples to train on, how many were too long for that, and those to validate on.

    Also whether these are of held-out questions. Without such, a few trained ones serve for the
    alarms, except in a run of fewer than ``SELDOM`` steps, which is over too soon.
    """
    refuse_empty(examples)
    limit = min(config.max_length, int(meta.values.get("context_length", 0)) or sys.maxsize)
    trained, apart = split(examples, config.val_share)
    units, dropped = data.tokenize(trained, codec, limit)
    left_out = f"{dropped} of {len(trained)} examples are longer than {limit} tokens"
    if not units:
        hint = "raise --max-length as far as the model's context goes"
        raise LmsiError(f"nothing to train on: {left_out}", hint)
    if dropped:
        progress.say(f"{left_out} and left out")
    held = one_each(chosen(apart))
    if not held and config.alarms and len(plan(len(trained), config)) >= SELDOM:
        held = one_each(chosen(trained), FEWEST)
    watched = [e for e in data.tokenize(held, codec, limit)[0] if e.predicted > 0]
    if apart and watched:
        progress.say(
            f"validated on {len(watched)} questions, set apart with their "
            f"{len(apart)} of {len(examples)} examples"
        )
    return units, dropped, watched, bool(apart)


def _largest_product(meta: GgufMeta) -> tuple[int, int]:
    """Outputs and inputs of the largest matrix inside the blocks."""
    shapes = [(s[0], s[1]) for s in meta.shapes.values() if len(s) == 2]
    return max([s for s in shapes if max(s) < VOCABULARY] or shapes, key=math.prod)


def _summary(training: TrainingRun, outcome: Outcome, dropped: int, device: str) -> TrainSummary:
    # One step's loss is noisy (formats vary), so both ends are means of a tenth, at most 20 steps.
    log, readings = outcome.log, outcome.readings
    few = max(1, min(20, len(log) // 10))
    seconds, tokens = sum(line.seconds for line in log), sum(line.tokens for line in log)
    validation = None
    if training.unseen and readings:
        taken = next(r for r in readings if r.step == outcome.best)
        validation = Validation(
            questions=len(training.watched),
            base_loss=readings[0].loss,
            best_loss=taken.loss,
            last_loss=readings[-1].loss,
            best_step=taken.step,
        )
    return TrainSummary(
        steps=len(log),
        examples=len(training.examples),
        dropped_too_long=dropped,
        tokens=tokens,
        first_loss=fmean(line.loss for line in log[:few]),
        final_loss=fmean(line.loss for line in log[-few:]),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        dtype=training.dtype,
        peak_rss_mib=memory.peak_resident() >> 20,
        validation=validation,
        stopped=outcome.stopped,
        device=device,
        peak_device_mib=devices.peak_mib(device),
        processes=processes.place().world,
        reward_margin=_mean(log[-few:], "rewards_margins"),
        reward_accuracy=_mean(log[-few:], "rewards_accuracies"),
    )


def _mean(log: Sequence[LogLine], name: str) -> float | None:
    """The mean of a figure over the steps that have it; None if no step has."""
    found = [value for line in log if isinstance(value := getattr(line, name), float)]
    return fmean(found) if found else None
