"""How much memory a training run needs, whether it is free, and how the process keeps to it.

The formula needs the file's header, the longest example and the settings; no weight is read. For
its backward pass, a block keeps roughly the inputs and outputs of its matrices, once each in the
type of the products, and the attention weights. docs/training.md compares the formula with
measured peaks. In bytes:

    need(...) == (1260000000, 140000000, 2800000000, 610000000)

Rows differ in length from step to step, and every new length costs memory in two ways: glibc's
heap gets holes that the next, slightly longer tensor does not fit into, and oneDNN keeps up to
1,024 prepared products of half a megabyte, one for each shape. So free heap pages are returned
after every slow step, and when the process has grown by a fifth (``Trimmer``), and oneDNN keeps
fewer products.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

import msgspec
import psutil

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training.attention import SMALL
from lmsi_cli.training.data import TokenExample
from lmsi_cli.training.header import GgufMeta
from lmsi_cli.training.load import Dtype

GIB = 1 << 30
ADAM = 16  # bytes per number of the adapter: itself, its gradient and two moments, in fp32
# Measured: what the libraries take when first used; in bf16 also what oneDNN prepares over a run.
LIBRARIES = {"fp32": 150 << 20, "bf16": 550 << 20}
HOLES = 0.05  # measured: holes in the heap, as a share of the memory that stays in use
PARTS = {"attn": "attn", "mlp": "ffn"}  # of tensors' names, by `target`; others count all
PRODUCTS = 64  # products that oneDNN keeps: a layer has about fifty shapes
GROWTH = 1.2  # growth that makes returning pages worth it; mapping a GB again takes 0.3 s
SLOW = 5.0  # seconds of a step from which on that time no longer counts
GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def need(
    meta: GgufMeta, examples: Sequence[TokenExample], dtype: Dtype, config: TrainConfig
) -> tuple[int, int, int, int]:
    """Estimate the bytes that a run needs beyond what the process has now, in four parts.

    These are weights, adapter, the row with the largest forward and backward pass, and libraries.
    ``row_tokens`` is 0 if the model takes one example a row.
    """
    from lmsi_cli.training.kernels import HEAD_ROWS

    size = 2 if dtype == "bf16" else 4
    trained = config.layers if isinstance(config.layers, int) else meta.blocks
    matrices = {n: s for n, s in meta.shapes.items() if n.startswith("blk.") and len(s) > 1}
    weights = sum(prod(s) * (size if len(s) > 1 else 4) for s in meta.shapes.values())
    adapted = _ends(meta, matrices, PARTS.get(config.target, ""))
    adapter = ADAM * config.rank * trained * adapted
    # tokens of the largest row, and how many keys of each token have their weights kept
    longest = max(e.length for e in examples)
    span = max(len(e.completions) * len(e.prompt) + sum(map(len, e.completions)) for e in examples)
    tokens = max(span, min(config.row_tokens, config.batch_size * span))
    seen = min(longest, SMALL // longest)
    block = size * tokens * (_ends(meta, matrices) + meta.heads * seen)
    once = config.gradient_checkpointing == "on"  # each block keeps its input, one at a time all
    kept = block + 4 * trained * tokens * meta.width if once else trained * block
    head = HEAD_ROWS * meta.shapes["token_embd.weight"][0] * (2 * size + 8)
    holes = int(HOLES * (resident() + weights + adapter))
    return weights, adapter, kept + head, LIBRARIES[dtype] + holes


def _ends(meta: GgufMeta, matrices: dict[str, tuple[int, ...]], part: str = "") -> int:
    """Inputs plus outputs of a mean block's matrices; of stacked experts, those in use."""
    used = int(meta.values.get("expert_used_count", 1))
    shapes = [shape for name, shape in matrices.items() if part in name]
    return sum(sum(s[-2:]) * (used if len(s) > 2 else 1) for s in shapes) // max(1, meta.blocks)


def recomputing(
    meta: GgufMeta,
    examples: Sequence[TokenExample],
    dtype: Dtype,
    config: TrainConfig,
    say: Callable[[str], None],
) -> bool:
    """Whether to compute activations twice: as asked, or for "auto" if only that fits.

    LmsiError: the run does not fit into free memory; says what needs less, least harmful first.
    """
    free, asked = free_bytes(), config.gradient_checkpointing
    for way in ("off", "on") if asked == "auto" else (asked,):
        config = msgspec.structs.replace(config, gradient_checkpointing=way)
        parts = need(meta, examples, dtype, config)
        if sum(parts) <= free:
            weights, adapter, row, _ = (n / GIB for n in parts)
            say(
                f"memory: about {sum(parts) / GIB:.1f} GiB more (weights {weights:.1f}, "
                f"adapter {adapter:.1f}, longest row {row:.1f})"
            )
            return way == "on"
    raise LmsiError(
        f"training needs about {sum(parts) / GIB:.1f} GiB more memory, "
        f"and {free / GIB:.1f} are free",
        hint="--set gradient_checkpointing=on, --set row_tokens=512, a lower --max-length and "
        "--layers each need less; or take a smaller model",
    )


def free_bytes() -> int:
    """Free bytes of the machine, or of a control group (a container, systemd) that has fewer."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError):
        lines = OWN_GROUP.read_text().splitlines()
        own = GROUPS / next((s[4:] for s in lines if s.startswith("0::/")), "")
        for folder in (own, *own.parents):
            with suppress(OSError, ValueError):  # its limit "max" is no number
                stat = dict(s.split() for s in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / "memory.current").read_text()) - int(stat["inactive_file"])
                free = min(free, int((folder / "memory.max").read_text()) - used)
    return max(0, free)


def prepare() -> None:
    """Limit oneDNN's cache of prepared products; call it before torch multiplies anything."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRODUCTS))


class Trimmer:
    """Gives free memory back to the system between two steps, where the C library can."""

    low = 0  # resident bytes one step after memory was last returned; 0: not known yet

    def after_step(self, seconds: float) -> None:
        """Return free pages if the step was slow, or if the process has grown by ``GROWTH``."""
        now = resident()
        if seconds > SLOW or 0 < GROWTH * self.low < now:
            give_back()
            self.low = 0
        elif not self.low:
            self.low = now


def resident() -> int:
    """The process's resident size in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """The process's largest resident size in bytes; on Windows the current one."""
    try:
        import resource
    except ImportError:
        return resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # macOS counts bytes, Linux KiB


def give_back() -> None:
    """Return the heap's free pages to the system; without glibc, do nothing."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
