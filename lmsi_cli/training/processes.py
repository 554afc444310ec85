"""Several processes that train one adapter, as `accelerate launch` and `torchrun` start them.

Each holds the model, or its share of it (``sharding``), and works off its part of every step's
examples. Gradients are summed before they are clipped, weighted by completion tokens, so a step is
the one that a single process would have taken, up to rounding. The first process leads: it alone
writes and speaks. Knows neither models nor files. What a launcher says, and what is read of it:

    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1  ->  Place(rank=1, world=2, local=1)
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lmsi_cli.training.step import StepFigures

T = TypeVar("T")

# torchrun's names, then those of MPI's two families, which accelerate uses on CPUs.
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
WORLD = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")
# The others wait while the first one reads a large file; one that died is noticed at once.
PATIENCE = timedelta(hours=2)
FAILED, HEARD = "lmsi/failed", "lmsi/heard"
# Seconds for the first process to speak before a launcher that sees another end ends it as well.
LAST_WORDS = 2.0


class Place(NamedTuple):
    """Which process this is, of how many, and its number on this machine; all from 0."""

    rank: int = 0
    world: int = 1
    local: int = 0


class Lost(LmsiError):
    """Another process is gone, so this one cannot go on."""


def place() -> Place:
    """Read this process's place from the environment; a single one's if no launcher set it."""
    rank, world, local = (_number(names) for names in (RANK, WORLD, LOCAL))
    if rank is None or world is None:
        return Place()
    return Place(rank, world, local or 0)


def _number(names: Sequence[str]) -> int | None:
    told = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in told if text.isdigit()), None)


def check(command: str | None) -> None:
    """Refuse what several processes cannot do, before any of them begins.

    Args:
        command: The command's name, as typed.

    Raises:
        LmsiError: The command is not `train`, or the launcher quietly started one process only.
    """
    if place().world > 1 and command != "train":
        raise LmsiError(
            f"`lmsi {command}` is work for one process, not {place().world}",
            hint="only `lmsi train` takes part in a launch of several",
        )
    alone = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    if alone and _number(RANK) is None:
        raise LmsiError(
            "accelerate has started one process only: without MPI, --cpu gives no more",
            hint="on a CPU: torchrun --nproc-per-node N -m lmsi_cli train ...",
        )


@contextmanager
def joined(config: TrainConfig) -> Iterator[Place]:
    """Meet the other processes, if there are any, and part when the work is done.

    Args:
        config: Each process needs an example of every full step.

    Raises:
        LmsiError: More processes than examples of a step; in the first one also what another
            failed of.
    """
    here = place()
    if here.world == 1:
        yield here
        return
    if here.world > config.batch_size:
        raise LmsiError(
            f"{here.world} processes cannot share steps of {config.batch_size} examples",
            hint=f"use --batch-size {here.world} or more, or fewer processes",
        )
    _join(here)
    try:
        with _exchange(every=False):
            yield here
        if here.rank == 0:
            _Calls.decline()
    except Exception as e:
        _tell(here, e)
        raise
    finally:
        _leave()


class _Calls:
    """What the processes say to one another beside numbers."""

    store: object = None
    called = False
    sharded = False

    @classmethod
    def decline(cls) -> None:
        """Send the others home, if there was nothing to train."""
        if not cls.called:
            _broadcast(b"")


def _join(here: Place) -> None:
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://", here.rank, here.world, timeout=PATIENCE))
    backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    _Calls.store, _Calls.called, _Calls.sharded = store, False, False


def _leave() -> None:
    import torch.distributed as dist

    _Calls.store = None
    if dist.is_initialized():
        dist.destroy_process_group()


def _tell(here: Place, error: Exception) -> None:
    """Leave word for the first process, and stay until it has read it: it speaks for all."""
    import torch.distributed as dist

    store = _Calls.store
    if here.rank == 0 or isinstance(error, Lost) or store is None:
        return
    store.set(FAILED, f"process {here.rank + 1} of {here.world}: {error}")  # type: ignore[attr-defined]
    dist.destroy_process_group()  # the first one's next exchange fails at once
    try:
        store.wait([HEARD], PATIENCE)  # type: ignore[attr-defined]
    except RuntimeError:  # it is gone itself
        return
    time.sleep(LAST_WORDS)


@contextmanager
def _exchange(every: bool = True) -> Iterator[None]:
    """Turn a broken connection into words: those that the failing process left, if it could.

    Args:
        every: Nothing but an exchange fails within; else torch gathers weights somewhere in it.
    """
    try:
        yield
    except RuntimeError as e:
        import torch.distributed as dist

        # gloo's errors are known by their text only; a lack of memory is no loss of a process.
        if not every and not isinstance(e, dist.DistError) and "gloo" not in str(e):
            raise
        raise Lost(_cause(), hint="the same command goes on from the last checkpoint") from e


def _cause() -> str:
    store = _Calls.store
    try:
        if place().rank == 0 and store.check([FAILED]):  # type: ignore[attr-defined]
            cause = store.get(FAILED).decode()  # type: ignore[attr-defined]
            store.set(HEARD, "1")  # type: ignore[attr-defined]
            return f"training stopped by {cause}"
    except RuntimeError:
        pass
    return "training stopped: another of its processes has ended"


def active() -> bool:
    """Whether this process has joined others."""
    return _Calls.store is not None


def sharded() -> bool:
    """Whether the base is spread over the processes of this training."""
    return _Calls.sharded


def lead(config: TrainConfig) -> None:
    """Begin a training: the first process calls the others, and all wait until all are ready."""
    if not active():
        return
    import torch.distributed as dist

    _Calls.sharded = config.shard

    if place().rank == 0:
        _Calls.called = True
        _broadcast(msgspec.json.encode(config))
    with _exchange():
        dist.barrier()


def called() -> TrainConfig | None:
    """Wait for the first process; the settings to train with, or None if there is nothing to do."""
    told = _broadcast(b"")
    return msgspec.json.decode(told, type=TrainConfig) if told else None


def _broadcast(message: bytes) -> bytes:
    """Bytes from the first process to all others; what they pass themselves is not looked at."""
    import torch
    import torch.distributed as dist

    size = torch.tensor([len(message)])
    with _exchange():
        dist.broadcast(size, 0)
        text = torch.zeros(int(size), dtype=torch.uint8)
        if place().rank == 0:
            text = torch.tensor(list(message), dtype=torch.uint8)
        if len(text):
            dist.broadcast(text, 0)
    return bytes(text.tolist())


def leaders(value: T) -> T:
    """The first process's value in all of them; numbers, texts and lists of these."""
    if not active():
        return value
    told: T = msgspec.json.decode(_broadcast(msgspec.json.encode(value)))
    return told


