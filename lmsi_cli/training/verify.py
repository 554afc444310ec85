"""Two proofs about a trained adapter: it acts, and llama.cpp runs the same adapter as PyTorch.

Compares next-token logits on a few prompts; the caller brings both sides as functions, so this
knows neither llama.cpp nor files. Distances are relative norms of centred logits (a constant added
to all logits changes no probability). The record:

    {"prompts": 8, "moved": 0.081, "base_gap": 0.004, "adapted_gap": 0.005, "tolerance": 0.02,
     "ok": true}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from lmsi_cli.training.load import Dtype

    # (token ids of n prompts, with the adapter) -> next-token logits (n, vocabulary)
    LogitsFn = Callable[[Sequence[list[int]], bool], NDArray[np.float32]]

# Two exact implementations differ by rounding alone: 0.4% at Q8_0 by measurement, because
# llama.cpp quantises activations as well. 2% leaves room for Q4; a wrong row order gives far more.
SAME = 0.02
# A base this far apart is another model to PyTorch than to llama.cpp (unknown rotary scaling,
# a lost bias): an adapter trained on one would not fit the other.
STRANGERS = 0.10
# An adapter that moves no logit by this much does nothing that sampling could show.
STILL = 0.001


class AdapterProof(Record, frozen=True, kw_only=True):
    """How far the adapter moves the logits, and how far apart the two back ends are.

    ``moved`` is PyTorch with against without the adapter; the gaps are llama.cpp against PyTorch.
    """

    prompts: int
    moved: float
    base_gap: float
    adapted_gap: float
    tolerance: float
    ok: bool


def gap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The relative distance |a - b| / |b| of two sets of logits, (n, vocabulary) each."""
    import numpy as np

    x, y = (m.astype(np.float64) - m.mean(axis=1, keepdims=True) for m in (a, b))
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def verify(
    torch_logits: LogitsFn, llama_logits: LogitsFn, prompts: Sequence[list[int]]
) -> AdapterProof:
    """Prove that the adapter acts and that both back ends agree on it.

    The tolerance is 2%, or three times the gap that the bases already have (coarse quantisation
    shows in both alike). The gap must also stay below a third of the move, else the agreement
    could be that of two bases without any adapter.

    Args:
        torch_logits: The model as it was trained.
        llama_logits: The GGUF file with the exported adapter.
        prompts: Token ids that were not trained on; eight are plenty.

    Raises:
        LmsiError: One of the proofs fails; says which, with the numbers.
    """
    base, adapted = torch_logits(prompts, False), torch_logits(prompts, True)
    moved = gap(adapted, base)
    base_gap = check_base(base, llama_logits(prompts, False))
    adapted_gap = gap(llama_logits(prompts, True), adapted)
    tolerance = max(SAME, 3 * base_gap)
    if moved < STILL:
        raise LmsiError(f"the adapter does nothing: it moves the logits by {moved:.2%}",
                        hint="train longer or with a higher --lr")
    if adapted_gap > min(tolerance, max(moved / 3, 2 * base_gap)):
        raise LmsiError(f"llama.cpp and PyTorch disagree on the adapter: {adapted_gap:.2%} apart, "
                        f"where the adapter moves the logits by {moved:.2%} and the bases are "
                        f"{base_gap:.2%} apart")
    return AdapterProof(prompts=len(prompts), moved=moved, base_gap=base_gap,
                        adapted_gap=adapted_gap, tolerance=tolerance, ok=True)


def check_base(torch_base: NDArray[np.float32], llama_base: NDArray[np.float32]) -> float:
    """Return how far apart the back ends are without an adapter; worth asking before training.

    Raises:
        LmsiError: They compute different models.
    """
    apart = gap(llama_base, torch_base)
    if not apart <= STRANGERS:
        raise LmsiError(f"training is not possible: llama.cpp and PyTorch compute different logits "
                        f"from this file ({apart:.1%} apart); sampling and voting work")
    return apart


def torch_logits(model: nn.Module, dtype: Dtype) -> LogitsFn:
    """The PyTorch side for ``verify``: a model with an adapter that can be switched off."""
    import torch

    def logits(prompts: Sequence[list[int]], adapted: bool) -> NDArray[np.float32]:
        if not adapted:
            with model.disable_adapter():  # type: ignore[operator]
                return logits(prompts, True)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16,
                                                    enabled=dtype == "bf16"):
            rows = [model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1].float()
                    for ids in prompts]
        return cast("NDArray[np.float32]", torch.stack(rows).numpy())

    return logits
