"""Several processes that train one adapter, as `accelerate launch` or `torchrun` starts them.

Each holds the model and works off its part of every step's examples; gradients are summed before
they are clipped, so a step is the one that a single process would have taken, up to rounding. The
first process alone writes and reports. What is read of a launcher:

    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1  ->  Place(rank=1, world=2, local=1)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import torch

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
    found = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    return Place(*map(int, found)) if all(text.isdigit() for text in found) else Place()


def check(command: str | None) -> None:
    """Refuse a launch of several processes for any command but `train`."""
    if place().world > 1 and command != "train":
        hint = "only `lmsi train` takes part in a launch of several"
        raise LmsiError(f"`lmsi {command}` is work for one process, not {place().world}", hint)


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """Meet the other processes, if there are any, and part when the work is done."""
    if place().world == 1:
        yield place()
        return
    from accelerate import PartialState

    from lmsi_cli.training.devices import pick

    with _together():
        state = PartialState(cpu=pick(device, place().local) == "cpu", timeout=PATIENCE)
    try:
        yield place()
    finally:
        state.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Turn what torch raises where another process is gone into one line."""
    try:
        yield
    except RuntimeError as e:
        hint = "the same command goes on from the last checkpoint"
        raise LmsiError("training stopped: another of its processes has ended", hint) from e


def wait() -> None:
    """Go on when all processes have come here."""
    import torch

    total(torch.zeros(1))


def part(batch: Sequence[T]) -> Sequence[T]:
    """This process's examples of a step, every n-th of them."""
    return batch[place().rank :: place().world]


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' tensors, in all of them; of one that is alone, its own."""
    if place().world == 1:
        return tensor
    from accelerate import PartialState
    from accelerate.utils import reduce

    with _together():
        summed = reduce(tensor.to(PartialState().device), "sum")
    return summed.to(tensor.device)  # type: ignore[no-any-return]
