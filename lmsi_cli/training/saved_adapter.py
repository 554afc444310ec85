"""An adapter as it lies on the disk in PEFT's format: written, checked, read, and started from.

A training may start from one (``init``). Its settings must be those of the new adapter, and its
base the same file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, sha256_file
from lmsi_cli.training.adapter import CONFIG, WEIGHTS, trainable
from lmsi_cli.training.load import Dtype, load_base, quiet

if TYPE_CHECKING:
    from torch import nn

ANEW = "bring the file back, or train again: lmsi train RUN --overwrite"
FINISHED = "give the `adapter` folder of a run whose training is finished"


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
    """Let the configuration of a saved adapter call its base by another name."""
    _write_config(folder, read_object(folder / CONFIG) | {"base_model_name_or_path": base_name})


def _write_config(folder: Path, settings: dict[str, Any]) -> None:
    write_atomic(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def check_files(folder: Path) -> dict[str, Any]:
    """Refuse an adapter whose files are missing, torn or another kind's; returns its settings."""
    saved = read_object(folder / CONFIG)
    if saved.get("peft_type") != "LORA" or not isinstance(saved.get("r"), int):
        raise LmsiError(f"{folder / CONFIG}: not the settings of a LoRA adapter", hint=ANEW)
    _names(folder)
    return saved


def _names(folder: Path) -> set[str]:
    """The names of the saved matrices."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, "np") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as e:
        raise LmsiError(f"{folder / WEIGHTS}: cannot be read: {e}", hint=ANEW) from e


def with_adapter(gguf: Path, folder: Path, dtype: Dtype) -> nn.Module:
    """The file's own weights with a saved adapter, as PEFT reads it: what llama.cpp will run.

    LmsiError: transformers cannot load the base, or PEFT the adapter, or only a part of it.
    """
    import peft

    check_files(folder)
    base = load_base(gguf, dtype)
    try:
        with quiet():
            model = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        raise LmsiError(f"{folder}: PEFT cannot read this adapter: {reason}", hint=ANEW) from e
    # PEFT leaves what it does not find as it begins, with no more than a warning.
    if set(peft.get_peft_model_state_dict(model, save_embedding_layers=False)) != _names(folder):
        raise LmsiError(f"{folder / WEIGHTS}: not the matrices that {CONFIG} tells of", hint=ANEW)
    return cast("nn.Module", model)


def check_start(config: TrainConfig, base_sha256: str) -> None:
    """Refuse an adapter that a training cannot start from, before anything is loaded.

    LmsiError: what ``config.init`` names is no finished adapter of `lmsi train`, or has another
    base, rank or alpha; says which.
    """
    if not config.init:
        return
    folder = Path(config.init)
    for name in (CONFIG, WEIGHTS, ORIGIN):
        if not (folder / name).is_file():
            inner = folder / "adapter"
            hint = f"--set init={inner}" if (inner / CONFIG).is_file() else FINISHED
            raise LmsiError(f"--set init={folder}: no finished adapter (no {name})", hint=hint)
    check_base(folder / "adapter.gguf", base_sha256)
    saved = check_files(folder)
    # Weights of another rank do not fit, and of another alpha they act otherwise.
    for flag, name in (("rank", "r"), ("alpha", "lora_alpha"), ("rslora", "use_rslora")):
        if saved.get(name) != (now := getattr(config, flag)):
            message = f"--set init={folder}: this adapter has {flag} {saved.get(name)}, {now} now"
            raise LmsiError(message, hint=f"train with its {flag}, or start afresh without `init`")


def fingerprint(config: TrainConfig) -> str:
    """Name the weights that a training starts from; empty: afresh."""
    return sha256_file(Path(config.init) / WEIGHTS) if config.init else ""


def fill(model: nn.Module, config: TrainConfig) -> None:
    """Give a fresh adapter the weights of the one to start from; without one, leave it as it is.

    LmsiError: that one, which ``check_start`` has passed, acts on other matrices.
    """
    if not config.init:
        return
    import torch
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
    with torch.no_grad():
        for name, parameter in fresh.items():
            parameter.copy_(saved[name])
