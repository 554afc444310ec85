"""The training loop: from checkpoint to checkpoint, one line per step in ``log.jsonl``.

Picks up its own checkpoint when the same command runs again. Knows nothing of llama.cpp, of the
command line, of GGUF files or of where the examples come from. A line of the log:

    {"step": 1, "loss": 1.92, "lr": 0.0005, "grad_norm": 0.8, "tokens": 1180,
     "unpacked_tokens": 2410, "completion_tokens": 312, "seconds": 0.61}
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import appender, read_records, write_records
from lmsi_cli.records import Progress, Record
from lmsi_cli.training import attention, checkpoint, data, load, lora, pace, schedule
from lmsi_cli.training.heap import Trimmer
from lmsi_cli.training.step import accumulate, speed_up

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "log.jsonl"


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


class Job(NamedTuple):
    """What a run trains on and where it keeps its state; ``name`` is its fingerprint."""

    examples: list[data.TokenExample]
    config: TrainConfig
    dtype: load.Dtype
    out: Path
    name: str


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
    heap: Trimmer = field(default_factory=Trimmer)


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
    _foretell(model, job, state, progress)
    model.train()
    try:
        with appender(job.out / LOG, LogLine) as log:
            for step in range(state.done, len(steps)):
                rate = schedule.learning_rate(step, len(steps), job.config)
                line = _step(model, state, job, steps[step], rate)
                log.write(line)
                _commit(state, line)
                state.heap.after_step()
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


def _foretell(model: nn.Module, job: Job, state: _State, progress: Progress) -> None:
    seconds = pace.foretell(
        model, job.examples, job.config, state.row_tokens, job.dtype, state.done
    )
    progress.say(f"time: about {pace.told(seconds)} of training")


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
    state = _State(parameters, optimizer, job.config.row_tokens if packs else 0)
    speed_up(model, job.dtype, state.row_tokens)
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
    figures = accumulate(model, batch, state.row_tokens, job.dtype)
    norm = float(
        torch.nn.utils.clip_grad_norm_(
            state.parameters.values(), job.config.max_grad_norm or math.inf
        )
    )
    if not (math.isfinite(figures.loss) and math.isfinite(norm)):
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
    seconds = time.perf_counter() - started
    return LogLine(
        step=state.done + 1, lr=rate, grad_norm=norm, seconds=seconds, **figures._asdict()
    )


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
