"""From a trained adapter to files: PEFT's format, and the GGUF that llama.cpp loads.

The GGUF writer is ours because llama.cpp's ``convert_lora_to_gguf.py`` comes in no package. Knows
nothing of training. A layer ``model.layers.0.self_attn.q_proj`` becomes

    blk.0.attn_q.weight.lora_a  float32 (rank, in)
    blk.0.attn_q.weight.lora_b  float32 (out, rank)
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lmsi_cli.atomic import unfinished, write_atomic, write_error
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.architectures import order
from lmsi_cli.training.header import GgufMeta, read_meta
from lmsi_cli.training.load import sizes, skeleton
from lmsi_cli.training.lora import adapted, gguf_alpha
from lmsi_cli.training.weights import namer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


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
            hint="adapt fewer layers with --target",
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
    settings["target_modules"] = sorted(settings["target_modules"])
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (out / CONFIG).unlink(missing_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomic(out / WEIGHTS, save(whole, metadata={"format": "pt"}))
    write_atomic(out / CONFIG, text)


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


Pair = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


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
