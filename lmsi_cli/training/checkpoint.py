"""The checkpoint of a training run between two steps: its state, and its best adapter so far.

Tensors (the adapter, the moments of AdamW, the best adapter so far) go into a safetensors file, all
else into its header as JSON; nothing is pickled, so a checkpoint cannot run code. A kill or a power
cut leaves either the old checkpoint or the new one. The header:

    {"fingerprint": "9f2c...", "step": 300, "settings": {"rank": 16, ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from safetensors import SafetensorError, safe_open

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Record
from lmsi_cli.resume import ANEW, check_same
from lmsi_cli.training.data import TokenExample, single

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = Mapping[str, torch.Tensor]
    Parameters = dict[str, nn.Parameter]

NAME = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


class Header(Record, frozen=True, kw_only=True):
    """The run that a checkpoint belongs to, and how many of its steps are finished.

    ``settings`` decide its result: all but those for speed and memory alone.
    """

    fingerprint: str
    step: int
    settings: dict[str, Any]


def begun(
    examples: Sequence[TokenExample], config: TrainConfig, base: str = "", start: str = ""
) -> Header:
    """The header of a run before its first step, with a hash of all that decides its result.

    That is ids and weights in order, settings, files. ``base`` is the hash of the base model,
    ``start`` that of the weights in ``config.init``; the paths of these files do not count.
    """
    settings = {k: v for k, v in msgspec.to_builtins(config).items() if k not in SPEED_ONLY}
    encode = msgspec.json.Encoder(order="sorted").encode
    digest = hashlib.sha256(encode([settings | {"init": start}, base]))
    for e in single(examples):
        digest.update(encode((e.prompt, e.completion, e.weight)))
    return Header(fingerprint=digest.hexdigest(), step=0, settings=settings)


def save(
    folder: Path,
    header: Header,
    parameters: Parameters,
    optimizer: torch.optim.Optimizer,
    best: Tensors,
) -> None:
    """Write a checkpoint of an adapter and its optimiser, replacing the last in one rename.

    ``best`` is the best adapter so far, by parameter name; empty: none yet. LmsiError:
    the disk is full or fails; the last checkpoint stays.
    """
    from safetensors.torch import save as encode

    tensors = {f"best/{name}": t.contiguous() for name, t in best.items()}
    for name, p in parameters.items():
        state = optimizer.state[p]
        tensors[f"weight/{name}"] = p.detach().contiguous()
        tensors |= {f"{key}/{name}": state[key].contiguous() for key in MOMENTS if key in state}
    told = {"header": msgspec.json.encode(header).decode()}
    write_atomic(folder / NAME, encode(tensors, told))


def load(
    folder: Path, wanted: Header, parameters: Parameters, optimizer: torch.optim.Optimizer
) -> tuple[int, Tensors]:
    """Fill parameters and optimiser from a checkpoint; a missing or broken one counts as none.

    Returns the number of finished steps and the best adapter so far. LmsiError: the checkpoint is
    another run's, whose hours of work must not be lost to a typing mistake.
    """
    try:
        with safe_open(folder / NAME, framework="pt") as f:
            header = msgspec.json.decode(f.metadata()["header"], type=Header)
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 - not a dict
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, *UNREADABLE):
        return 0, {}
    if header.fingerprint != wanted.fingerprint:
        whose = f"{folder / NAME} (step {header.step} of an unfinished training)"
        check_same(header.settings, wanted.settings, whose, anew=ANEW)
        hint = f"start over with `{ANEW}`, or use another folder"
        raise LmsiError(f"{whose} belongs to other examples or another model", hint)
    fill(parameters, {name: tensors[f"weight/{name}"] for name in parameters})
    for name, p in parameters.items():
        if f"{MOMENTS[0]}/{name}" in tensors:
            optimizer.state[p] = {
                "step": p.new_tensor(float(header.step)),
                **{moment: tensors[f"{moment}/{name}"].to(p.device) for moment in MOMENTS},
            }
    best = {k.removeprefix("best/"): t for k, t in tensors.items() if k.startswith("best/")}
    return header.step, best


def fill(parameters: Parameters, weights: Tensors) -> None:
    """Copy weights into an adapter, by parameter name."""
    for name, p in parameters.items():
        p.data.copy_(weights[name])
