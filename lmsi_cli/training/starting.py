"""An adapter to start from in place of a fresh one: whether it may be, and its weights.

An adapter starts at the scale that was chosen for it, so that the first step sees the model that
would answer: B is multiplied, since the effect is in proportion to it. Knows PEFT's format and the
``lmsi.json`` beside it; nothing of steps, rounds or run folders.

    check(TrainConfig(init="runs/a/adapter"), Path("m.gguf"), base_sha256)
    fill(model, TrainConfig(init="runs/a/adapter"))     # model: from lora.add_lora
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, chosen_scale, sha256_file
from lmsi_cli.training import lora
from lmsi_cli.training.export import CONFIG, WEIGHTS
from lmsi_cli.training.load import sizes, skeleton

if TYPE_CHECKING:
    from torch import nn

GGUF = "adapter.gguf"  # need not be there: settings of an adapter are found by this name
PREFIX = "base_model.model."
FINISHED = "give the `adapter` folder of a run whose training is finished"


def check(config: TrainConfig, gguf: Path, base_sha256: str) -> None:
    """Refuse an adapter that this training cannot start from, before anything is loaded.

    Args:
        config: ``init`` names the folder; empty passes.
        gguf: The base to train over.
        base_sha256: Hash of its bytes.

    Raises:
        LmsiError: It is no finished adapter of `lmsi train`, or has another base, rank, alpha or
            other matrices; says which.
    """
    if not config.init:
        return
    folder = Path(config.init)
    _check_there(folder)
    check_base(folder / GGUF, base_sha256)
    _check_settings(folder, config)
    _check_matrices(folder, config, gguf)


def fingerprint(config: TrainConfig) -> str:
    """Name what a training starts from: the weights and the scale they act at; empty: afresh."""
    if not config.init:
        return ""
    folder = Path(config.init)
    told = f"{sha256_file(folder / WEIGHTS)} {chosen_scale(folder / GGUF)!r}"
    return hashlib.sha256(told.encode()).hexdigest()


def fill(model: nn.Module, config: TrainConfig) -> None:
    """Give a fresh adapter the weights of the one to start from; without one, leave it as it is.

    Args:
        model: From ``lora.add_lora``, with the same settings.
        config: ``init`` names the folder, which ``check`` has passed.
    """
    if not config.init:
        return
    import torch
    from safetensors.torch import load_file

    folder = Path(config.init)
    saved, scale = load_file(folder / WEIGHTS), chosen_scale(folder / GGUF)
    with torch.no_grad():
        for name, parameter in lora.trainable(model).items():
            weights = saved[name.replace(".default.", ".")]
            parameter.copy_(weights * scale if ".lora_B." in name else weights)


def _check_there(folder: Path) -> None:
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        if not (folder / ORIGIN).is_file():
            why = f"no {ORIGIN}, so its base is not known or its training not finished"
            raise LmsiError(f"--init {folder}: {why}", hint=FINISHED)
        return
    inner = folder / "adapter"
    hint = f"--init {inner}" if (inner / CONFIG).is_file() else FINISHED
    raise LmsiError(f"--init {folder}: no adapter in PEFT's format (no {CONFIG})", hint=hint)


def _check_settings(folder: Path, config: TrainConfig) -> None:
    """Rank and scaling must agree: weights of another rank do not fit, of another alpha change."""
    told = read_object(folder / CONFIG)
    wanted: dict[str, tuple[str, Any]] = {
        "--rank": ("r", config.rank),
        "--alpha": ("lora_alpha", config.alpha),
        "--rslora": ("use_rslora", config.rslora),
    }
    for flag, (name, now) in wanted.items():
        if (then := told.get(name)) != now:
            raise LmsiError(
                f"--init {folder}: this adapter has {flag} {_shown(then)}, {_shown(now)} now",
                hint=f"train with its {flag}, or start afresh without --init",
            )


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever the file says
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_matrices(folder: Path, config: TrainConfig, gguf: Path) -> None:
    """The tensors of the file must be those that this training would make, in name and shape."""
    rank, wanted = config.rank, dict[str, list[int]]()
    layers = lora.adapted(skeleton(gguf), config.target, config.layers, rank)
    for name, layer in layers.items():
        out, into = sizes(layer)
        wanted[f"{PREFIX}{name}.lora_A.weight"] = [rank, into]
        wanted[f"{PREFIX}{name}.lora_B.weight"] = [out, rank]
    if _shapes(folder / WEIGHTS) != wanted:
        told = read_object(folder / CONFIG)
        names = ",".join(sorted(told.get("target_modules") or ()))
        raise LmsiError(
            f"--init {folder}: this adapter acts on other matrices than --target {config.target} "
            f"--layers {config.layers} of this model: {names}",
            hint="train with its --target and --layers, or start afresh without --init",
        )


def _shapes(file: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as f:
            return {key: list(f.get_slice(key).get_shape()) for key in f.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as e:
        raise LmsiError(f"{file}: cannot be read: {e}", hint=FINISHED) from None
