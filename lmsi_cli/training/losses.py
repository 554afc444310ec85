"""The loss of rows and steps, and its gradient: cross-entropy, or for pairs of paths ScPO's loss.

Knows rows and models with an adapter; nothing of run folders or how pairs are chosen. For a pair
(Prasad et al. 2024, arXiv 2411.04109, eq. 2), with M(y) the probability of completion y, M0(y) the
base's, and w the weight of the pair,

    loss = -w log sigmoid(beta (log M(chosen)/M0(chosen) - log M(rejected)/M0(rejected)))
           - rpo_alpha w / |chosen| log M(chosen)

The base is the same model with its adapter off; it runs on the same rows first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, data, devices, processes
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

    Figures = dict[str, Any]

REWARDS = ("rewards_chosen", "rewards_rejected", "rewards_accuracies", "rewards_margins")


def accumulate(
    model: nn.Module,
    batch: Sequence[data.TokenExample],
    config: TrainConfig,
    dtype: Dtype,
    over: int,
) -> Figures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    ``batch`` may be a process's part of the step. ``config.row_tokens`` is the longest packed row;
    0 packs nothing, and both rows of a pair are held at once. ``over`` is what the mean divides by:
    the step's completion tokens, or its pairs.

    Returns the figures of ``loop.LogLine`` that come from the examples.
    """
    rows, over, pairs = data.pack(batch, config.row_tokens), max(1, over), config.loss == "scpo"
    held = 2 if pairs and not config.row_tokens else 1  # rows that hold whole pairs together
    loss, rewards = 0.0, dict.fromkeys(REWARDS if pairs else (), 0.0)
    for some in (rows[at : at + held] for at in range(0, len(rows), held)):
        if pairs:
            losses, chosen, rejected = pair_terms(model, some, dtype, config)
            part = losses.sum() / over
            values = (chosen, rejected, (chosen > rejected).double(), chosen - rejected)
            for name, value in zip(REWARDS, values, strict=True):
                rewards[name] += float(value.sum())
        else:
            part = token_losses(model, some[0], dtype).sum() / over
        # Each row adds its share, so the step's loss is the mean over all of them.
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return {
        "loss": loss,
        "tokens": sum(len(row.ids) for row in rows),
        "unpacked_tokens": sum(e.length for e in data.single(batch)),
        "completion_tokens": sum(len(row.labels) for row in rows),
        **{name: value / over for name, value in rewards.items()},
    }


def merge(figures: Figures, parameters: Iterable[nn.Parameter]) -> Figures:
    """Join all processes' parts into one step: ``parameters`` get the gradient of its mean loss.

    Each part's loss, gradient and rewards are already its share of the whole step's means.
    """
    if processes.place().world == 1:
        return figures
    import torch

    sums = processes.total(torch.tensor([*figures.values()], dtype=torch.float64)).tolist()
    for p in parameters:  # a part without examples has no gradient at all
        p.grad = processes.total(torch.zeros_like(p) if p.grad is None else p.grad)
    return {k: type(v)(x) for (k, v), x in zip(figures.items(), sums, strict=True)}


def token_losses(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The cross-entropy of each of a row's C completion tokens, (C,) in nats.

    bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from lmsi_cli.training import kernels

    device = devices.of(model)
    labels, keep = (
        torch.tensor(x, dtype=torch.long, device=device) for x in (row.labels, row.keep)
    )
    given: dict[str, Any] = {
        "input_ids": torch.tensor([row.ids], device=device),
        "position_ids": torch.tensor([row.positions], device=device),
        "use_cache": False,
    }
    pieces = None if row.plain else row.pieces
    with attention.handed(model, pieces) as more, devices.autocast(device, dtype):
        given |= more
        if parts := kernels.head_of(model):
            decoder, head = parts
            hidden = decoder(**given).last_hidden_state[0, keep]
            kind = torch.bfloat16 if dtype == "bf16" else torch.float32
            losses = kernels.HeadLosses.apply(hidden, head.weight, labels, kind)  # type: ignore[no-untyped-call]
        else:
            logits = model(**given, logits_to_keep=keep).logits[0].float()
            losses = cross_entropy(logits, labels, reduction="none")
    return losses  # type: ignore[no-any-return]


def pair_terms(
    model: nn.Module, rows: Sequence[data.Row], dtype: Dtype, config: TrainConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses (P,) of the P whole pairs that some rows hold, by the formula above, in fp32.

    Also the rewards of their chosen and of their rejected sides, (P,) each in fp64: beta times the
    log-probability that a completion gains over the base, in nats.
    """
    from torch.nn.functional import logsigmoid

    with _base(model):
        references = _completion_logs(model, rows, dtype)
    logs = _completion_logs(model, rows, dtype)  # (2 P,), chosen and rejected in turn
    parts = [part for row in rows for part in row.parts][0::2]
    weights = logs.new_tensor([weight for _, weight in parts])
    lengths = logs.new_tensor([max(1, labels) for labels, _ in parts])
    rewards = config.beta * (logs - references)
    chosen, rejected = rewards[0::2], rewards[1::2]
    own = logs[0::2] / lengths
    losses = -weights * (logsigmoid(chosen - rejected) + config.rpo_alpha * own)
    return losses, chosen.detach().double(), rejected.detach().double()


def _completion_logs(model: nn.Module, rows: Sequence[data.Row], dtype: Dtype) -> torch.Tensor:
    """Log-probabilities of whole completions, one for each part of the rows, in nats."""
    import torch

    sums = []
    for row in rows:
        losses = token_losses(model, row, dtype)
        sums += [-part.sum() for part in torch.split(losses, [labels for labels, _ in row.parts])]
    return torch.stack(sums)


@contextmanager
def _base(model: nn.Module) -> Iterator[None]:
    """Turn the adapter off, but keep the fused code, which runs only while gradients are enabled.

    No parameter requires one meanwhile: PEFT sees to that.
    """
    busy = model.training
    model.eval()
    try:
        with model.disable_adapter():  # type: ignore[operator]
            yield
    finally:
        model.train(busy)
