"""Two files that hold a training run between two steps: where it stands, and its best adapter.

Tensors (adapter, both AdamW moments, the random state) go into a safetensors file, everything
else into that file's header as JSON; nothing is pickled, so a checkpoint cannot run code. Written
beside its place, forced onto the disk and renamed, so a kill or a power cut leaves the old one or
the new one. The header says

    {"fingerprint": "9f2c...", "step": 300, "threads": 2, "settings": {"rank": 16, ...}}
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lmsi_cli.atomic import unfinished, write_error
from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.resume import check_same
from lmsi_cli.splits import parts_of
from lmsi_cli.training.data import Unit, sequences

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = dict[str, torch.Tensor]

NAME, BEST = "checkpoint.safetensors", "best.safetensors"
REFERENCE = "reference.json"  # of preference.py
MOMENTS = ("exp_avg", "exp_avg_sq")
# Enough of a model file to tell two apart without reading gigabytes.
HEAD_BYTES = 1 << 20


class Header(Record, frozen=True, kw_only=True):
    """What a checkpoint belongs to, and where the run stands.

    ``step`` counts finished steps. ``threads`` decides in which order sums are taken, and so the
    last digits.
    """

    fingerprint: str
    step: int
    settings: dict[str, Any]
    threads: int = 0


def told(config: TrainConfig) -> dict[str, Any]:
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
        start: From ``starting.fingerprint``: what ``config.init`` holds.
    """
    # Where the adapter to start from lies is no matter, what it says is.
    decisive = {k: v for k, v in told(config).items() if k != "init"}
    digest = hashlib.sha256(msgspec.json.encode(decisive, order="sorted"))
    digest.update(start.encode())
    for piece in _spelled(examples):
        digest.update(piece)
    for part in parts_of(gguf) if gguf is not None else ():
        size = part.stat().st_size
        with part.open("rb") as f:
            digest.update(f"{size}".encode() + f.read(HEAD_BYTES))
            f.seek(max(0, size - HEAD_BYTES))
            digest.update(f.read())
    return digest.hexdigest()


def _spelled(examples: Sequence[Unit]) -> Iterator[bytes]:
    """One JSON array of all their sequences, never in memory as a whole."""
    encode, before = msgspec.json.Encoder().encode, b"["
    for unit in examples:
        for e in sequences([unit]):
            yield before + encode((e.prompt, e.completion, e.weight))
            before = b","
    yield b"]" if before == b"," else b"[]"


def save(
    folder: Path,
    header: Header,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rng: Tensors,
) -> None:
    """Write the checkpoint of ``folder``, replacing the last one in one rename.

    Args:
        folder: The training run's folder.
        header: What it belongs to, and where the run stands.
        parameters: The adapter's, by name.
        optimizer: AdamW over exactly these.
        rng: From ``random_state`` after the last finished step.

    Raises:
        LmsiError: The disk is full or fails; the last checkpoint stays.
    """
    tensors = {**rng, **_weights(parameters)}
    for name, p in parameters.items():
        for moment in MOMENTS:
            if moment in optimizer.state[p]:
                tensors[f"{moment}/{name}"] = optimizer.state[p][moment]
    _write(folder / NAME, tensors, header)


def save_best(folder: Path, header: Header, parameters: dict[str, nn.Parameter]) -> None:
    """Keep the adapter of this step as the best one so far; as ``save``."""
    _write(folder / BEST, _weights(parameters), header)


def _weights(parameters: dict[str, nn.Parameter]) -> Tensors:
    return {f"weight/{name}": p.detach() for name, p in parameters.items()}


def _write(path: Path, tensors: Tensors, header: Header) -> None:
    from safetensors.torch import save_file

    fresh = unfinished(path)
    with writing(path):
        save_file(
            {k: t.contiguous() for k, t in tensors.items()},
            fresh,
            metadata={"header": msgspec.json.encode(header).decode()},
        )
        with fresh.open("rb+") as file:  # else a power cut may keep the new name without its bytes
            os.fsync(file.fileno())
        fresh.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failing disk into one line, whoever of the libraries meets it.

    Raises:
        LmsiError: Nothing could be written; an older ``path`` stays as it was.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as e:
        with suppress(OSError):
            unfinished(path).unlink(missing_ok=True)
        raise write_error(path, _os_error(e)) from e


def _os_error(e: Exception) -> OSError:
    """Read what safetensors only tells as text: ``... (os error 28)``."""
    number = re.search(r"os error (\d+)", str(e))
    if isinstance(e, OSError):
        return e
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(0, str(e))


def load(
    folder: Path,
    wanted: Header,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
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
        raise _another(folder / NAME, header, wanted)
    _fill(parameters, tensors)
    for name, p in parameters.items():
        if f"{MOMENTS[0]}/{name}" in tensors:
            moments = {m: tensors[f"{m}/{name}"].to(p.device) for m in MOMENTS}
            optimizer.state[p] = {
                **moments,
                "step": torch.tensor(float(header.step), device=p.device),
            }
    _restore_random(tensors)
    return header


def load_best(folder: Path, wanted: str, step: int, parameters: dict[str, nn.Parameter]) -> None:
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


def _fill(parameters: dict[str, nn.Parameter], tensors: Tensors) -> None:
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
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, msgspec.DecodeError):
        return None


def _another(path: Path, found: Header, wanted: Header) -> LmsiError:
    """Say what differs between the run that a checkpoint holds and the one that was asked for."""
    whose = f"{path} (step {found.step} of an unfinished training)"
    try:
        check_same({**told(TrainConfig()), **found.settings}, wanted.settings, whose)
    except LmsiError as e:
        return e
    return LmsiError(
        f"{whose} belongs to other examples or another model",
        hint="start over with `--overwrite`, or use another folder",
    )


def random_state() -> Tensors:
    """The random state of the processor and of the devices that dropout draws on."""
    import torch

    states = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"rng/cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["rng/mps"] = torch.mps.get_rng_state()
    return states


def _restore_random(tensors: Tensors) -> None:
    import torch

    torch.set_rng_state(tensors["rng"])
    for i in range(torch.cuda.device_count()):
        if f"rng/cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"rng/cuda{i}"], i)
    if "rng/mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["rng/mps"])


def remove(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for name in (NAME, BEST, REFERENCE):
        (folder / name).unlink(missing_ok=True)
        unfinished(folder / name).unlink(missing_ok=True)
