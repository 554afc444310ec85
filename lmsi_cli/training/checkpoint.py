"""Two files that hold a training run between two steps: where it stands, and its best adapter.

Tensors (the adapter; of where it stands also the moments of AdamW) go into a safetensors file, all
else into its header as JSON; nothing is pickled, so a checkpoint cannot run code. A kill or a power
cut leaves the old one or the new one. The header says

    {"fingerprint": "9f2c...", "step": 300, "settings": {"rank": 16, ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lmsi_cli.atomic import unfinished, write_atomic
from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Record
from lmsi_cli.resume import check_same
from lmsi_cli.splits import parts_of
from lmsi_cli.training.data import Unit, sequences

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = dict[str, torch.Tensor]
    Parameters = dict[str, nn.Parameter]

NAME, BEST = "checkpoint.safetensors", "best.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
# Enough of a model file to tell two apart without reading gigabytes.
HEAD_BYTES = 1 << 20


class Header(Record, frozen=True, kw_only=True):
    """What a checkpoint belongs to, and how many steps of it are finished."""

    fingerprint: str
    step: int
    settings: dict[str, Any]


def decisive(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide a run's result, as a checkpoint carries them."""
    return {k: v for k, v in msgspec.to_builtins(config).items() if k not in SPEED_ONLY}


def fingerprint(
    gguf: Path | None, examples: Sequence[Unit], config: TrainConfig, start: str = ""
) -> str:
    """Name a run by all that decides its result; how often it saves, and where it runs, does not.

    Args:
        gguf: The base model; its files' sizes, heads and tails stand for it. None in some tests.
        examples: The token ids and weights in order.
        config: All settings.
        start: From ``initial_adapter.fingerprint``: what ``config.init`` holds.
    """
    encode = msgspec.json.Encoder(order="sorted").encode
    # Where the adapter to start from lies is no matter, what it says is.
    digest = hashlib.sha256(encode(decisive(config) | {"init": start}))
    for e in sequences(examples):
        digest.update(encode((e.prompt, e.completion, e.weight)))
    for part in parts_of(gguf) if gguf is not None else ():
        size = part.stat().st_size
        with part.open("rb") as f:
            digest.update(f"{size}".encode() + f.read(HEAD_BYTES))
            f.seek(max(0, size - HEAD_BYTES))
            digest.update(f.read())
    return digest.hexdigest()


def save(
    path: Path,
    header: Header,
    parameters: Parameters,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Write a checkpoint, replacing the last one in one rename.

    Args:
        path: ``NAME`` or ``BEST`` in the training run's folder.
        header: What it belongs to, and where the run stands.
        parameters: The adapter's, by name.
        optimizer: AdamW over exactly these; without it only the weights are kept.

    Raises:
        LmsiError: The disk is full or fails; the last checkpoint stays.
    """
    from safetensors.torch import save as encode

    tensors = {f"weight/{name}": p.detach().contiguous() for name, p in parameters.items()}
    if optimizer is not None:
        for name, p in parameters.items():
            state = optimizer.state[p]
            tensors |= {f"{key}/{name}": state[key].contiguous() for key in MOMENTS if key in state}
    write_atomic(path, encode(tensors, {"header": msgspec.json.encode(header).decode()}))


def load(
    folder: Path, wanted: Header, parameters: Parameters, optimizer: torch.optim.Optimizer
) -> Header | None:
    """Restore a run and return where it stands; None if there is nothing of it, or only a torso.

    Args:
        folder: The training run's folder.
        wanted: Fingerprint and settings of this run.
        parameters: Filled in place.
        optimizer: Its state is filled.

    Raises:
        LmsiError: It holds hours of another run, which must not be lost by a typing mistake.
    """
    import torch

    found = _read(folder / NAME)
    if found is None:
        return None
    header, tensors = found
    if header.fingerprint != wanted.fingerprint:
        whose = f"{folder / NAME} (step {header.step} of an unfinished training)"
        check_same(header.settings, wanted.settings, whose)
        raise LmsiError(
            f"{whose} belongs to other examples or another model",
            hint="start over with `--overwrite`, or use another folder",
        )
    _fill(parameters, tensors)
    for name, p in parameters.items():
        if f"{MOMENTS[0]}/{name}" in tensors:
            optimizer.state[p] = {
                "step": torch.tensor(float(header.step), device=p.device),
                **{moment: tensors[f"{moment}/{name}"].to(p.device) for moment in MOMENTS},
            }
    return header


def load_best(folder: Path, wanted: str, step: int, parameters: Parameters) -> None:
    """Bring the best adapter of the run ``wanted`` back, that of ``step``.

    Raises:
        LmsiError: It is not there, or another one.
    """
    found = _read(folder / BEST)
    if found is None or (found[0].fingerprint, found[0].step) != (wanted, step):
        raise LmsiError(
            f"{folder / BEST}: not the adapter of step {step}",
            hint="somebody changed it: start over with `--overwrite`",
        )
    _fill(parameters, found[1])


def remove(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for name in (NAME, BEST):
        (folder / name).unlink(missing_ok=True)
        unfinished(folder / name).unlink(missing_ok=True)


def _fill(parameters: Parameters, tensors: Tensors) -> None:
    import torch

    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[f"weight/{name}"])


def _read(path: Path) -> tuple[Header, Tensors] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as f:
            header = msgspec.json.decode(f.metadata()["header"], type=Header)
            return header, {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 - not a dict
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, *UNREADABLE):
        return None
