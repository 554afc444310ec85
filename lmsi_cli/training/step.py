"""One optimiser step: which examples it sees, their gradient, and how far it moves.

Knows neither files nor checkpoints; plan and rate are pure functions of the settings, so a resumed
run computes those of an uninterrupted one. What a step says of itself:

    StepFigures(loss=1.92, tokens=1180, unpacked_tokens=2410, completion_tokens=312)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import Record
from lmsi_cli.training import data, fused, losses, processes
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn


# Any ids that every vocabulary has; two examples with a common front, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class StepFigures(Record, frozen=True, kw_only=True):
    """Mean loss over a step's completion tokens or pairs, and what went through the model.

    ``tokens`` went through it; ``unpacked_tokens`` would have, had every example had a row of its
    own. The rewards are means over a step's pairs, under TRL's names: ``losses.PairTerms`` says
    what a reward is, ``accuracies`` is the share of pairs whose chosen one has the higher one,
    ``margins`` the mean of how much higher it is.
    """

    loss: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    rewards_chosen: float | UnsetType = msgspec.field(default=UNSET, name="rewards/chosen")
    rewards_rejected: float | UnsetType = msgspec.field(default=UNSET, name="rewards/rejected")
    rewards_accuracies: float | UnsetType = msgspec.field(default=UNSET, name="rewards/accuracies")
    rewards_margins: float | UnsetType = msgspec.field(default=UNSET, name="rewards/margins")


REWARDS = ("rewards_chosen", "rewards_rejected", "rewards_accuracies", "rewards_margins")


def merge(figures: StepFigures, parameters: Iterable[nn.Parameter]) -> StepFigures:
    """Make one step out of all processes' parts: ``parameters`` get the gradient of its mean loss.

    Each part's loss, gradient and rewards are already its share of the whole step's means.
    """
    if processes.place().world == 1:
        return figures
    import torch

    own = {k: v for k, v in msgspec.structs.asdict(figures).items() if v is not UNSET}
    sums = processes.total(torch.tensor([*own.values()], dtype=torch.float64)).tolist()
    for p in parameters:  # of a part without examples there is no gradient at all
        p.grad = processes.total(torch.zeros_like(p) if p.grad is None else p.grad)
    return StepFigures(**{k: type(v)(x) for (k, v), x in zip(own.items(), sums, strict=True)})


def plan(count: int, config: TrainConfig) -> list[list[int]]:
    """The example indices of every step, of ``count`` examples.

    Each epoch is its own shuffle; a step may span two. ``max_steps`` beats ``epochs`` and goes
    round as often as it needs. With five examples, two epochs and four to a step,

        plan(5, TrainConfig(epochs=2, batch_size=4)) == [[2, 0, 4, 1], [3, 0, 3, 1], [4, 2]]
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
    """The rate of a step, from 0, of so many: linear warm-up, then as ``config.schedule`` says.

    A cosine and a line both fall to nearly zero; the last step still moves.
    """
    warm, rate = math.ceil(config.warmup * steps), float(config.lr)
    if step < warm:
        return rate * (step + 1) / warm
    return rate * SCHEDULES[config.schedule]((step - warm) / max(1, steps - warm))


def accumulate(
    model: nn.Module,
    batch: Sequence[data.TokenExample],
    row_tokens: int,
    dtype: Dtype,
    over: int,
    pairs: TrainConfig | None = None,
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    Examples of unequal weight count so much more or less in that mean, which goes on being over all
    tokens: weights whose mean is 1 over the run leave the size of its gradients as it was.

    ``batch`` may be a process's part of the step. ``row_tokens`` is the longest packed row; 0 packs
    nothing, and both rows of a pair are held at once. ``over`` is what the mean is over: the step's
    completion tokens, or its pairs. ``pairs`` supplies beta and rpo_alpha where there are any.
    """
    rows, over = data.pack(batch, row_tokens), max(1, over)
    held = 2 if pairs and not row_tokens else 1  # rows that hold whole pairs together
    loss, rewards = 0.0, dict.fromkeys(REWARDS if pairs else (), 0.0)
    for some in (rows[at : at + held] for at in range(0, len(rows), held)):
        if pairs:
            terms = losses.pair_terms(model, some, dtype, pairs)
            part = terms.losses.sum() / over
            chosen, rejected = terms.chosen.double(), terms.rejected.double()
            values = (chosen, rejected, (chosen > rejected).double(), chosen - rejected)
            for name, value in zip(REWARDS, values, strict=True):
                rewards[name] += float(value.sum())
        else:
            part = losses.row_loss(model, some[0], dtype) / over
        # Each row adds its share, so the step's loss is the mean over all of them.
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in data.single(batch)),
        completion_tokens=sum(len(row.labels) for row in rows),
        **{name: value / over for name, value in rewards.items()},
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
    """
    import torch

    def probe() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        figures = accumulate(model, _SAMPLE, row_tokens, dtype, over=7)
        wanted = [p for p in model.parameters() if p.requires_grad]
        loss = merge(figures, wanted).loss  # so that all processes come to one end
        gradient = torch.cat([p.grad.flatten() for p in wanted if p.grad is not None])
        model.zero_grad()
        return loss, gradient

    was = model.training
    model.eval()  # dropout would make two runs differ
    same = fused.install(model, dtype, probe)
    model.train(was)
    return same
