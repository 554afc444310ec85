"""Where training runs: on the processor, or on a GPU that torch can use.

Chooses device and arithmetic and moves what must be moved; one code path for all of them. Knows
models only by their parameters, and nothing of files. On a laptop without a GPU,

    pick("auto") == "cpu"
    pick_dtype("auto", "cpu") == "fp32"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import data, load

if TYPE_CHECKING:
    import torch
    from torch import nn

GPUS = ("cuda", "mps")
# One pass over all parameters instead of hundreds of small kernels.
FUSED = ("cpu", "cuda")
# NVIDIA's first generation that multiplies bf16 natively (Ampere); torch emulates it below.
BF16_CAPABILITY = (8, 0)


def pick(wanted: str, number: int = 0) -> str:
    """Choose the device of this process.

    Args:
        wanted: auto, cpu, cuda or mps.
        number: Which of the machine's GPUs, where several processes share the work.

    Returns:
        ``cpu``, ``mps`` or ``cuda:N``, as torch spells it.

    Raises:
        LmsiError: torch cannot use such a device here, or not so many of them.
    """
    there = {"cuda": _cuda_count(), "mps": int(_has_mps())}
    if wanted == "auto":
        wanted = next((kind for kind in GPUS if there[kind]), "cpu")
    if wanted == "cpu":
        return wanted
    if not there[wanted]:
        raise LmsiError(
            f"--device {wanted}: torch finds no such device here",
            hint="use --device auto or cpu; `lmsi doctor` shows what torch can do",
        )
    if number >= there[wanted]:
        raise LmsiError(
            f"--device {wanted}: process {number + 1} on this machine has none left,"
            f" torch finds {there[wanted]}",
            hint=f"start {there[wanted]} processes, or use --device cpu",
        )
    return f"cuda:{number}" if wanted == "cuda" else wanted


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def pick_dtype(wanted: str, device: str) -> load.Dtype:
    """Choose the arithmetic; ``auto`` takes bf16 only where the device multiplies it natively.

    fp16 is not offered: its gradients overflow without a scaler. On MPS ``auto`` takes fp32.

    Args:
        wanted: auto, bf16 or fp32.
        device: From ``pick``.
    """
    import torch

    if wanted != "auto" or device == "cpu":
        return load.pick_dtype(wanted)
    if not device.startswith("cuda"):
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= BF16_CAPABILITY else "fp32"


def of(model: nn.Module) -> torch.device:
    """The device that a model's parameters lie on."""
    return next(model.parameters()).device


def put(batch: data.Batch, device: torch.device) -> data.Batch:
    """A row's tensors on ``device``."""
    return batch._replace(
        ids=batch.ids.to(device),
        positions=batch.positions.to(device),
        keep=batch.keep.to(device),
        labels=batch.labels.to(device),
    )


def autocast(device: torch.device, dtype: load.Dtype) -> torch.autocast:
    """Matrix products in bf16 within this block, if ``dtype`` says so."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16")


def adamw(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """The optimiser over an adapter's parameters, fused where the device has it."""
    import torch

    own = list(parameters)
    fused = own[0].device.type in FUSED
    return torch.optim.AdamW(own, lr=config.lr, fused=fused, weight_decay=config.weight_decay)


def peak_mib(device: torch.device) -> int:
    """The largest memory that torch held on a GPU, in MiB; on MPS the present one, 0 on a CPU."""
    import torch

    readers: dict[str, Any] = {
        "cuda": lambda: torch.cuda.max_memory_allocated(device),
        "mps": torch.mps.driver_allocated_memory,
    }
    return int(readers.get(device.type, int)()) >> 20
