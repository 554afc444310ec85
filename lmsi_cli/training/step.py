"""One optimiser step: rows in, gradients and figures out.

Knows neither files nor checkpoints nor how many steps there are. What a step tells:

    StepFigures(loss=1.92, tokens=1180, unpacked_tokens=2410, completion_tokens=312)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.training import attention, data, devices, load

if TYPE_CHECKING:
    import torch
    from torch import nn


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
    predicted, device = sum(len(row.labels) for row in rows), devices.of(model)
    loss = 0.0
    for row in rows:
        # Each row adds its share, so the step's loss is the mean over all its completion tokens.
        placed = devices.put(data.to_batch(row), device)
        part = row_loss(model, placed, dtype) / max(1, predicted)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in batch),
        completion_tokens=predicted,
    )


def row_loss(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, a scalar in nats.

    Args:
        model: Any causal model of transformers, with or without an adapter.
        batch: From ``data.to_batch``.
        dtype: bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    from torch.nn.functional import cross_entropy

    with devices.autocast(batch.ids.device, dtype):
        out = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            use_cache=False,
            logits_to_keep=batch.keep,
            **attention.argument(model, batch.pieces),
        )
    return cross_entropy(out.logits[0].float(), batch.labels, reduction="sum")
