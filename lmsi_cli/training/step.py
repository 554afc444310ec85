"""One optimiser step: which examples it sees, their gradient, and how far it moves.

Knows neither files nor checkpoints; plan and rate are pure functions of the settings, so a resumed
run computes those of an uninterrupted one. What a step says of itself:

    StepFigures(loss=1.92, tokens=1180, unpacked_tokens=2410, completion_tokens=312)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, data, devices, fused, kernels, processes
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn


# Any ids that every vocabulary has; two examples with a common front, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class Rewards(NamedTuple):
    """Means over a step's pairs, in TRL's words.

    A completion's reward is beta times how many nats likelier it is than to the base;
    ``accuracies`` is the share of pairs whose chosen one has the higher reward, ``margins`` the
    mean of how much higher it is.
    """

    chosen: float
    rejected: float
    accuracies: float
    margins: float


class StepFigures(NamedTuple):
    """Mean loss over the step's completion tokens or pairs, and what went through the model."""

    loss: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    rewards: Rewards | None = None

    def named(self) -> dict[str, Any]:
        """The figures by their names in the log."""
        found = self._asdict()
        rewards = found.pop("rewards")
        return found | {
            f"rewards_{k}": v for k, v in (rewards._asdict() if rewards else {}).items()
        }


def merge(figures: StepFigures, parameters: Iterable[nn.Parameter]) -> StepFigures:
    """Make one step out of all processes' parts: ``parameters`` get the gradient of its mean loss.

    Each part's loss, gradient and rewards are already its share of the whole step's means.
    """
    if processes.place().world == 1:
        return figures
    import torch

    rewards = figures.rewards or ()
    summed = processes.total(torch.tensor([*figures[:4], *rewards], dtype=torch.float64)).tolist()
    for p in parameters:  # of a part without examples there is no gradient at all
        p.grad = processes.total(torch.zeros_like(p) if p.grad is None else p.grad)
    tokens, unpacked, predicted = map(int, summed[1:4])
    together = Rewards(*summed[4:]) if rewards else None
    return StepFigures(summed[0], tokens, unpacked, predicted, together)


def plan(count: int, config: TrainConfig) -> list[list[int]]:
    """The example indices of every step.

    Each epoch is its own shuffle; a step may span two. ``max_steps`` beats ``epochs`` and goes
    round as often as it needs. With five examples, two epochs and four to a step,

        plan(5, TrainConfig(epochs=2, batch_size=4)) == [[2, 0, 4, 1], [3, 0, 3, 1], [4, 2]]

    Args:
        count: Number of examples, at least one.
        config: Seed, batch size, and epochs or steps.
    """
    size = config.batch_size
    total = config.max_steps * size if config.max_steps else max(1, round(config.epochs * count))
    order: list[int] = []
    for epoch in range(-(-total // count)):
        indices = list(range(count))
        random.Random(f"{config.seed}/{epoch}").shuffle(indices)
        order.extend(indices)
    return [order[at : min(at + size, total)] for at in range(0, total, size)]


# From the share of the steps after the warm-up that are done to a share of the peak rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of a step: linear warm-up, then as ``config.schedule`` says.

    A cosine and a line both fall to nearly zero; the last step still moves.

    Args:
        step: Counted from 0.
        steps: All steps of the run.
        config: Peak rate, share of warm-up steps, and schedule.
    """
    warm = math.ceil(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * SCHEDULES[config.schedule]((step - warm) / max(1, steps - warm))


def accumulate(
    model: nn.Module, batch: Sequence[data.Unit], row_tokens: int, dtype: Dtype, over: int
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    Examples of unequal weight count so much more or less in that mean, which goes on being over
    all tokens: weights whose mean is 1 over the run leave the size of its gradients as it was.

    Args:
        model: With an adapter; only that collects gradients.
        batch: The step's examples, or a process's part of them.
        row_tokens: Longest packed row; 0 packs nothing.
        dtype: Of the matrix products.
        over: Completion tokens of the whole step, which its loss is the mean over.
    """
    rows, device = data.pack(batch, row_tokens), devices.of(model)
    loss = 0.0
    for row in rows:
        # Each row adds its share, so the step's loss is the mean over all its completion tokens.
        part = row_loss(model, devices.put(data.to_batch(row), device), dtype) / max(1, over)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in data.sequences(batch)),
        completion_tokens=sum(len(row.labels) for row in rows),
    )


def recompute(model: nn.Module) -> None:
    """Keep only each block's input for the backward pass, and compute the block again there.

    Takes a third more time and a fraction of the memory; the gradient is the same.
    """
    # Newer transformers say "activation", and warn at the old name.
    kinds = ("activation", "gradient")
    kind = next(k for k in kinds if hasattr(model, f"{k}_checkpointing_enable"))
    settings = {"use_reentrant": False}  # the other way needs inputs that want a gradient
    enable = getattr(model, f"{kind}_checkpointing_enable")
    enable(**{f"{kind}_checkpointing_kwargs": settings})


def speed_up(model: nn.Module, dtype: Dtype, row_tokens: int) -> bool:
    """Let the model compute with fewer passes over memory where that is the same; says if it is.

    Call it after ``attention.install`` and before anything is trained.

    Args:
        model: With an adapter.
        dtype: Of the matrix products.
        row_tokens: As for ``accumulate``.
    """

    def probe() -> fused.Probe:
        model.zero_grad()
        figures = accumulate(model, _SAMPLE, row_tokens, dtype, over=7)
        wanted = [p for p in model.parameters() if p.requires_grad]
        figures = merge(figures, wanted)  # so that all processes come to one end
        probed = fused.Probe.of(figures.loss, model)
        model.zero_grad()
        return probed

    was = model.training
    model.eval()  # dropout would make two runs differ
    same = fused.install(model, dtype, probe)
    model.train(was)
    return same


def row_loss(model: nn.Module, batch: data.Batch, dtype: Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, each sequence's times its weight.

    A scalar in nats.

    Args:
        model: Any causal model of transformers, with or without an adapter.
        batch: From ``data.to_batch``.
        dtype: bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    losses = token_losses(model, batch, dtype)
    if any(part.weight != 1 for part in batch.parts):
        weights = [part.weight for part in batch.parts for _ in range(part.labels)]
        losses = losses * losses.new_tensor(weights)
    return losses.sum()


def token_losses(model: nn.Module, batch: data.Batch, dtype: Dtype) -> torch.Tensor:
    """The cross-entropy of each completion token of a row, (C,); arguments as of ``row_loss``."""
    import torch
    from torch.nn.functional import cross_entropy

    pieces = attention.argument(model, batch.pieces)
    row = {"input_ids": batch.ids, "position_ids": batch.positions, "use_cache": False, **pieces}
    parts = fused.head_of(model)
    with devices.autocast(batch.ids.device, dtype):
        if parts is None:
            logits = model(**row, logits_to_keep=batch.keep).logits[0].float()
            attention.check(pieces)
            return cross_entropy(logits, batch.labels, reduction="none")
        decoder, head = parts
        hidden = decoder(**row).last_hidden_state[0, batch.keep]
        attention.check(pieces)
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        return kernels.head_losses().apply(hidden, head.weight, batch.labels, kind)  # type: ignore[no-any-return]
