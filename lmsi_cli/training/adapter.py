"""The low-rank adapter: which layers it acts on, and how it is made, saved, checked and loaded.

Wraps a frozen model with PEFT, saves the adapter in PEFT's format, and writes the GGUF that
llama.cpp loads (with our own code, since no package ships its ``convert_lora_to_gguf.py``).
Training may start from a saved adapter (``init``). Does not train.
In the GGUF, a layer ``model.layers.0.self_attn.q_proj`` is

    blk.0.attn_q.weight.lora_a  float32 (rank, in)
    blk.0.attn_q.weight.lora_b  float32 (out, rank)
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lmsi_cli.atomic import unfinished, write_atomic, write_error
from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.resume import ANEW, check_base
from lmsi_cli.run_folder import ORIGIN, sha256_file
from lmsi_cli.training import checkpoint, load
from lmsi_cli.training.architectures import order
from lmsi_cli.training.header import GgufMeta, read_meta, untrainable

if TYPE_CHECKING:
    from torch import nn

Matrix = NDArray[np.float32]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
AGAIN = f"bring the file back, or train again: {ANEW}"


def choose(model: nn.Module, config: TrainConfig) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Choose the layers that get an adapter; the model's weights may be on the meta device.

    ``config.target`` is all (every linear layer in the blocks, not the output head), attn, mlp, or
    short names separated by commas; ``config.layers`` is ``all`` or a number, from the last block.
    Returns the layers by their full names, and PEFT's settings for them.

    LmsiError: the model has no linear layers, none with such a name, or fewer blocks; or the rank
    exceeds the smaller side of a matrix.
    """
    linears = load.block_linears(model)
    if not linears:
        raise untrainable("this model has no linear layers to adapt")
    targets = _targets(linears, config.target)
    # the list of blocks, as transformers names it, and the number in it
    steps = {name: re.findall(r"(\w+)\.(\d+)(?:\.|$)", name)[0] for name in linears}
    numbers = {name: int(number) for name, (_, number) in steps.items()}
    count = 1 + max(numbers.values())
    blocks = None
    if isinstance(config.layers, int):
        if config.layers > count:
            hint = f"use all, or a number up to {count}"
            raise LmsiError(f"--layers {config.layers}: this model has {count} layers", hint)
        blocks = list(range(count - config.layers, count))
    ends = tuple(f".{leaf}" for leaf in targets)
    chosen = range(count) if blocks is None else blocks
    found = {n: x for n, x in linears.items() if n.endswith(ends) and numbers[n] in chosen}
    for name, layer in found.items():
        if config.rank > min(load.sizes(layer)):
            shape = " x ".join(map(str, load.sizes(layer)))
            message = f"--rank {config.rank} is more than layer '{name}' ({shape}) itself has"
            raise LmsiError(message, "8 to 64 is usual; --set target leaves layers out")
    # Without the list's name PEFT would count experts as blocks.
    pattern = next(iter(steps.values()))[0] if blocks else None
    return found, {
        "target_modules": targets,
        "layers_to_transform": blocks,
        "layers_pattern": pattern,
    }


def _targets(linears: Iterable[str], target: str) -> list[str]:
    """The short names that ``target`` means; shared ones (GPT-2's c_proj) with their parent's."""
    homes = {tuple(name.split(".")[-2:]): name for name in linears}
    shared = Counter(leaf for _, leaf in homes)
    owners = {  # a layer's short name, and one of its full names
        leaf if shared[leaf] == 1 else f"{home}.{leaf}": name
        for (home, leaf), name in homes.items()
    }
    if target in ("all", "attn", "mlp"):
        wanted = [
            leaf
            for leaf, name in owners.items()
            if target == "all" or bool(re.search("attn|attention", name)) == (target == "attn")
        ]
    else:
        wanted = [name.strip() for name in target.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in owners]
    if unknown or not wanted:
        message = f"target '{', '.join(unknown) or target}' names no layer of this model"
        raise LmsiError(message, hint=f"use all, attn, mlp or some of {', '.join(sorted(owners))}")
    return sorted(set(wanted))


