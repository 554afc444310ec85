"""A frozen base that is spread over the processes: each holds its share of every block.

torch's FSDP (``fully_shard``) gathers a block's weights when it is computed, forwards and
backwards, and drops them again. The blocks hold most of a model; embeddings, the last norm and the
head stay whole, since the loss reads the head outside any forward pass. So does the adapter, which
is small and trains as ever. All processes must gather at the same time: see ``in_step``.
Knows modules and processes; no files. What becomes of a weight (out, in) of a block in the second
of two processes:

    DTensor(local=weight[out / 2:, :], placements=(Shard(dim=0),))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import load, processes

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")

# How `accelerate launch --use_fsdp` tells the processes, and what it may ask that is not done.
ACCELERATE = "ACCELERATE_USE_FSDP"
OFFLOAD = "FSDP_OFFLOAD_PARAMS"


def asked(config: TrainConfig) -> TrainConfig:
    """The settings with ``shard``, if the launcher asks for it in our place.

    Args:
        config: As given.

    Raises:
        LmsiError: Something that cannot be spread; says what.
    """
    wanted = config.shard or _is_true(ACCELERATE)
    if not wanted:
        return config
    why = _obstacle(config)
    if why:
        raise LmsiError(f"--shard: {why[0]}", hint=why[1])
    return msgspec.structs.replace(config, shard=True)


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _obstacle(config: TrainConfig) -> tuple[str, str] | None:
    """Why the weights cannot be spread, and what to type instead; None if they can."""
    if not processes.active():
        return (
            "there is one process only, with nobody to share the weights with",
            "torchrun --nproc-per-node 2 -m lmsi_cli train RUN --shard",
        )
    if config.base:
        return (
            f"the weights of --base {config.base} are compared whole with the GGUF file",
            "leave one of the two out",
        )
    if _is_true(ACCELERATE) and _is_true(OFFLOAD):
        return (
            "fsdp_offload_params of accelerate is not offered",
            "set it to false; --device cpu keeps the weights in the machine's memory",
        )
    return None


def spreader(device: str) -> load.Spread:
    """What spreads a model over all processes while its weights are being read.

    Args:
        device: Of this process, as ``devices.pick`` spells it.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(device)
    return lambda model: _spread(model, kind)


def _spread(model: nn.Module, kind: str) -> Callable[[str], None]:
    """Prepare a model without weights; call the result for each parameter once it is filled."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    model.requires_grad_(False)
    mesh = init_device_mesh(kind, (processes.place().world,))
    # No block is inside another and the model itself is none, so that parts of it can be called.
    for block in load.blocks(model).values():
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    homes = {name: p for name, p in model.named_parameters() if isinstance(p, DTensor)}

    def shrink(name: str) -> None:
        if name in homes:
            owner, _, leaf = name.rpartition(".")
            own = model.get_submodule(owner)._parameters
            own[leaf] = _share(own[leaf], homes[name])

    return shrink


def _share(whole: Any, home: Any) -> nn.Parameter:  # noqa: ANN401 - a tensor, and a DTensor
    """This process's part of a parameter, in memory of its own."""
    import torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    mesh, places = home.device_mesh, home.placements
    # Every process has read the whole parameter, so nothing is sent.
    own: torch.Tensor = distribute_tensor(
        whole.detach(), mesh, places, src_data_rank=None
    ).to_local()
    spread = DTensor.from_local(
        own.clone(), mesh, places, run_check=False, shape=whole.shape, stride=whole.stride()
    )
    return torch.nn.Parameter(spread, requires_grad=False)


def in_step(items: Sequence[T], idle: T) -> Sequence[T]:
    """As many items in every process, where all must gather weights at the same time.

    Args:
        items: Each is a forward pass, or a group of them.
        idle: What a process that has fewer items computes instead, and does not count.

    Returns:
        The items, and ``idle`` as often as it takes; just the items where nobody has to wait.
    """
    if not processes.sharded():
        return items
    return [*items, *[idle] * (processes.most(len(items)) - len(items))]
