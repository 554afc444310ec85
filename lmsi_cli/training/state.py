"""Where a training run stands: its records, and how it comes back from the disk.

Knows checkpoints and logs; nothing of how a step or a validation is made.

    state = State(parameters, optimizer, row_tokens=1536, steps=schedule.plan(780, config))
    resume(state, job, progress)     # after a kill: state.done == 300, weights and moments filled
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Progress, Record
from lmsi_cli.training import checkpoint, data, load
from lmsi_cli.training.heap import Trimmer
from lmsi_cli.training.validation import Reading, Validator, Watched

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "log.jsonl"

R = TypeVar("R", bound=Record)


class LogLine(Record, frozen=True, kw_only=True):
    """One finished step: mean loss over its completion tokens, and what it cost.

    ``tokens`` went through the model; ``unpacked_tokens`` would have, had every example had a
    row of its own. ``seconds`` is wall time. The rewards are those of ``step.Rewards``, under
    TRL's names, and only of a step of pairs; its loss is the mean over these.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    seconds: float
    rewards_chosen: float | UnsetType = msgspec.field(default=UNSET, name="rewards/chosen")
    rewards_rejected: float | UnsetType = msgspec.field(default=UNSET, name="rewards/rejected")
    rewards_accuracies: float | UnsetType = msgspec.field(default=UNSET, name="rewards/accuracies")
    rewards_margins: float | UnsetType = msgspec.field(default=UNSET, name="rewards/margins")


class Job(NamedTuple):
    """What a run trains on and where it keeps its state; ``name`` is its fingerprint."""

    examples: Sequence[data.Unit]
    config: TrainConfig
    dtype: load.Dtype
    out: Path
    name: str
    watched: Watched | None = None

    @property
    def unseen(self) -> bool:
        """Whether it is validated on questions that it is not trained on."""
        return self.watched is not None and self.watched.unseen


class Outcome(NamedTuple):
    """All steps and validations of a run, whose weights were taken, and what ended it early.

    ``best`` is None where nothing was validated: then the last step's weights were taken.
    """

    log: list[LogLine]
    readings: list[Reading]
    best: int | None
    stopped: str


@dataclass
class State:
    """Where the loop stands; ``whole`` is False while the weights are between two steps."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    row_tokens: int
    steps: Sequence[list[int]]
    done: int = 0
    saved: float = field(default_factory=lambda: time.monotonic())
    rng: dict[str, torch.Tensor] = field(default_factory=dict)
    whole: bool = True
    log: list[LogLine] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    validator: Validator | None = None
    stopped: str = ""
    heap: Trimmer = field(default_factory=Trimmer)


def resume(state: State, job: Job, progress: Progress) -> None:
    """Bring back what the checkpoint holds, and the threads it was computed with."""
    import torch

    wanted = checkpoint.Header(fingerprint=job.name, step=0, settings=checkpoint.told(job.config))
    found = checkpoint.load(job.out, wanted, state.parameters, state.optimizer)
    if found is None:
        (job.out / checkpoint.BEST).unlink(missing_ok=True)
        return
    state.done = found.step
    now = torch.get_num_threads()
    if found.threads <= max(now, _cores()):
        torch.set_num_threads(found.threads)
    else:  # more threads than cores would spin
        progress.say(
            f"begun with {found.threads} threads, {now} now: the loss may differ in its last digits"
        )


def _cores() -> int:
    """Processors that this process may use."""
    tell = getattr(os, "process_cpu_count", None)  # from Python 3.13 on
    if tell is not None:
        return tell() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep(path: Path, kind: type[R], done: int) -> list[R]:
    """Cut a log to what the checkpoint holds; a killed run may have written more."""
    kept = [r for r in read_records(path, kind) if r.step <= done] if path.exists() else []  # type: ignore[attr-defined]
    write_records(path, kept if done else [])
    return kept if done else []


def save(job: Job, state: State) -> None:
    """Write the checkpoint; the weights must not be between two steps."""
    told = header(job, state)
    checkpoint.save(job.out, told, state.parameters, state.optimizer, state.rng)
    state.saved = time.monotonic()


def header(job: Job, state: State) -> checkpoint.Header:
    """What a checkpoint made now says of itself."""
    import torch

    return checkpoint.Header(
        fingerprint=job.name,
        step=state.done,
        threads=torch.get_num_threads(),
        settings=checkpoint.told(job.config),
    )
