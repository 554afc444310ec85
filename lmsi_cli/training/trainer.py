"""From examples and a GGUF file to a LoRA adapter in PEFT's format, and what that took.

Knows nothing of llama.cpp, of the command line or of where the examples come from. What it gives:

    Trained(TrainSummary(steps=98, examples=780, final_loss=0.24, ...), model, logits)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record
from lmsi_cli.training import (
    adapter,
    attention,
    checkpoint,
    data,
    devices,
    initial_adapter,
    load,
    memory,
    processes,
    validation,
    verify,
)
from lmsi_cli.training.data import Example
from lmsi_cli.training.examples import (
    FEWEST,
    Split,
    chosen,
    one_each,
    refuse_empty,
    split,
)
from lmsi_cli.training.header import GgufMeta, read_meta, repository
from lmsi_cli.training.loop import Outcome, TrainingRun, fit
from lmsi_cli.training.step import plan, recompute

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 30_000  # a matrix this tall holds words and is no typical product


class Validation(Record, frozen=True, kw_only=True):
    """Losses on held-out questions, in nats per completion token, and whose adapter was taken.

    ``divergence`` is that of the adapter taken, as in ``validation.Reading``.
    """

    questions: int
    base_loss: float
    best_loss: float
    last_loss: float
    best_step: int
    divergence: float
    seconds: float


class TrainSummary(Record, frozen=True, kw_only=True):
    """What a training run did; losses are means over the first and the last few steps.

    ``stopped`` says why it ended before its last step; empty if it did not. ``reward_margin`` and
    ``reward_accuracy`` (``step.Rewards``) are those of pairs, over the last few steps.
    """

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
    validation: Validation | None = None
    stopped: str = ""
    device: str = "cpu"
    peak_device_mib: int = 0
    processes: int = 1
    reward_margin: float | None = None
    reward_accuracy: float | None = None


class Trained(NamedTuple):
    """The summary, the model with its adapter, and its logits for the proofs of ``verify``."""

    summary: TrainSummary
    model: nn.Module
    logits: verify.LogitsFn


def train(  # noqa: PLR0913 - the base and what is known of it
    examples: Sequence[Example],
    gguf: Path,
    config: TrainConfig,
    out: Path,
    codec: data.Codec,
    progress: Progress,
    witness: verify.Witness | None = None,
) -> Trained:
    """Train an adapter over ``gguf`` and save it in ``out``; goes on where a killed run stopped.

    The last checkpoint stays (``checkpoint.remove``), so that a proof that was interrupted, or
    failed for a reason outside, costs no training.

    Args:
        examples: Prompt/completion pairs, or with ``loss`` scpo preference pairs; the loss falls
            on completions only.
        gguf: The base model.
        config: All settings.
        out: Folder for adapter_config.json, adapter_model.safetensors, the log and checkpoints.
        codec: The GGUF's own tokenizer.
        progress: Told of every step.
        witness: What llama.cpp computes from ``gguf``; PyTorch must agree before the first step.

    Raises:
        LmsiError: There is nothing to train on, the model cannot be trained, or the loss is NaN.
    """
    memory.prepare()
    memory.give_back()  # what sampling has left
    # 1. What is trained on, as token ids.
    refuse_empty(examples)
    meta, parts = read_meta(gguf), split(examples, config.val_share)
    limit = min(config.max_length, int(meta.values.get("context_length", 0)) or sys.maxsize)
    tokens = _tokens(parts.train, codec, limit)
    units = data.weighed(tokens.examples)
    # 2. Whether the model can be trained, in which arithmetic, and whether that fits.
    adapter.preflight(gguf, config.target, config.layers, config.rank)
    device = devices.pick(config.device, processes.place().local)
    dtype = devices.pick_dtype(config.dtype, device, _largest_product(meta))
    recomputing = _fits(memory.Run(meta, units, dtype), config, device, progress)
    processes.wait()  # no checkpoint is written before all have read the last one
    # 3. The model with its adapter.
    base = load.load_base(gguf, dtype)
    if witness is not None:
        ours = verify.torch_logits(base, dtype)(witness.prompts, True)
        verify.check_base(ours, witness.logits)
    model = adapter.add_lora(base, config, repository(meta.general) or gguf.name).to(device)
    initial_adapter.fill_adapter(model, config)
    if recomputing:
        recompute(model)
    # 4. The steps.
    name = checkpoint.fingerprint(gguf, units, config, initial_adapter.fingerprint(config))
    training = TrainingRun(units, config, dtype, out, name, _watched(parts, config, codec, limit))
    _announce(training, parts, tokens.dropped, limit, progress)
    outcome = fit(model, training, progress)
    adapter.save_adapter(model, out)
    summary = _summary(training, outcome, tokens.dropped, device)
    return Trained(summary, model, verify.torch_logits(model, dtype))


def _tokens(examples: Sequence[Example], codec: data.Codec, limit: int) -> data.TokenSet:
    """Their ids; LmsiError if nothing is left to train on."""
    found = data.tokenize(examples, codec, limit)
    if found.examples:
        return found
    if not examples:
        raise LmsiError("nothing to train on: 0 examples", hint="loosen the filters of `lmsi vote`")
    raise LmsiError(
        f"nothing to train on: {found.dropped} of {len(examples)} examples are longer than "
        f"{limit} tokens",
        hint="raise --max-length as far as the model's context goes",
    )


def _largest_product(meta: GgufMeta) -> tuple[int, int]:
    """Outputs and inputs of the largest matrix inside the blocks."""
    shapes = [(s[0], s[1]) for s in meta.shapes.values() if len(s) == 2]
    return max([s for s in shapes if max(s) < VOCABULARY] or shapes, key=math.prod)


def _fits(run: memory.Run, config: TrainConfig, device: str, progress: Progress) -> bool:
    """Whether activations are computed twice, once it is clear that all fits the memory."""
    if device == "cpu":  # a GPU has a memory of its own
        longest = max(unit.length for unit in run.units)
        if not attention.supports(load.configuration(run.meta), longest):
            config = msgspec.structs.replace(config, row_tokens=0)
        config = memory.choose_checkpointing(run, config, progress.say)
    return config.gradient_checkpointing == "on"


def _watched(
    parts: Split, config: TrainConfig, codec: data.Codec, limit: int
) -> validation.Watched | None:
    """What to measure on: held-out questions; without any, alarms are read off trained ones.

    A run that is over at once has nothing to save.
    """
    examples = one_each(chosen(parts.held))
    steps = len(plan(len(parts.train), config))
    if not examples and config.alarms and steps >= validation.SELDOM:
        examples = one_each(chosen(parts.train), FEWEST)
    tokens = data.tokenize(examples, codec, limit)
    return validation.watched(data.sequences(tokens.examples), unseen=bool(parts.held))


def _announce(
    training: TrainingRun, parts: Split, dropped: int, limit: int, progress: Progress
) -> None:
    if dropped:
        progress.say(
            f"{dropped} of {len(parts.train)} examples are longer than {limit} tokens and left out"
        )
    if training.watched and training.unseen:
        progress.say(
            f"validated on {len(training.watched.examples)} questions, set apart with their "
            f"{len(parts.held)} of {len(parts.train) + len(parts.held)} examples"
        )


def _summary(
    training: TrainingRun,
    outcome: Outcome,
    dropped: int,
    device: str,
) -> TrainSummary:
    # One step's loss is noisy (its formats vary), so both ends are means over a tenth of the run.
    log = outcome.log
    few = max(1, min(20, len(log) // 10))
    seconds, tokens = sum(line.seconds for line in log), sum(line.tokens for line in log)
    return TrainSummary(
        steps=len(log),
        examples=len(training.examples),
        dropped_too_long=dropped,
        tokens=tokens,
        unpacked_tokens=sum(line.unpacked_tokens for line in log),
        completion_tokens=sum(line.completion_tokens for line in log),
        first_loss=fmean(line.loss for line in log[:few]),
        final_loss=fmean(line.loss for line in log[-few:]),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        dtype=training.dtype,
        peak_rss_mib=memory.peak_resident() >> 20,
        validation=_validated(training, outcome),
        stopped=outcome.stopped,
        device=device,
        peak_device_mib=devices.peak_mib(device),
        processes=processes.place().world,
        reward_margin=_mean(line.rewards_margins for line in log[-few:]),
        reward_accuracy=_mean(line.rewards_accuracies for line in log[-few:]),
    )


def _mean(values: Iterable[float | UnsetType]) -> float | None:
    """Their mean; None of steps that have no such figure."""
    found = [v for v in values if isinstance(v, float)]
    return fmean(found) if found else None


def _validated(training: TrainingRun, outcome: Outcome) -> Validation | None:
    if not (training.watched and training.unseen and outcome.readings):
        return None
    taken = next(r for r in outcome.readings if r.step == outcome.best)
    return Validation(
        questions=len(training.watched.examples),
        base_loss=outcome.readings[0].loss,
        best_loss=taken.loss,
        last_loss=outcome.readings[-1].loss,
        best_step=taken.step,
        divergence=taken.divergence,
        seconds=sum(r.seconds for r in outcome.readings),
    )
