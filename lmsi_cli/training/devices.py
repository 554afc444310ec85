"""Where training runs and in which arithmetic: on the CPU, or on a GPU that torch can use.

Chooses the device and the number type, and sets up autocast and the optimiser for them. Knows
models only by their parameters, and nothing of files. On a laptop without a GPU,

    pick("auto") == "cpu"
    pick_dtype("auto", "cpu") == "fp32"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from timeit import timeit
from typing import TYPE_CHECKING, cast

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

PACKAGES = ("torch", "transformers", "peft", "accelerate")
INSTALL = "pip install '.[train]' in lmsi's folder"
# One pass over all parameters instead of hundreds of small kernels.
FUSED = ("cpu", "cuda")
# NVIDIA's first generation that multiplies bf16 natively (Ampere); torch emulates it below.
BF16_CAPABILITY = (8, 0)
TOKENS = 256  # rows of the timed product: enough to run the kernel that training runs
TURNS = 5
# On a CPU, bf16 must be this many times as fast. Native bf16 is two to eight times as fast, any
# other is slower; so noise does not change the choice, and a resumed run makes the same one.
MARGIN = 1.3


def check_packages(what: str = "training") -> None:
    """Refuse work that needs a missing package, before an hour is spent on it."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise LmsiError(f"{what} needs {', '.join(missing)}: not installed", f"type: {INSTALL}")


def pick(wanted: str, number: int = 0) -> str:
    """Choose the device of this process: ``cpu``, ``mps`` or ``cuda:N``, as torch spells it.

    ``wanted`` is auto, cpu, cuda or mps; ``number`` says which of the machine's GPUs to use if
    several processes share the work. LmsiError: torch finds no such device here, or too few.
    """
    import torch

    found = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if wanted == "auto":
        wanted = next((kind for kind, count in found.items() if count), "cpu")
    if wanted == "cpu":
        return wanted
    if not found[wanted]:
        hint = "use --device auto or cpu; `lmsi doctor` shows what torch can do"
        raise LmsiError(f"--device {wanted}: torch finds no such device here", hint)
    if number >= found[wanted]:
        raise LmsiError(
            f"--device {wanted}: process {number + 1} on this machine has none left,"
            f" torch finds {found[wanted]}",
            hint=f"start {found[wanted]} processes, or use --device cpu",
        )
    return f"cuda:{number}" if wanted == "cuda" else wanted


def pick_dtype(wanted: str, device: str, matrix: tuple[int, int] | None = None) -> Dtype:
    """Choose the arithmetic; ``auto`` takes bf16 only where the device multiplies it natively.

    A CPU may support bf16 and still be slower with it (an emulating virtual machine, a build of
    torch without the kernels). So a product with a matrix of the model's is timed: ``matrix`` is
    its (outputs, inputs); None: not timed. fp16 is not offered: its gradients overflow without a
    scaler. On MPS ``auto`` takes fp32.
    """
    import torch

    if wanted != "auto":
        return cast(Dtype, wanted)
    if device.startswith("cuda"):
        native = torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    else:
        native = device == "cpu" and native_bf16()
        native = native and (matrix is None or bf16_gain(*matrix) > MARGIN)
    return "bf16" if native else "fp32"


def native_bf16() -> bool:
    """Whether this CPU has instructions for bf16."""
    import torch

    # get_capabilities came with torch 2.10; the private names answer for older ones.
    read = getattr(torch.cpu, "get_capabilities", None)
    if read is not None:
        flags = read()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def bf16_gain(out: int, into: int) -> float:
    """How many times as fast bf16 is for ``TOKENS`` rows by a matrix (out, into); takes 0.2 s."""
    import torch

    kinds = (torch.bfloat16, torch.float32)
    pairs = {k: (torch.ones(TOKENS, into, dtype=k), torch.ones(out, into, dtype=k)) for k in kinds}
    best = dict.fromkeys(kinds, float("inf"))
    with torch.inference_mode():
        for _ in range(1 + TURNS):  # the first prepares the kernel, and is the slowest
            for kind, (x, w) in pairs.items():
                best[kind] = min(best[kind], timeit(partial(torch.mm, x, w.t()), number=1))
    return best[torch.float32] / best[torch.bfloat16]


def of(model: nn.Module) -> torch.device:
    """The device that a model's parameters lie on."""
    return next(model.parameters()).device


def autocast(device: torch.device, dtype: Dtype) -> torch.autocast:
    """Matrix products in bf16 within this block, if ``dtype`` says so."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16")


def adamw(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """The optimiser over an adapter's parameters, fused where the device has it."""
    import torch

    own, decay = list(parameters), config.weight_decay
    fused = own[0].device.type in FUSED
    return torch.optim.AdamW(own, lr=float(config.lr), fused=fused, weight_decay=decay)


def peak_mib(device: str) -> int:
    """Peak memory that torch held on a GPU, in MiB; on MPS the current figure, on a CPU 0."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device)) >> 20
    return int(torch.mps.driver_allocated_memory()) >> 20 if device == "mps" else 0
