"""One optimiser step: rows in, gradients and figures out.

Knows neither files nor checkpoints nor how many steps there are. What a step tells:

    StepFigures(loss=1.92, tokens=1180, unpacked_tokens=2410, completion_tokens=312)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lmsi_cli.training import attention, data, devices, fused, kernels, load, processes

if TYPE_CHECKING:
    import torch
    from torch import nn


# Any ids that every vocabulary has; two examples with a common front, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class Rewards(NamedTuple):
    """Means over a step's pairs, in TRL's words.

    A completion's reward is beta times how many nats likelier it is than to the base;
    ``accuracies`` is the share of pairs whose chosen one has the higher reward, ``margins`` the
    mean of how much higher it is.
    """

    chosen: float
    rejected: float
    accuracies: float
    margins: float


class StepFigures(NamedTuple):
    """Mean loss over the step's completion tokens, and what went through the model for it.

    Of a step of ``pairs`` the loss is the mean over these.
    """

    loss: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    pairs: int = 0
    rewards: Rewards | None = None

    @property
    def over(self) -> int:
        """What the loss is the mean over: pairs, or completion tokens."""
        return self.pairs or self.completion_tokens

    def told(self) -> dict[str, Any]:
        """The figures by their names in the log."""
        found = {name: getattr(self, name) for name in LOGGED}
        rewards = self.rewards._asdict() if self.rewards else {}
        return found | {f"rewards_{name}": value for name, value in rewards.items()}


LOGGED = ("loss", "tokens", "unpacked_tokens", "completion_tokens")


def accumulate(
    model: nn.Module, batch: Sequence[data.Unit], row_tokens: int, dtype: load.Dtype
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    Examples of unequal weight count so much more or less in that mean, which goes on being over
    all tokens: weights whose mean is 1 over the run leave the size of its gradients as it was.

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
        unpacked_tokens=sum(e.length for e in data.sequences(batch)),
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
        wanted = [p for p in model.parameters() if p.requires_grad]
        figures = processes.merge(figures, wanted)  # so that all processes come to one end
        probed = fused.Probe.of(figures.loss, model)
        model.zero_grad()
        return probed

    was = model.training
    model.eval()  # dropout would make two runs differ
    same = fused.install(model, dtype, probe)
    model.train(was)
    return same


def row_loss(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, each sequence's times its weight.

    A scalar in nats.

    Args:
        model: Any causal model of transformers, with or without an adapter.
        batch: From ``data.to_batch``.
        dtype: bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    if all(part.weight == 1 for part in batch.parts):
        with devices.autocast(batch.ids.device, dtype):
            return _loss(model, batch, dtype, "sum")
    losses = token_losses(model, batch, dtype)
    weights = [part.weight for part in batch.parts for _ in range(part.labels)]
    return (losses * losses.new_tensor(weights)).sum()


def token_losses(model: nn.Module, batch: data.Batch, dtype: load.Dtype) -> torch.Tensor:
    """The cross-entropy of each completion token of a row, (C,); arguments as of ``row_loss``."""
    with devices.autocast(batch.ids.device, dtype):
        return _loss(model, batch, dtype, "none")


def _loss(
    model: nn.Module, batch: data.Batch, dtype: load.Dtype, reduction: Literal["sum", "none"]
) -> torch.Tensor:
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
        return cross_entropy(logits, batch.labels, reduction=reduction)
    decoder, head = parts
    hidden = decoder(**row).last_hidden_state[0, batch.keep]
    attention.check(pieces)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    kernel = kernels.head_loss() if reduction == "sum" else kernels.head_losses()
    return kernel.apply(hidden, head.weight, batch.labels, kind)  # type: ignore[no-any-return]
