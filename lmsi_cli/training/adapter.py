"""The low-rank adapter: which layers it acts on, how it is made, and the files it is saved in.

Wraps a frozen model by PEFT, saves in PEFT's format, and writes the GGUF that llama.cpp loads (by
our own code, since llama.cpp's ``convert_lora_to_gguf.py`` comes in no package). Does not train.
In the GGUF a layer ``model.layers.0.self_attn.q_proj`` is

    blk.0.attn_q.weight.lora_a  float32 (rank, in)
    blk.0.attn_q.weight.lora_b  float32 (out, rank)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmsi_cli.atomic import unfinished, write_atomic, write_error
from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.architectures import order
from lmsi_cli.training.header import GgufMeta, read_meta
from lmsi_cli.training.load import block_linears, quiet, sizes, skeleton
from lmsi_cli.training.weights import namer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GROUPS = ("all", "attn", "mlp")


def choose(model: nn.Module, target: str) -> list[str]:
    """Turn the setting ``target`` into the layers' own short names, sorted.

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
    owners: dict[str, str] = {}
    for leaf, places in homes.items():
        owners |= {leaf: next(iter(places.values()))} if len(places) == 1 else places
    return owners


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
                hint="8 to 64 is usual; --set target leaves layers out",
            )
    return found


def add_lora(model: nn.Module, config: TrainConfig, base_name: str) -> nn.Module:
    """Wrap a frozen model with a fresh fp32 adapter, the only part that trains.

    The adapter starts as a no-op (B is zero); A is drawn from ``config.seed``.

    Args:
        model: From ``load_base``.
        config: Rank, alpha and its scaling, dropout, target, layers and seed.
        base_name: What the adapter's own configuration calls the base: its repository on the hub,
            or the GGUF's file name.

    Raises:
        LmsiError: As ``choose`` and ``last``; ``preflight`` has refused a rank that is too high.
    """
    import peft
    import torch

    blocks = last(model, config.layers)
    # Without the pattern PEFT would count experts as blocks.
    pattern = _block(next(iter(block_linears(model))))[0] if blocks else None
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        bias="none",
        target_modules=choose(model, config.target),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        layers_to_transform=blocks,
        layers_pattern=pattern,
    )
    # PEFT would put this in place of our name: the folder on this machine, of no use elsewhere.
    model.name_or_path = base_name  # type: ignore[assignment]
    torch.manual_seed(config.seed)
    with quiet():
        return cast("nn.Module", peft.get_peft_model(model, settings, autocast_adapter_dtype=True))


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


def preflight(
    gguf: Path, target: str = "all", layers: int | str = "all", rank: int = 1
) -> list[str]:
    """Make sure before training that the adapter can be given back to llama.cpp.

    Args:
        gguf: The base model.
        target: As in ``lora.choose``.
        layers: As in ``lora.last``.
        rank: The adapter's.

    Returns:
        The tensor names of the base that the adapter will act on, sorted.

    Raises:
        LmsiError: transformers cannot load the file, a layer has no counterpart in it,
            or is smaller than the rank.
    """
    meta = read_meta(gguf)
    model = skeleton(gguf)
    shapes = {name: sizes(layer) for name, layer in adapted(model, target, layers, rank).items()}
    return sorted(_tensor_name(name, shape, meta) for name, shape in shapes.items())


def _tensor_name(layer: str, shape: tuple[object, ...], meta: GgufMeta) -> str:
    found = namer(meta)(layer)
    name = f"{found}.weight"
    if not found or meta.shapes.get(name) != shape:
        raise LmsiError(
            f"training is not possible: layer '{layer}' {shape} has no counterpart in the GGUF "
            f"file (architecture '{meta.architecture}')",
            hint="adapt fewer layers with --set target=attn",
        )
    return name


def save_adapter(model: nn.Module, out: Path) -> None:
    """Save the adapter in PEFT's format; its configuration, written last, marks it complete.

    Args:
        model: From ``lora.add_lora``.
        out: Folder for adapter_config.json and adapter_model.safetensors.

    Raises:
        LmsiError: The disk is full or fails.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    # "auto" would ask the Hugging Face hub whether the vocabulary has grown.
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True}  # type: ignore[index, union-attr]
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    (out / CONFIG).unlink(missing_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomic(out / WEIGHTS, save(whole, metadata={"format": "pt"}))
    write_atomic(out / CONFIG, text)


def name_base(folder: Path, base_name: str) -> None:
    """Let the configuration of a saved adapter call its base by another name."""
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base_name
    write_atomic(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def to_gguf(adapter_dir: Path, gguf_base: Path, out_file: Path) -> None:
    """Write an adapter in PEFT's format as a GGUF adapter for ``gguf_base``.

    Args:
        adapter_dir: Holds adapter_config.json and adapter_model.safetensors.
        gguf_base: The model that it was trained over; gives architecture, names and head counts.
        out_file: Replaced in one rename.

    Raises:
        LmsiError: A tensor has no counterpart in the base, or is no LoRA matrix; the disk fails.
    """
    import gguf
    from safetensors.numpy import load_file

    meta = read_meta(gguf_base)
    settings = json.loads((adapter_dir / CONFIG).read_text(encoding="utf-8"))
    pairs = _pairs(load_file(adapter_dir / WEIGHTS))
    fresh = unfinished(out_file)
    writer = gguf.GGUFWriter(fresh, meta.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, gguf_alpha(settings))
    for layer, (a, b) in sorted(pairs.items()):
        name = _tensor_name(layer, (b.shape[0], a.shape[1]), meta)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", reorder(b, name, meta))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        fresh.replace(out_file)
    except OSError as e:
        raise write_error(out_file, e) from e


def _pairs(tensors: dict[str, NDArray[np.float32]]) -> dict[str, Pair]:
    """Bring A (rank, in) and B (out, rank) of each layer together, as float32."""
    halves: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
        if match is None:
            raise LmsiError(f"adapter tensor '{key}' is no LoRA matrix and cannot go into a GGUF")
        halves.setdefault(match[1], {})[match[2]] = tensor.astype("float32")
    lonely = [layer for layer, half in halves.items() if len(half) != 2]
    if lonely:
        raise LmsiError(f"adapter layer '{lonely[0]}' has only one of its two LoRA matrices")
    return {layer: (half["A"], half["B"]) for layer, half in halves.items()}


def reorder(b: NDArray[np.float32], name: str, meta: GgufMeta) -> NDArray[np.float32]:
    """Bring the rows of LoRA B, (out, rank), into the order that the base file has them in.

    Args:
        b: As trained, in transformers' order.
        name: The base tensor's name.
        meta: The base's header.
    """
    rows = order(name, meta)
    return b if rows is None else b[rows].copy()
