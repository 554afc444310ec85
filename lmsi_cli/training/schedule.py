"""Which examples a step sees, and how far it moves: pure functions of the settings.

Knows nothing of torch, so a resumed run computes the same plan as an uninterrupted one. With five
examples, two epochs and four to a step,

    plan(5, TrainConfig(epochs=2, batch_size=4)) == [[2, 0, 4, 1], [3, 0, 3, 1], [4, 2]]
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence
from typing import overload

from lmsi_cli.config import TrainConfig


class Steps(Sequence[list[int]]):
    """The example indices of every step, in four bytes each; equal to the same in a list."""

    def __init__(self, order: array[int], size: int) -> None:
        """Cut ``order`` into steps of ``size`` examples; the last may have fewer."""
        self._order, self._size = order, size

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    @overload
    def __getitem__(self, at: int) -> list[int]: ...

    @overload
    def __getitem__(self, at: slice) -> Steps: ...

    def __getitem__(self, at: int | slice) -> list[int] | Steps:
        if isinstance(at, slice):
            start, stop, _ = at.indices(len(self))
            return Steps(self._order[start * self._size : stop * self._size], self._size)
        start = range(len(self))[at] * self._size
        return self._order[start : start + self._size].tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def plan(count: int, config: TrainConfig) -> Steps:
    """The example indices of every step.

    Each epoch is its own shuffle; a step may span two. ``max_steps`` beats ``epochs`` and goes
    round as often as it needs.

    Args:
        count: Number of examples, at least one.
        config: Seed, batch size, and epochs or steps.
    """
    size = config.batch_size
    total = config.max_steps * size if config.max_steps else max(1, round(config.epochs * count))
    order = array("I")
    for epoch in range(-(-total // count)):
        order.extend(_shuffled(count, f"{config.seed}/{epoch}"))
    return Steps(order[:total], size)


def _shuffled(count: int, seed: str) -> array[int]:
    indices = array("I", range(count))
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