def add_lora(model: nn.Module, config: TrainConfig, base_name: str) -> nn.Module:
    """Wrap a frozen model with a fresh fp32 adapter, the only part that trains.

    The adapter starts as a no-op (B is zero); A is drawn from ``config.seed``. ``base_name`` is
    what its configuration calls the base: its repository on the hub, or the GGUF's file name.
    LmsiError as ``choose``.
    """
    import peft
    import torch

    _, chosen = choose(model, config)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        **chosen,
    )
    # Otherwise PEFT records the folder on this machine, which is of no use elsewhere.
    model.name_or_path = base_name  # type: ignore[assignment]
    torch.manual_seed(config.seed)
    with load.quiet():
        return cast("nn.Module", peft.get_peft_model(model, settings))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's own parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def preflight(gguf: Path, config: TrainConfig) -> list[str]:
    """The names of the base's tensors that an adapter with these settings acts on, sorted.

    LmsiError, before training: transformers cannot load the file, a layer has no counterpart in it
    (llama.cpp could not load its adapter), or as ``choose``.
    """
    meta = read_meta(gguf)
    found, _ = choose(load.skeleton(gguf), config)
    return sorted(_tensor_name(name, load.sizes(layer), meta) for name, layer in found.items())


def _tensor_name(layer: str, shape: tuple[object, ...], meta: GgufMeta) -> str:
    found = load.name_in_file(layer, meta)
    name = f"{found}.weight"
    if not found or meta.shapes.get(name) != shape:
        raise LmsiError(
            f"training is not possible: layer '{layer}' {shape} has no counterpart in the GGUF "
            f"file (architecture '{meta.architecture}')",
            hint="adapt fewer layers with --set target=attn",
        )
    return name


