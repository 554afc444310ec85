"""Several processes that train one adapter, as `torchrun` or `accelerate launch` starts them.

Each holds the model and works off its part of every step's examples. Gradients are summed before
they are clipped, weighted by completion tokens, so a step is the one that a single process would
have taken, up to rounding. The first process alone writes and reports. What is read of a launcher:

    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1  ->  Place(rank=1, world=2, local=1)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lmsi_cli.training.step import StepFigures

T = TypeVar("T")
# The others wait while the first one reads a large file; one that died is noticed at once.
PATIENCE = timedelta(hours=2)


class Place(NamedTuple):
    """Which process this is, of how many, and its number on this machine; all from 0."""

    rank: int = 0
    world: int = 1
    local: int = 0


def place() -> Place:
    """Read this process's place from the environment; a single one's if no launcher set it."""
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    return Place(*map(int, told)) if all(text.isdigit() for text in told) else Place()


def check(command: str | None) -> None:
    """Refuse a launch of several processes for any command but `train`."""
    if place().world > 1 and command != "train":
        raise LmsiError(
            f"`lmsi {command}` is work for one process, not {place().world}",
            hint="only `lmsi train` takes part in a launch of several",
        )


@contextmanager
def joined() -> Iterator[Place]:
    """Meet the other processes, if there are any, and part when the work is done."""
    if place().world == 1:
        yield place()
        return
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    _exchange(dist.init_process_group, backend, timeout=PATIENCE)
    try:
        yield place()
    finally:
        dist.destroy_process_group()


def _exchange(what: Callable[..., object], *args: Any, **named: Any) -> None:  # noqa: ANN401
    """Call a function of torch.distributed, which fails where another process is gone."""
    try:
        what(*args, **named)
    except RuntimeError as e:
        raise LmsiError(
            "training stopped: another of its processes has ended",
            hint="the same command goes on from the last checkpoint",
        ) from e


def wait() -> None:
    """Go on when all processes have come here."""
    import torch

    total(torch.zeros(1))


def part(batch: Sequence[T]) -> Sequence[T]:
    """This process's examples of a step, every n-th of them."""
    return batch[place().rank :: place().world]


def seed_dropout(seed: int, step: int) -> None:
    """Give dropout numbers that no other process draws and that a resumed run draws again.

    A process that is alone draws on: its random state is in the checkpoint.
    """
    import torch

    if place().world > 1:
        torch.manual_seed(hash((seed, step, place().rank)) % 2**63)


def merge(figures: StepFigures, parameters: Iterable[nn.Parameter]) -> StepFigures:
    """Make one step out of all processes' parts: ``parameters`` get the gradient of its mean loss.

    Each part's loss and gradient are means over its own completion tokens, or pairs.
    """
    if place().world == 1:
        return figures
    import torch

    from lmsi_cli.training.step import Rewards, StepFigures

    own = figures.over
    rewards = figures.rewards or (0.0,) * 4  # as many numbers in every process
    means, counts = (figures.loss, *rewards), (own, *figures[1:5])
    summed = total(torch.tensor([*counts, *(own * m for m in means)], dtype=torch.float64)).tolist()
    over = max(1.0, summed[0])
    grads = [(p, torch.zeros_like(p) if p.grad is None else p.grad) for p in parameters]
    flat = total(torch.cat([g.flatten() for _, g in grads]) * (own / over))
    parts = torch.split(flat, [g.numel() for _, g in grads])
    for (p, g), new in zip(grads, parts, strict=True):
        p.grad = new.view_as(g).clone()
    loss, *rest = (value / over for value in summed[5:])
    tokens, unpacked, predicted, pairs = map(int, summed[1:5])
    return StepFigures(loss, tokens, unpacked, predicted, pairs, Rewards(*rest) if pairs else None)


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' tensors, in all of them; of one that is alone, its own."""
    import torch.distributed as dist

    if place().world > 1:
        _exchange(dist.all_reduce, tensor)
    return tensor
