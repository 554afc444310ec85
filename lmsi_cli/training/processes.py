"""Several processes that train one adapter, started by `accelerate launch` or `torchrun`.

Each holds the model and works on its part of every step's examples. Gradients are summed before
they are clipped, so a step equals that of a single process, up to rounding. Only the first process
writes and reports. The launcher's variables, as read:

    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1  ->  Place(rank=1, world=2, local=1)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import torch

# The others wait while the first one reads a large file; a process that died is noticed at once.
PATIENCE = timedelta(hours=2)


class Place(NamedTuple):
    """Which process this is, of how many, and its number on this machine; all from 0."""

    rank: int = 0
    world: int = 1
    local: int = 0


def place() -> Place:
    """Read this process's place from the environment; without a launcher, it is the only one."""
    found = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    return Place(*map(int, found)) if all(text.isdigit() for text in found) else Place()


def check(command: str | None) -> None:
    """Refuse a launch of several processes for any command but `train`."""
    if place().world > 1 and command != "train":
        hint = "only `lmsi train` takes part in a launch of several"
        raise LmsiError(f"`lmsi {command}` is work for one process, not {place().world}", hint)


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """Join the other processes, if there are any, and leave them at the end of the block."""
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
    """Turn torch's error when another process is gone into one line."""
    try:
        yield
    except RuntimeError as e:
        hint = "the same command goes on from the last checkpoint"
        raise LmsiError("training stopped: another of its processes has ended", hint) from e


def wait() -> None:
    """Wait until all processes have reached this point."""
    import torch

    total(torch.zeros(1))


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in all of them; a single process gets its own back."""
    if place().world == 1:
        return tensor
    from accelerate import PartialState
    from accelerate.utils import reduce

    with _together():
        summed = reduce(tensor.to(PartialState().device), "sum")
    return summed.to(tensor.device)  # type: ignore[no-any-return]
