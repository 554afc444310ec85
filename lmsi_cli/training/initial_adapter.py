"""The adapter that a training starts from (``init``): checked, and copied into the fresh one.

Without one a training starts afresh. Its settings must be those of the new adapter, and its base
the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, sha256_file
from lmsi_cli.training import adapter
from lmsi_cli.training.adapter import CONFIG, WEIGHTS
from lmsi_cli.training.saved_adapter import check_files

if TYPE_CHECKING:
    from torch import nn

GGUF = "adapter.gguf"  # need not be there: settings of an adapter are found by this name
FINISHED = "give the `adapter` folder of a run whose training is finished"


def check_adapter(config: TrainConfig, base_sha256: str) -> None:
    """Refuse an adapter that this training cannot start from, before anything is loaded.

    Args:
        config: ``init`` names the folder; empty passes.
        base_sha256: Hash of the base's bytes.

    Raises:
        LmsiError: It is no finished adapter of `lmsi train`, or has another base, rank or alpha;
            says which.
    """
    if not config.init:
        return
    folder = Path(config.init)
    for name in (CONFIG, WEIGHTS, ORIGIN):
        if not (folder / name).is_file():
            inner = folder / "adapter"
            hint = f"--set init={inner}" if (inner / CONFIG).is_file() else FINISHED
            raise LmsiError(f"--set init={folder}: no finished adapter (no {name})", hint=hint)
    check_base(folder / GGUF, base_sha256)
    saved = check_files(folder)
    # Weights of another rank do not fit, and of another alpha they act otherwise.
    for flag, name in (("rank", "r"), ("alpha", "lora_alpha"), ("rslora", "use_rslora")):
        if saved.get(name) != (now := getattr(config, flag)):
            raise LmsiError(
                f"--set init={folder}: this adapter has {flag} {saved.get(name)}, {now} now",
                hint=f"train with its {flag}, or start afresh without `init`",
            )


def fingerprint(config: TrainConfig) -> str:
    """Name the weights that a training starts from; empty: afresh."""
    return sha256_file(Path(config.init) / WEIGHTS) if config.init else ""


def fill_adapter(model: nn.Module, config: TrainConfig) -> None:
    """Give a fresh adapter the weights of the one to start from; without one, leave it as it is.

    Args:
        model: From ``adapter.add_lora``, with the same settings.
        config: ``init`` names the folder, which ``check_adapter`` has passed.

    Raises:
        LmsiError: That adapter acts on other matrices.
    """
    if not config.init:
        return
    import torch
    from safetensors.torch import load_file

    folder = Path(config.init)
    saved = load_file(folder / WEIGHTS)
    fresh = {n.replace(".default.", "."): p for n, p in adapter.trainable(model).items()}
    if {n: p.shape for n, p in fresh.items()} != {n: t.shape for n, t in saved.items()}:
        raise LmsiError(
            f"--set init={folder}: this adapter acts on other matrices than target={config.target} "
            f"--layers {config.layers}",
            hint="train with its target and --layers, or start afresh without `init`",
        )
    with torch.no_grad():
        for name, parameter in fresh.items():
            parameter.copy_(saved[name])
