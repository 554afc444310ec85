"""One file that holds a training run between two steps.

Tensors (adapter, both AdamW moments, the random state) go into a safetensors file, everything
else into that file's header as JSON; nothing is pickled, so a checkpoint cannot run code. Written
beside its place and renamed, so a kill leaves the old one or the new one. The header says

    {"fingerprint": "9f2c...", "step": 300}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.lines import unfinished
from lmsi_cli.records import Record
from lmsi_cli.training.data import TokenExample

if TYPE_CHECKING:
    import torch
    from torch import nn

NAME = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
# Enough of a model file to tell two apart without reading gigabytes.
HEAD_BYTES = 1 << 20


class Header(Record, frozen=True, kw_only=True):
    """What a checkpoint belongs to, and the number of finished steps."""

    fingerprint: str
    step: int


def fingerprint(gguf: Path | None, examples: Sequence[TokenExample], config: TrainConfig) -> str:
    """Name a run by all that decides its result; how often it saves, and where it runs, does not.

    Args:
        gguf: The base model; its size, head and tail stand for it. None in tests without one.
        examples: The token ids in order.
        config: All settings.
    """
    settings = {k: v for k, v in msgspec.structs.asdict(config).items() if k not in SPEED_ONLY}
    digest = hashlib.sha256(msgspec.json.encode(settings))
    digest.update(msgspec.json.encode([(e.prompt, e.completion) for e in examples]))
    if gguf is not None:
        size = gguf.stat().st_size
        with gguf.open("rb") as f:
            digest.update(f"{size}".encode() + f.read(HEAD_BYTES))
            f.seek(max(0, size - HEAD_BYTES))
            digest.update(f.read())
    return digest.hexdigest()


def save(
    folder: Path,
    header: Header,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rng: torch.Tensor,
) -> None:
    """Write the checkpoint of ``folder``, replacing the last one in one rename.

    Args:
        folder: The training run's folder.
        header: Fingerprint and number of finished steps.
        parameters: The adapter's, by name.
        optimizer: AdamW over exactly these.
        rng: torch's random state after the last finished step.
    """
    from safetensors.torch import save_file

    tensors = {"rng": rng}
    for name, p in parameters.items():
        tensors[f"weight/{name}"] = p.detach()
        for moment in MOMENTS:
            if moment in optimizer.state[p]:
                tensors[f"{moment}/{name}"] = optimizer.state[p][moment]
    fresh = unfinished(folder / NAME)
    save_file(
        {k: t.contiguous() for k, t in tensors.items()},
        fresh,
        metadata={"header": msgspec.json.encode(header).decode()},
    )
    fresh.replace(folder / NAME)


def load(
    folder: Path,
    wanted: str,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Restore a run and return its number of finished steps; 0 if there is nothing of it.

    A checkpoint of other data, another model or other settings is left alone; the next save
    replaces it.

    Args:
        folder: The training run's folder.
        wanted: The fingerprint of this run.
        parameters: Filled in place.
        optimizer: Its state is filled.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / NAME, framework="pt") as f:
            header = msgspec.json.decode(f.metadata()["header"], type=Header)
            if header.fingerprint != wanted:
                return 0
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 - not a dict
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, msgspec.DecodeError):
        return 0
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[f"weight/{name}"])
            if f"{MOMENTS[0]}/{name}" in tensors:
                optimizer.state[p] = {m: tensors[f"{m}/{name}"].to(p.device) for m in MOMENTS}
                optimizer.state[p]["step"] = torch.tensor(float(header.step), device=p.device)
    torch.set_rng_state(tensors["rng"])
    return header.step


def remove(folder: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (folder / NAME).unlink(missing_ok=True)
    unfinished(folder / NAME).unlink(missing_ok=True)
