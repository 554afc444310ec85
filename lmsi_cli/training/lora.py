"""Adds a low-rank adapter to a frozen model, by PEFT.

Decides which layers it acts on, and how strongly. Does not load models, train or save. For a Llama,

    choose(model, "attn") == ["k_proj", "o_proj", "q_proj", "v_proj"]
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.load import Dtype, block_linears, load_base, quiet, sizes

if TYPE_CHECKING:
    from torch import nn

GROUPS = ("all", "attn", "mlp")


def choose(model: nn.Module, target: str) -> list[str]:
    """Turn ``--target`` into the layers' own short names, sorted.

    Args:
        model: The base model; its weights may be on the meta device.
        target: all (every linear layer in the blocks, not the output head), attn, mlp, or names
            separated by commas.

    Raises:
        LmsiError: A name is none of the model's, or the model has no linear layers.
    """
    owners = _owners(block_linears(model))
    if not owners:
        raise LmsiError(
            "training is not possible: this model has no linear layers to adapt;"
            " sampling and voting work"
        )
    if target in GROUPS:
        wanted = [
            leaf
            for leaf, name in owners.items()
            if target == "all" or bool(re.search("attn|attention", name)) == (target == "attn")
        ]
    else:
        wanted = [name.strip() for name in target.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in owners]
    if unknown or not wanted:
        raise LmsiError(
            f"target '{', '.join(unknown) or target}' names no layer of this model",
            hint=f"use all, attn, mlp or some of {', '.join(sorted(owners))}",
        )
    return sorted(set(wanted))


def _owners(names: Iterable[str]) -> dict[str, str]:
    """A layer's short name and one of its full names; GPT-2 has a c_proj here and another there."""
    homes: dict[str, dict[str, str]] = {}
    for name in names:
        home, leaf = name.split(".")[-2:]
        homes.setdefault(leaf, {})[f"{home}.{leaf}"] = name
    told: dict[str, str] = {}
    for leaf, places in homes.items():
        told |= {leaf: next(iter(places.values()))} if len(places) == 1 else places
    return told


def last(model: nn.Module, layers: int | str) -> list[int] | None:
    """Turn ``--layers`` into the numbers of the blocks to adapt; None for all of them.

    Args:
        model: The base model; its weights may be on the meta device.
        layers: ``all``, a number of blocks from the last one, or ``last:N``.

    Raises:
        LmsiError: The model has fewer blocks.
    """
    if layers == "all":
        return None
    wanted = int(str(layers).removeprefix("last:"))
    blocks = 1 + max((_block(name)[1] for name in block_linears(model)), default=-1)
    if wanted > blocks:
        raise LmsiError(
            f"--layers {layers}: this model has {blocks} layers",
            hint=f"use all, or a number up to {blocks}",
        )
    return list(range(blocks - wanted, blocks))


def _block(name: str) -> tuple[str, int]:
    """The list of blocks a layer is in, and the block's number: ``("layers", 3)``."""
    steps = name.split(".")
    at = next(i for i, step in enumerate(steps) if step.isdigit())
    return steps[at - 1], int(steps[at])


def adapted(
    model: nn.Module, target: str, layers: int | str = "all", rank: int = 1
) -> dict[str, nn.Module]:
    """The linear layers that get an adapter, by their full names.

    Args:
        model: The base model; its weights may be on the meta device.
        target: As in ``choose``.
        layers: As in ``last``.
        rank: The adapter's.

    Raises:
        LmsiError: As they do, or the rank is above that of a matrix itself.
    """
    leaves = tuple(f".{leaf}" for leaf in choose(model, target))
    blocks = last(model, layers)
    found = {
        name: layer
        for name, layer in block_linears(model).items()
        if name.endswith(leaves) and (blocks is None or _block(name)[1] in blocks)
    }
    for name, layer in found.items():
        if rank > min(sizes(layer)):
            shape = " x ".join(map(str, sizes(layer)))
            raise LmsiError(
                f"--rank {rank} is more than layer '{name}' ({shape}) itself has",
                hint="8 to 64 is usual; --target leaves layers out",
            )
    return found


def add_lora(model: nn.Module, config: TrainConfig, base_name: str) -> nn.Module:
    """Wrap a frozen model with a fresh fp32 adapter, the only part that trains.

    The adapter starts as a no-op (B is zero); A is drawn from ``config.seed``.

    Args:
        model: From ``load_base``.
        config: Rank, alpha and its scaling, dropout, target, layers and seed.
        base_name: What the adapter's own configuration calls the base: the GGUF's file name.

    Raises:
        LmsiError: As ``adapted``.
    """
    import peft
    import torch

    adapted(model, config.target, config.layers, config.rank)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        bias="none",
        target_modules=choose(model, config.target),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        **_only(model, config.layers),
    )
    # PEFT would put this in place of our name: the folder on this machine, of no use elsewhere.
    model.name_or_path = base_name  # type: ignore[assignment]
    torch.manual_seed(config.seed)
    with quiet():
        return cast("nn.Module", peft.get_peft_model(model, settings, autocast_adapter_dtype=True))


def _only(model: nn.Module, layers: int | str) -> dict[str, Any]:
    """PEFT's words for some of the blocks; without the pattern it would count experts as blocks."""
    blocks = last(model, layers)
    if blocks is None:
        return {}
    pattern = _block(next(iter(block_linears(model))))[0]
    return {"layers_to_transform": blocks, "layers_pattern": pattern}


def with_adapter(gguf: Path, folder: Path, dtype: Dtype) -> nn.Module:
    """The file's own weights with a saved adapter, as PEFT reads it: what llama.cpp will run.

    Args:
        gguf: The base.
        folder: The adapter in PEFT's format.
        dtype: Of the matrix products.

    Raises:
        LmsiError: transformers cannot load the base.
    """
    import peft

    base = load_base(gguf, dtype)
    with quiet():
        return cast("nn.Module", peft.PeftModel.from_pretrained(base, str(folder)).eval())


def gguf_alpha(settings: Mapping[str, Any]) -> float:
    """The alpha that a GGUF adapter needs for the scale that PEFT trained with.

    llama.cpp always scales by alpha / rank (src/llama-adapter.h, ``get_scale``); rsLoRA scales by
    alpha / sqrt(rank), so its alpha is written sqrt(rank) times as large.

    Args:
        settings: What adapter_config.json says: lora_alpha, r, use_rslora.
    """
    alpha = float(settings["lora_alpha"])
    return alpha * math.sqrt(settings["r"]) if settings.get("use_rslora") else alpha


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's own parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
