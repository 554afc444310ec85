"""What is measured while a model trains, and from where on that is alarming.

No labels: the paths of the held-out questions were kept by the vote like all others. Knows nothing
of the loop or of files; what it decides follows from the readings alone, so that a resumed run
comes to the same end. A line of ``validation.jsonl``, in nats per completion token:

    {"step": 120, "loss": 0.231, "divergence": 0.041, "seconds": 1.3}
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.training import data, losses
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "validation.jsonl"
# Validations of a run where eval_every does not say; one costs about as much as half a step.
TIMES, SELDOM = 10, 20
# Cells of the base's next-token distribution that are kept apart; all other tokens share one.
CELLS = 64
# Nats per completion token. Measured on tinymath at rank 16, 30 steps: up to a rate of 0.01, ten
# times its default, the loss rises by at most 0.2 and the divergence to 0.9, and both come back;
# from 0.03 on they are 3.4 and 10.9 at least, and never do.
WORSE, FAR = 0.5, 2.0
PATIENCE = "no lower loss on held-out questions"


class DestroyedError(LmsiError):
    """Training ended before there was any sound adapter."""


class Watched(NamedTuple):
    """Examples to measure on, one per question; ``unseen`` where they are not trained on too."""

    examples: list[data.TokenExample]
    unseen: bool


class Reading(Record, frozen=True, kw_only=True):
    """The adapter after ``step`` steps; step 0 is the base.

    ``loss`` is the mean over the completion tokens. ``divergence`` is the mean Kullback-Leibler
    divergence of the adapted from the base's next-token distribution, at these tokens: a lower
    bound, since all but the base's likeliest tokens are lumped together.
    """

    step: int
    loss: float
    divergence: float
    seconds: float


def due(step: int, total: int, every: int) -> bool:
    """Whether to validate after ``step`` of ``total`` steps; ``every`` 0: some ten times a run."""
    gap = every or max(SELDOM, math.ceil(total / TIMES))
    return step in (0, total) or step % gap == 0


class Validator:
    """Measures a model with an adapter on the same examples again and again."""

    def __init__(self, model: nn.Module, watched: Watched, row_tokens: int, dtype: Dtype) -> None:
        self.model, self.dtype = model, dtype
        self.rows = data.pack(watched.examples, row_tokens)
        # Of the base at a row's C tokens: its likeliest next tokens, (C, cells), and their
        # log-probabilities with a last cell for all others, (C, cells + 1).
        self.cells: list[tuple[torch.Tensor, torch.Tensor]] = []
        with model.disable_adapter():  # type: ignore[operator]
            self.base = self._measured(0)

    def read(self, step: int) -> Reading:
        """Measure the model as it is now; at step 0 the base, whatever the adapter starts from."""
        return self._measured(step) if step else self.base

    def _measured(self, step: int) -> Reading:
        """A reading without dropout or gradients; the first one, of the base, fills the cells."""
        import torch

        started, busy = time.perf_counter(), self.model.training
        loss = divergence = 0.0
        self.model.eval()
        with torch.no_grad():
            for number, row in enumerate(self.rows):
                # log-probabilities of every word at each predicted token, (C, vocabulary)
                logs = losses.logits(self.model, row, self.dtype).log_softmax(-1)
                labels = torch.tensor(row.labels, device=logs.device)[:, None]
                loss -= float(logs.gather(-1, labels).sum())
                if not step:
                    ids = logs.topk(min(CELLS, logs.shape[-1] - 1)).indices
                    self.cells.append((ids, _lump(logs, ids)))
                    continue
                ids, base = self.cells[number]
                own = _lump(logs, ids)
                divergence += float((own.exp() * (own - base)).sum())
        self.model.train(busy)
        tokens = sum(len(row.labels) for row in self.rows)
        seconds = time.perf_counter() - started
        return Reading(
            step=step, loss=loss / tokens, divergence=divergence / tokens, seconds=seconds
        )


def _lump(logs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the cells: those of ``ids``, and of all other tokens together."""
    import torch

    kept = logs.gather(-1, ids)
    rest = (1 - kept.exp().sum(-1, keepdim=True)).clamp_min(1e-7).log()
    return torch.cat((kept, rest), dim=-1)


def alarm(reading: Reading, base: Reading) -> str:
    """Why this reading is no longer that of a working model; empty if it is."""
    if reading.loss > base.loss + WORSE:
        return (
            f"kept paths are less likely than to the base "
            f"(loss {reading.loss:.3g}, base {base.loss:.3g})"
        )
    if reading.divergence > FAR and reading.loss >= base.loss:
        return (
            f"the model is far from the base ({reading.divergence:.3g} nats a token) "
            f"and no better at kept paths"
        )
    return ""


def alarming(stopped: str) -> str:
    """Why training ended early, if that is an alarm; empty if it was only out of patience."""
    return "" if PATIENCE in stopped else stopped


def judge(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> str:
    """Why to stop after the last of these readings, the base's being the first; empty: go on.

    Only of readings on held-out questions (``unseen``) is a higher loss a reason.
    """
    if len(readings) < 2:
        return ""
    last = readings[-1]
    if config.alarms and (why := alarm(last, readings[0])):
        return f"step {last.step}: {why}"
    lowest = min(readings, key=lambda r: r.loss)
    since = sum(r.step > lowest.step for r in readings)
    if unseen and config.patience and since >= config.patience:
        return f"step {last.step}: {PATIENCE} since step {lowest.step}"
    return ""


def best(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> Reading | None:
    """The reading whose adapter is taken: the lowest loss without an alarm; None: none is sound.

    The base's is the first; where they were not taken on held-out questions, the last one is taken.
    """
    sound = [r for r in readings[1:] if not (config.alarms and alarm(r, readings[0]))]
    if not sound:
        return None
    return min(sound, key=lambda r: r.loss) if unseen else sound[-1]