def to_gguf(adapter_dir: Path, gguf_base: Path, out_file: Path) -> None:
    """Write an adapter in PEFT's format as a GGUF adapter for ``gguf_base``, in one rename.

    llama.cpp always scales by alpha / rank (src/llama-adapter.h, ``get_scale``); rsLoRA scales by
    alpha / sqrt(rank), so its alpha is written sqrt(rank) times as large.

    LmsiError: a tensor has no counterpart in the base, or is not a LoRA matrix; the disk fails.
    """
    import gguf
    from safetensors.numpy import load_file

    meta = read_meta(gguf_base)
    settings = json.loads((adapter_dir / CONFIG).read_text(encoding="utf-8"))
    alpha = float(settings["lora_alpha"])
    if settings.get("use_rslora"):
        alpha *= math.sqrt(settings["r"])
    pairs = _pairs(load_file(adapter_dir / WEIGHTS))
    fresh = unfinished(out_file)
    writer = gguf.GGUFWriter(fresh, meta.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for layer, (a, b) in sorted(pairs.items()):
        name = _tensor_name(layer, (b.shape[0], a.shape[1]), meta)
        rows = order(name, meta)  # as the base file has them
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b if rows is None else b[rows].copy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        fresh.replace(out_file)
    except OSError as e:
        raise write_error(out_file, e) from e


def _pairs(tensors: dict[str, Matrix]) -> dict[str, tuple[Matrix, Matrix]]:
    """Pair A (rank, in) with B (out, rank) for each layer, as float32."""
    halves: dict[str, dict[str, Matrix]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
        if match is None:
            raise LmsiError(f"adapter tensor '{key}' is no LoRA matrix and cannot go into a GGUF")
        halves.setdefault(match[1], {})[match[2]] = tensor.astype("float32")
    if lonely := [layer for layer, half in halves.items() if len(half) != 2]:
        raise LmsiError(f"adapter layer '{lonely[0]}' has only one of its two LoRA matrices")
    return {layer: (half["A"], half["B"]) for layer, half in halves.items()}


def save_adapter(model: nn.Module, out: Path) -> None:
    """Save the adapter of a model; its configuration, written last, marks it complete."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    # "auto" would ask the Hugging Face hub whether the vocabulary has grown.
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True}  # type: ignore[index, union-attr]
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
    (out / CONFIG).unlink(missing_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomic(out / WEIGHTS, save(whole, metadata={"format": "pt"}))
    _write_config(out, plain)


def name_base(folder: Path, base_name: str) -> None:
    """Change the name of the base in a saved adapter's configuration."""
    _write_config(folder, read_object(folder / CONFIG) | {"base_model_name_or_path": base_name})


def _write_config(folder: Path, settings: dict[str, Any]) -> None:
    write_atomic(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def check_files(folder: Path) -> dict[str, Any]:
    """Return an adapter's settings; refuse files that are missing, damaged or not LoRA's."""
    saved = read_object(folder / CONFIG)
    if saved.get("peft_type") != "LORA" or not isinstance(saved.get("r"), int):
        raise LmsiError(f"{folder / CONFIG}: not the settings of a LoRA adapter", hint=AGAIN)
    _names(folder)
    return saved


def _names(folder: Path) -> set[str]:
    """The names of the saved matrices."""
    try:
        with safe_open(folder / WEIGHTS, "np") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as e:
        raise LmsiError(f"{folder / WEIGHTS}: cannot be read: {e}", hint=AGAIN) from e


def with_adapter(gguf: Path, folder: Path) -> nn.Module:
    """Load a file in fp32 and, through PEFT, a saved adapter: the model llama.cpp will run.

    LmsiError: transformers cannot load the base, or PEFT cannot load all of the adapter.
    """
    import peft

    check_files(folder)
    base = load.load_base(gguf, "fp32")
    try:
        with load.quiet():
            model = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        raise LmsiError(f"{folder}: PEFT cannot read this adapter: {reason}", hint=AGAIN) from e
    # PEFT leaves matrices that it does not find at their initial values, and only warns.
    if set(peft.get_peft_model_state_dict(model, save_embedding_layers=False)) != _names(folder):
        raise LmsiError(f"{folder / WEIGHTS}: not the matrices that {CONFIG} tells of", hint=AGAIN)
    return cast("nn.Module", model)


def check_start(config: TrainConfig, base_sha256: str) -> None:
    """Refuse, before anything is loaded, a ``config.init`` that training cannot start from.

    LmsiError: it is not a finished adapter of `lmsi train`, or its base, rank, alpha or rslora
    differs; says which.
    """
    if not config.init:
        return
    folder = Path(config.init)
    for name in (CONFIG, WEIGHTS, ORIGIN):
        if not (folder / name).is_file():
            hint = "give the `adapter` folder of a run whose training is finished"
            raise LmsiError(f"--set init={folder}: no finished adapter (no {name})", hint)
    check_base(folder / "adapter.gguf", base_sha256)
    saved = check_files(folder)
    # With another rank the weights do not fit; with another alpha they act differently.
    for flag, name in (("rank", "r"), ("alpha", "lora_alpha"), ("rslora", "use_rslora")):
        if saved.get(name) != (now := getattr(config, flag)):
            message = f"--set init={folder}: this adapter has {flag} {saved.get(name)}, {now} now"
            raise LmsiError(message, hint=f"train with its {flag}, or start afresh without `init`")


def fingerprint(config: TrainConfig) -> str:
    """The hash of the weights that training starts from; empty for a fresh adapter."""
    return sha256_file(Path(config.init) / WEIGHTS) if config.init else ""


def fill(model: nn.Module, config: TrainConfig) -> None:
    """Copy the weights of ``config.init`` into a fresh adapter; without ``init`` do nothing.

    LmsiError: the saved adapter, which has passed ``check_start``, acts on other matrices.
    """
    if not config.init:
        return
    from safetensors.torch import load_file

    folder = Path(config.init)
    saved = load_file(folder / WEIGHTS)
    fresh = {n.replace(".default.", "."): p for n, p in trainable(model).items()}
    if {n: p.shape for n, p in fresh.items()} != {n: t.shape for n, t in saved.items()}:
        raise LmsiError(
            f"--set init={folder}: this adapter acts on other matrices than target={config.target} "
            f"--layers {config.layers}",
            hint="train with its target and --layers, or start afresh without `init`",
        )
    checkpoint.fill(fresh, saved)
