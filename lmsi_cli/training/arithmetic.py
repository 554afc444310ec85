"""Is bf16 faster than fp32 on this CPU? Asked by multiplying, for flags do not say how fast.

A CPU may know bf16 and still be slower with it (a virtual machine that emulates, a build of torch
without the kernels). Knows one shape, no models. What is compared, operations per second:

    Rates(bf16=3.9e11, fp32=9.0e10)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

TOKENS = 256  # enough rows for the kernel that a training row gets
TURNS = 5
# By this much bf16 must win. Where a CPU multiplies it natively it wins two to eight times, where
# not it loses, so a noisy machine changes no answer, and a run that goes on gets the same one.
MARGIN = 1.3


class Rates(NamedTuple):
    """Operations per second of one product in both types, the best of some turns."""

    bf16: float
    fp32: float

    @property
    def pays(self) -> bool:
        """Whether bf16 is worth its rounding."""
        return self.bf16 > MARGIN * self.fp32


def compare(out: int, into: int) -> Rates:
    """Multiply ``TOKENS`` rows with a matrix (out, into) in both types by turns; some 0.2 s."""
    import torch

    pairs = {kind: _operands(out, into, kind) for kind in (torch.bfloat16, torch.float32)}
    best = dict.fromkeys(pairs, float("inf"))
    with torch.inference_mode():
        for turn in range(1 + TURNS):
            for kind, (x, w) in pairs.items():
                begun = time.perf_counter()
                _ = x @ w.t()
                spent = time.perf_counter() - begun
                if turn:  # the first prepares the kernel
                    best[kind] = min(best[kind], spent)
    work = 2 * TOKENS * out * into
    return Rates(work / best[torch.bfloat16], work / best[torch.float32])


def _operands(out: int, into: int, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.ones(TOKENS, into, dtype=kind), torch.ones(out, into, dtype=kind)
