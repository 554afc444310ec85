"""The training loop: pairs and a GGUF file in, a LoRA adapter in PEFT's format out.

Picks up its own checkpoint when the same command runs again. Knows nothing of llama.cpp, of the
command line or of where the pairs come from. Writes one line per step to ``log.jsonl``:

    {"step": 1, "loss": 1.92, "lr": 0.0005, "grad_norm": 0.8, "tokens": 1180,
     "unpacked_tokens": 2410, "completion_tokens": 312, "seconds": 0.61}
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import appender, read_records, write_records
from lmsi_cli.records import Progress, Record, TrainExample
from lmsi_cli.training import attention, checkpoint, data, export, load, lora, schedule

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "log.jsonl"
CLIP = 1.0


class LogLine(Record, frozen=True, kw_only=True):
    """One finished step: mean loss over its completion tokens, and what it cost.

    ``tokens`` went through the model; ``unpacked_tokens`` would have, had every example had a
    row of its own. ``seconds`` is wall time.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    seconds: float


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


class Trained(NamedTuple):
    """The summary, and the model with its adapter for the proofs of ``verify``."""

    summary: TrainSummary
    model: nn.Module


class Job(NamedTuple):
    """What a run trains on and where it keeps its state; ``name`` is its fingerprint."""

    examples: list[data.TokenExample]
    config: TrainConfig
    dtype: load.Dtype
    out: Path
    name: str


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
    export.preflight(gguf, config.target)
    dtype = load.pick_dtype(config.dtype)
    model = lora.add_lora(load.load_base(gguf, dtype), config, gguf.name)
    name = checkpoint.fingerprint(gguf, tokens.examples, config)
    job = Job(tokens.examples, config, dtype, out, name)
    log = fit(model, job, progress)
    export.save_adapter(model, out)
    return Trained(_summary(job, log, tokens.dropped), model)


@dataclass
class _State:
    """Where the loop stands; ``whole`` is False while the weights are between two steps."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    row_tokens: int
    done: int = 0
    rng: torch.Tensor | None = None
    whole: bool = True
    log: list[LogLine] = field(default_factory=list)


def fit(model: nn.Module, job: Job, progress: Progress) -> list[LogLine]:
    """Run every step that is not done yet, with checkpoints, and return the log of all steps.

    Args:
        model: With an adapter; its trainable parameters are changed in place.
        job: Examples, settings and folder.
        progress: Told of every step.

    Raises:
        LmsiError: The loss is not a number.
        KeyboardInterrupt: Passed on after a checkpoint is written.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    steps = schedule.plan(len(job.examples), job.config)
    state = _begin(model, job)
    progress.start("training", len(steps))
    if state.done:
        progress.say(f"going on after step {state.done} of {len(steps)}")
    model.train()
    try:
        with appender(job.out / LOG, LogLine) as log:
            for step in range(state.done, len(steps)):
                rate = schedule.learning_rate(step, len(steps), job.config)
                line = _step(model, state, job, steps[step], rate)
                log.write(line)
                _commit(state, line)
                _report(progress, state)
                if state.done % job.config.checkpoint_every == 0 or state.done == len(steps):
                    _save(job, state)
    except KeyboardInterrupt:
        # Torn between two steps, the last regular checkpoint is the truth.
        if state.whole and state.done:
            _save(job, state)
        raise
    finally:
        model.eval()
    return state.log


def _begin(model: nn.Module, job: Job) -> _State:
    import torch

    torch.manual_seed(job.config.seed)
    parameters = lora.trainable(model)
    # Fused: one pass over all parameters instead of hundreds of small kernels.
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=job.config.lr, fused=True, weight_decay=job.config.weight_decay
    )
    longest = max(e.length for e in job.examples)
    packs = attention.supports(getattr(model, "config", None), longest)
    if packs:
        attention.install(model)
    state = _State(parameters, optimizer, data.MAX_ROW_TOKENS if packs else 0)
    state.done = checkpoint.load(job.out, job.name, parameters, optimizer)
    state.rng = torch.get_rng_state()
    state.log = _keep_log(job.out / LOG, state.done)
    return state


def _keep_log(path: Path, done: int) -> list[LogLine]:
    """Cut the log to the steps that the checkpoint holds; a killed run may have written more."""
    kept = list(read_records(path, LogLine))[:done] if done and path.exists() else []
    write_records(path, kept)
    return kept


def _step(model: nn.Module, state: _State, job: Job, indices: list[int], rate: float) -> LogLine:
    import torch

    started = time.perf_counter()
    batch = [job.examples[i] for i in indices]
    rows = data.pack(batch, state.row_tokens)
    predicted = sum(len(row.labels) for row in rows)
    loss = 0.0
    for row in rows:
        # Each row adds its share, so the step's loss is the mean over all its completion tokens.
        part = row_loss(model, data.to_batch(row), job.dtype) / max(1, predicted)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(state.parameters.values(), CLIP))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        names = ", ".join(e.name for e in batch)
        raise LmsiError(
            f"step {state.done + 1}: the loss is not a number; examples: {names}",
            hint="lower --lr, or train with --dtype fp32",
        )
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.whole = False
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return LogLine(
        step=state.done + 1,
        loss=loss,
        lr=rate,
        grad_norm=norm,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in batch),
        completion_tokens=predicted,
        seconds=time.perf_counter() - started,
    )


def row_loss(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, a scalar in nats.

    Args:
        model: Any causal model of transformers, with or without an adapter.
        batch: From ``data.to_batch``.
        dtype: bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    import torch
    from torch.nn.functional import cross_entropy

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        out = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            use_cache=False,
            logits_to_keep=batch.keep,
            **attention.argument(model, batch.pieces),
        )
    return cross_entropy(out.logits[0].float(), batch.labels, reduction="sum")


def _commit(state: _State, line: LogLine) -> None:
    import torch

    state.log.append(line)
    state.rng = torch.get_rng_state()
    state.done += 1
    state.whole = True


def _save(job: Job, state: _State) -> None:
    assert state.rng is not None
    header = checkpoint.Header(fingerprint=job.name, step=state.done)
    checkpoint.save(job.out, header, state.parameters, state.optimizer, state.rng)


def _report(progress: Progress, state: _State) -> None:
    recent = state.log[-20:]
    rate = sum(line.tokens for line in recent) / sum(line.seconds for line in recent)
    progress.advance(
        state.done, loss=round(fmean(line.loss for line in recent), 4), tokens_s=round(rate)
    )


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
