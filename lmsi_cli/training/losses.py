"""What a row's completions cost: cross-entropy, or for pairs of paths ScPO's loss.

Knows rows and models with an adapter; no steps, no run folder and not how pairs are chosen. Of a
pair (Prasad et al. 2024, arXiv 2411.04109, eq. 2), with M(y) the probability of completion y,
M0(y) that of the base, and w the weight of the pair,

    loss = -w log sigmoid(beta (log M(chosen)/M0(chosen) - log M(rejected)/M0(rejected)))
           - rpo_alpha w / |chosen| log M(chosen)

The base is the same model with its adapter off; what it makes of a row is computed beside what the
adapter makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, data, devices, fused, kernels
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn


def row_loss(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, each sequence's times its weight.

    A scalar in nats. bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    losses = token_losses(model, row, dtype)
    if any(part.weight != 1 for part in row.parts):
        weights = [part.weight for part in row.parts for _ in range(part.labels)]
        losses = losses * losses.new_tensor(weights)
    return losses.sum()


def token_losses(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The cross-entropy of each completion token of a row, (C,); arguments as of ``row_loss``."""
    import torch
    from torch.nn.functional import cross_entropy

    device = devices.of(model)
    labels = torch.tensor(row.labels, dtype=torch.long, device=device)
    parts = fused.head_of(model)
    if parts is None:
        return cross_entropy(logits(model, row, dtype), labels, reduction="none")
    decoder, head = parts
    given = _arguments(model, row)
    with devices.autocast(device, dtype):
        hidden = decoder(**given).last_hidden_state[0, torch.tensor(row.keep, device=device)]
        attention.check(given)
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        return kernels.head_losses().apply(hidden, head.weight, labels, kind)  # type: ignore[no-any-return]


def logits(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The logits at each predicted token of a row, fp32 (C, vocabulary)."""
    import torch

    given, device = _arguments(model, row), devices.of(model)
    with devices.autocast(device, dtype):
        keep = torch.tensor(row.keep, device=device)
        found = model(**given, logits_to_keep=keep).logits[0].float()
    attention.check(given)
    return found  # type: ignore[no-any-return]


def _arguments(model: nn.Module, row: data.Row) -> dict[str, Any]:
    """What a forward call is given of a row, on the model's device; ids and positions (1, T)."""
    import torch

    device = devices.of(model)
    return {
        "input_ids": torch.tensor([row.ids], device=device),
        "position_ids": torch.tensor([row.positions], device=device),
        "use_cache": False,
        **attention.argument(model, None if row.plain else row.pieces),
    }


class PairTerms(NamedTuple):
    """Of some rows' P pairs their losses (P,), and the rewards of either side (P,).

    A completion's reward is beta times how many nats likelier it is than to the base.
    """

    losses: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


def pair_terms(
    model: nn.Module, rows: Sequence[data.Row], dtype: Dtype, config: TrainConfig
) -> PairTerms:
    """Loss and rewards of the whole pairs that some rows hold, by the formula above, in fp32."""
    from torch.nn.functional import logsigmoid

    with _base(model):
        references = _completion_logs(model, rows, dtype)
    logs = _completion_logs(model, rows, dtype)  # (2 P,), chosen and rejected in turn
    parts = [part for row in rows for part in row.parts][0::2]
    weights = logs.new_tensor([part.weight for part in parts])
    lengths = logs.new_tensor([max(1, part.labels) for part in parts])
    rewards = config.beta * (logs - references)
    chosen, rejected = rewards[0::2], rewards[1::2]
    own = logs[0::2] / lengths
    losses = -weights * (logsigmoid(chosen - rejected) + config.rpo_alpha * own)
    return PairTerms(losses, chosen.detach(), rejected.detach())


def _completion_logs(model: nn.Module, rows: Sequence[data.Row], dtype: Dtype) -> torch.Tensor:
    """Log-probabilities of whole completions, one for each part of the rows, in nats."""
    import torch

    sums = []
    for row in rows:
        losses = token_losses(model, row, dtype)
        sums += [-part.sum() for part in torch.split(losses, [p.labels for p in row.parts])]
    return torch.stack(sums)


@contextmanager
def _base(model: nn.Module) -> Iterator[None]:
    """The model as it was before there was an adapter, computing by the code that trains.

    Gradients stay enabled, for the fused code serves only then; nothing wants one, so none is kept.
    """
    busy = model.training
    model.eval()
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        with model.disable_adapter():  # type: ignore[operator]
            for p in wanted:
                p.requires_grad_(False)
            yield
    finally:
        for p in wanted:
            p.requires_grad_(True)
        model.train(busy)
