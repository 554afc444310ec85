"""Which examples a step sees, and how far it moves: pure functions of the settings.

Knows nothing of torch, so a resumed run computes the same plan as an uninterrupted one. With five
examples, two epochs and four to a step,

    plan(5, TrainConfig(epochs=2, batch_size=4)) == [[2, 0, 4, 1], [3, 0, 3, 1], [4, 2]]
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from lmsi_cli.config import TrainConfig


def plan(count: int, config: TrainConfig) -> list[list[int]]:
    """The example indices of every step.

    Each epoch is its own shuffle; a step may span two. ``max_steps`` beats ``epochs`` and goes
    round as often as it needs.

    Args:
        count: Number of examples, at least one.
        config: Seed, batch size, and epochs or steps.
    """
    size = config.batch_size
    total = config.max_steps * size if config.max_steps else max(1, round(config.epochs * count))
    order: list[int] = []
    for epoch in range(-(-total // count)):
        order.extend(_shuffled(count, f"{config.seed}/{epoch}"))
    return [order[at : min(at + size, total)] for at in range(0, total, size)]


def _shuffled(count: int, seed: str) -> list[int]:
    indices = list(range(count))
    random.Random(seed).shuffle(indices)
    return indices


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
    return config.lr * SHAPES[config.schedule]((step - warm) / max(1, steps - warm))


# From the share of the steps after the warm-up that are done to a share of the peak rate.
SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}
