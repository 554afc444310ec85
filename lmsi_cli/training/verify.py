"""Proofs by logits: an adapter acts, and a trained, exported or merged model computes the same.

Compares next-token logits on a few prompts; the caller brings both sides' logits, so this knows
neither llama.cpp nor files. Distances are relative norms of centred logits (a constant added to all
logits changes no probability). The record:

    {"prompts": 8, "moved": 0.140, "base_gap": 0.0042, "adapted_gap": 0.0046, "effect_gap": 0.022,
     "tolerance": 0.02, "ok": true}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.resume import ANEW
from lmsi_cli.training import devices
from lmsi_cli.training.header import untrainable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lmsi_cli.training.load import Dtype

# (token ids of n prompts, with the adapter) -> next-token logits (n, vocabulary)
LogitsFn = Callable[[Sequence[list[int]], bool], NDArray[np.float32]]
# token ids of n prompts, and llama.cpp's next-token logits for them without an adapter
Witness = tuple[Sequence[list[int]], NDArray[np.float32]]
# Two right implementations differ by rounding alone. Measured on tinymath: 0.01% in fp32 over F16,
# 0.4% in bf16, 0.7% over Q4_K_M (llama.cpp rounds activations as well). 2% leaves room.
SAME = 0.02
# The share of the adapter's effect that may differ. Measured: 0.02 to 0.2 where all is right, 0.5
# with the rows of q and k in the wrong order, 1 where llama.cpp ignores the adapter.
EFFECT = 1 / 3
# If the bases are this far apart, PyTorch and llama.cpp run different models (unknown rotary
# scaling, a lost bias): an adapter trained on one would not fit the other.
STRANGERS = 0.10
# An adapter that moves the logits by less than this does nothing that sampling could show.
STILL = 0.001
# Rounding enters both moves, so it can hide an effect that is hardly larger than itself.
LONGER = f"train longer or with a higher --lr: {ANEW}"
WEAK = f"its effect is hardly above rounding: {LONGER}"
ROOM = 2048  # prompt tokens in one pass of PyTorch
FAULT = "this is a fault of lmsi or llama.cpp; please report it"


class AdapterProof(Record, frozen=True, kw_only=True):
    """How far the adapter moves the logits, and how far apart the two back ends are.

    ``moved`` compares PyTorch with and without the adapter; the gaps compare llama.cpp with
    PyTorch, ``effect_gap`` their moves, relative to PyTorch's.
    """

    prompts: int
    moved: float
    base_gap: float
    adapted_gap: float
    effect_gap: float
    tolerance: float
    ok: bool


class Sides(NamedTuple):
    """One back end's next-token logits for the same prompts, (n, vocabulary) each."""

    plain: NDArray[np.float32]
    adapted: NDArray[np.float32]


def gap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The relative distance |a - b| / |b| of two sets of logits, (n, vocabulary) each."""
    x, y = (m.astype(np.float64) - m.mean(axis=1, keepdims=True) for m in (a, b))
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def verify(ours: Sides, llama: Sides) -> AdapterProof:
    """Prove that the adapter acts and that both back ends agree on it.

    The adapted models may be 2% apart, or three times as far as the bases already are (coarse
    quantisation shows in both). The two moves may differ by a third, plus what rounding adds;
    otherwise two bases without any adapter could pass. ``ours`` is PyTorch's side. The prompts
    should not be trained on; eight are plenty.

    LmsiError: one of the proofs fails; says which, with the numbers.
    """
    moved, base_gap = gap(ours.adapted, ours.plain), check_base(ours.plain, llama.plain)
    # Written so that a NaN on either side fails.
    if not moved >= max(STILL, base_gap):
        raise LmsiError(
            f"the adapter does nothing: it moves the logits by {moved:.2%}, "
            f"rounding by {base_gap:.2%}",
            hint=LONGER,
        )
    adapted_gap, tolerance = gap(llama.adapted, ours.adapted), max(SAME, 3 * base_gap)
    effect_gap = gap(llama.adapted - llama.plain, ours.adapted - ours.plain)
    if not (adapted_gap <= tolerance and effect_gap <= EFFECT + base_gap / moved):
        raise LmsiError(
            f"llama.cpp and PyTorch disagree on the adapter: {adapted_gap:.2%} apart "
            f"(without it {base_gap:.2%}), its effect by {effect_gap:.0%}",
            hint=WEAK if moved < 2 * base_gap else FAULT,
        )
    return AdapterProof(
        prompts=len(ours.plain),
        moved=moved,
        base_gap=base_gap,
        ok=True,
        adapted_gap=adapted_gap,
        effect_gap=effect_gap,
        tolerance=tolerance,
    )


def check_base(torch_base: NDArray[np.float32], llama_base: NDArray[np.float32]) -> float:
    """How far apart the back ends are without an adapter; LmsiError: their models differ."""
    apart = gap(llama_base, torch_base)
    if not apart <= STRANGERS:
        raise untrainable(
            f"llama.cpp and PyTorch compute different logits from this file ({apart:.1%} apart)"
        )
    return apart


def torch_logits(model: nn.Module, dtype: Dtype) -> LogitsFn:
    """A function from prompts to a model's next-token logits, with or without its adapter."""
    import torch

    def logits(prompts: Sequence[list[int]], adapted: bool) -> NDArray[np.float32]:
        as_is = nullcontext() if adapted else model.disable_adapter()  # type: ignore[operator]
        with as_is, torch.no_grad(), devices.autocast(devices.of(model), dtype):
            rows = [_last(model, some) for some in _together(prompts)]
        return cast("NDArray[np.float32]", torch.cat(rows).cpu().numpy())

    return logits


def _together(prompts: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    """Consecutive prompts that fit into ``ROOM`` together; one by one is three times as slow."""
    some: list[list[int]] = []
    for ids in prompts:
        if some and (len(some) + 1) * max(len(ids), *map(len, some)) > ROOM:
            yield some
            some = []
        some.append(ids)
    yield some


def _last(model: nn.Module, prompts: Sequence[list[int]]) -> Tensor:
    """Logits after each prompt, (n, vocabulary); causal attention never sees the padding."""
    import torch

    device, longest = devices.of(model), max(map(len, prompts))
    filled = torch.tensor([ids + [0] * (longest - len(ids)) for ids in prompts], device=device)
    ends = torch.tensor([len(ids) - 1 for ids in prompts], device=device)
    found = model(input_ids=filled, logits_to_keep=ends).logits  # (n, n, vocabulary)
    each = torch.arange(len(prompts), device=device)
    return cast("Tensor", found[each, each].float())


def agree(what: str, side: str, moved: float, apart: float, noise: float) -> dict[str, float]:
    """Judge as ``verify`` does: within 2% or three times rounding, and within a third of the move.

    ``what`` is the exported model, in words, ``side`` says what computes it and what it is compared
    with. ``moved`` is how far the adapter moves the base, ``apart`` the model's distance from the
    base with the adapter on, ``noise`` the same without the adapter on either side.

    Returns the distances by name, for the card. LmsiError: they compute different models.
    """
    if not (apart <= max(SAME, 3 * noise) and apart <= EFFECT * moved + 2 * noise):
        raise LmsiError(
            f"{what} is {apart:.2%} apart from the base with its adapter (rounding: {noise:.2%}, "
            f"the adapter: {moved:.2%}); nothing was exported",
            hint=FAULT,
        )
    return {
        "the adapter moves the logits by": moved,
        f"apart: {side}, with the adapter": apart,
        f"apart: {side}, without": noise,
    }