def most(count: int) -> int:
    """The largest of all processes' counts."""
    if not active():
        return count
    import torch
    import torch.distributed as dist

    told = torch.tensor([count])
    with _exchange():
        dist.all_reduce(told, dist.ReduceOp.MAX)
    return int(told)


def part(batch: Sequence[T]) -> Sequence[T]:
    """This process's examples of a step, every n-th of them; all of them if it is alone."""
    return batch[place().rank :: place().world] if active() else batch


def draw_apart(seed: int, step: int) -> None:
    """Give dropout numbers that no other process draws and that a resumed run draws again.

    A process that is alone draws on: its random state is in the checkpoint.
    """
    if active():
        import torch

        name = f"{seed}/{step}/{place().rank}".encode()
        torch.manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:6], "big"))


def together(figures: StepFigures, parameters: Iterable[nn.Parameter]) -> StepFigures:
    """Make the step of all processes out of their parts.

    Args:
        figures: Of this process's part; its loss is the mean over its own completion tokens, or
            pairs.
        parameters: Hold the gradient of that mean; get the gradient of the mean over all.

    Returns:
        The figures of the whole step, the same in all processes.
    """
    if not active():
        return figures
    import torch

    from lmsi_cli.training.step import Rewards, StepFigures

    own = figures.over
    counts = [figures.tokens, figures.unpacked_tokens, figures.completion_tokens, figures.pairs]
    rewards = figures.rewards or Rewards(0.0, 0.0, 0.0, 0.0)  # as many numbers in every process
    told = [*counts, own, *(own * mean for mean in (figures.loss, *rewards))]
    summed = _sum(torch.tensor(told, dtype=torch.float64)).tolist()
    tokens, unpacked, predicted, pairs, over = map(int, summed[:5])
    loss, *means = (value / max(1, over) for value in summed[5:])
    _sum_gradients(list(parameters), own / max(1.0, over))
    return StepFigures(loss, tokens, unpacked, predicted, pairs, Rewards(*means) if pairs else None)


def _sum_gradients(parameters: Sequence[nn.Parameter], weight: float) -> None:
    """One exchange for all of them: many small ones would wait for the network each time."""
    import torch

    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = _sum(torch.cat([g.reshape(-1) for g in grads]) * weight)
    for p, g in zip(parameters, torch.split(flat, [g.numel() for g in grads]), strict=True):
        p.grad = g.view_as(p).clone()


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    import torch.distributed as dist

    with _exchange():
        dist.all_reduce(tensor)
    return tensor


def shared_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' tensors, in all of them; of one that is alone, its own."""
    return _sum(tensor) if active() else tensor


def leader_s(value: float) -> float:
    """The first process's value in all of them: what is decided by a clock is decided once."""
    if not active():
        return value
    import torch
    import torch.distributed as dist

    told = torch.tensor([value], dtype=torch.float64)
    with _exchange():
        dist.broadcast(told, 0)
    return float(told)
