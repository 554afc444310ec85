"""One optimiser step: rows in, gradients and figures out.

Knows neither files nor checkpoints nor how many steps there are. What a step tells:

    StepFigures(loss=1.92, tokens=1180, unpacked_tokens=2410, completion_tokens=312)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.training import attention, data, fused, kernels, load

if TYPE_CHECKING:
    import torch
    from torch import nn


# Any ids that every vocabulary has; two examples with a common front, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class StepFigures(NamedTuple):
    """Mean loss over the step's completion tokens, and what went through the model for it."""

    loss: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int


def accumulate(
    model: nn.Module, batch: Sequence[data.TokenExample], row_tokens: int, dtype: load.Dtype
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    Args:
        model: With an adapter; only that collects gradients.
        batch: The step's examples.
        row_tokens: Longest packed row; 0 packs nothing.
        dtype: Of the matrix products.
    """
    rows = data.pack(batch, row_tokens)
    predicted = sum(len(row.labels) for row in rows)
    loss = 0.0
    for row in rows:
        # Each row adds its share, so the step's loss is the mean over all its completion tokens.
        part = row_loss(model, data.to_batch(row), dtype) / max(1, predicted)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in batch),
        completion_tokens=predicted,
    )


def recompute(model: nn.Module, wanted: bool) -> None:
    """Keep only each block's input for the backward pass, or stop doing so.

    Takes a third more time and a fraction of the memory; the gradient is the same.

    Args:
        model: Of transformers, with an adapter.
        wanted: Whether blocks are computed again going back.
    """
    # Newer transformers say "activation", and warn at the old name.
    kind = next(
        k for k in ("activation", "gradient") if hasattr(model, f"{k}_checkpointing_enable")
    )
    if wanted:
        settings = {"use_reentrant": False}  # the other way needs inputs that want a gradient
        enable = getattr(model, f"{kind}_checkpointing_enable")
        enable(**{f"{kind}_checkpointing_kwargs": settings})
    else:
        getattr(model, f"{kind}_checkpointing_disable")()


def speed_up(model: nn.Module, dtype: load.Dtype, row_tokens: int) -> bool:
    """Let the model compute with fewer passes over memory where that is the same; says if it is.

    Call it after ``attention.install`` and before anything is trained.

    Args:
        model: With an adapter.
        dtype: Of the matrix products.
        row_tokens: As for ``accumulate``.
    """

    def probe() -> fused.Probe:
        model.zero_grad()
        figures = accumulate(model, _SAMPLE, row_tokens, dtype)
        probed = fused.Probe.of(figures.loss, model)
        model.zero_grad()
        return probed

    was = model.training
    model.eval()  # dropout would make two runs differ
    same = fused.install(model, dtype, probe)
    model.train(was)
    return same


def row_loss(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, a scalar in nats.

    Args:
        model: Any causal model of transformers, with or without an adapter.
        batch: From ``data.to_batch``.
        dtype: bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        return _loss(model, batch, dtype)


def _loss(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    import torch
    from torch.nn.functional import cross_entropy

    pieces = attention.argument(model, batch.pieces)
    row = {
        "input_ids": batch.ids,
        "position_ids": batch.positions,
        "use_cache": False,
        **pieces,
    }
    parts = fused.head_of(model)
    if parts is None:
        logits = model(**row, logits_to_keep=batch.keep).logits[0].float()
        attention.check(pieces)
        return cross_entropy(logits, batch.labels, reduction="sum")
    decoder, head = parts
    hidden = decoder(**row).last_hidden_state[0, batch.keep]
    attention.check(pieces)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    return kernels.head_loss().apply(hidden, head.weight, batch.labels, kind)  # type: ignore[no-any-return]
