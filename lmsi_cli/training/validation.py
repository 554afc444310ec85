"""Validation while a model trains: readings, alarms, and which adapter to take.

Needs no labels: the vote kept the paths of held-out questions like all others. Knows nothing of the
loop or of files; it decides by readings and settings alone, so a resumed run ends the same way. A
line of ``validation.jsonl``, in nats per completion token:

    {"step": 120, "loss": 0.231, "seconds": 1.3}
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.training import data, losses
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    from torch import nn

LOG = "validation.jsonl"
# Without eval_every: validations of a run, and fewest steps between; one costs about half a step.
TIMES, SELDOM = 10, 20
# Nats per completion token. Measured on tinymath at rank 16, 30 steps: up to a rate of 0.01, ten
# times its default, the loss rises by at most 0.2 and recovers; from 0.03 on it rises by at least
# 3.4 and never recovers.
WORSE = 0.5
PATIENCE = "no lower loss on held-out questions"


class DestroyedError(LmsiError):
    """Training ended before there was any sound adapter."""


class Reading(Record, frozen=True, kw_only=True):
    """The mean loss over the completion tokens after ``step`` steps; step 0 is the base."""

    step: int
    loss: float
    seconds: float


def due(step: int, total: int, every: int) -> bool:
    """Whether to validate after ``step`` of ``total`` steps; ``every`` 0: some ten times a run."""
    gap = every or max(SELDOM, math.ceil(total / TIMES))
    return step in (0, total) or step % gap == 0


def measure(model: nn.Module, rows: Sequence[data.Row], dtype: Dtype, step: int) -> Reading:
    """Measure a model on packed rows, without dropout or gradients; at step 0 the base alone."""
    import torch

    started, busy = time.perf_counter(), model.training
    model.eval()
    base = nullcontext() if step else model.disable_adapter()  # type: ignore[operator]
    with torch.no_grad(), base:
        loss = sum(float(losses.token_losses(model, row, dtype).sum()) for row in rows)
    model.train(busy)
    tokens = sum(len(row.labels) for row in rows)
    return Reading(step=step, loss=loss / tokens, seconds=time.perf_counter() - started)


def alarming(stopped: str) -> str:
    """Why training ended early, if that was an alarm; empty if only patience ran out."""
    return "" if PATIENCE in stopped else stopped


def judge(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> str:
    """Why to stop after the last of these readings, of which the base's is first; empty: go on.

    An alarm is always a reason; running out of patience only on held-out questions (``unseen``).
    """
    if len(readings) < 2:
        return ""
    base, last = readings[0], readings[-1]
    if not _sound(last, base, config):
        return (
            f"step {last.step}: kept paths are less likely than to the base "
            f"(loss {last.loss:.3g}, base {base.loss:.3g})"
        )
    lowest = min(readings, key=lambda r: r.loss)
    since = sum(r.step > lowest.step for r in readings)
    if unseen and config.patience and since >= config.patience:
        return f"step {last.step}: {PATIENCE} since step {lowest.step}"
    return ""


def best(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> Reading | None:
    """The reading whose adapter is taken: the lowest loss without an alarm; None: none is sound.

    The first reading is the base's. Without held-out questions, the last sound one is taken.
    """
    sound = [r for r in readings[1:] if _sound(r, readings[0], config)]
    if not sound:
        return None
    return min(sound, key=lambda r: r.loss) if unseen else sound[-1]


def _sound(reading: Reading, base: Reading, config: TrainConfig) -> bool:
    return not config.alarms or reading.loss <= base.loss + WORSE
