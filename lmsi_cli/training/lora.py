"""Adds a low-rank adapter to a frozen model, by PEFT.

Decides which layers it acts on. Does not load models, train or save. For a Llama,

    choose(model, "attn") == ["k_proj", "o_proj", "q_proj", "v_proj"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.load import block_linears, quiet

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
    owners = {name.rpartition(".")[2]: name for name in block_linears(model)}
    if not owners:
        raise LmsiError(
            "training is not possible: this model has no linear layers to adapt;"
            " sampling and voting work"
        )
    if target in GROUPS:
        wanted = [
            leaf
            for leaf, name in owners.items()
            if target == "all" or ("attn" in name) == (target == "attn")
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


def add_lora(model: nn.Module, config: TrainConfig, base_name: str) -> nn.Module:
    """Wrap a frozen model with a fresh fp32 adapter, the only part that trains.

    The adapter starts as a no-op (B is zero); A is drawn from ``config.seed``.

    Args:
        model: From ``load_base``.
        config: Rank, alpha, dropout, target and seed.
        base_name: What the adapter's own configuration calls the base: the GGUF's file name.
    """
    import peft
    import torch

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        bias="none",
        target_modules=choose(model, config.target),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
    )
    # PEFT would put this in place of our name: the folder on this machine, of no use elsewhere.
    model.name_or_path = base_name  # type: ignore[assignment]
    torch.manual_seed(config.seed)
    with quiet():
        return cast("nn.Module", peft.get_peft_model(model, settings, autocast_adapter_dtype=True))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's own parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
