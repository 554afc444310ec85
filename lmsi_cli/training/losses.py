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
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import Record
from lmsi_cli.training import attention, data, devices, kernels, processes
from lmsi_cli.training.load import Dtype

if TYPE_CHECKING:
    import torch
    from torch import nn


class StepFigures(Record, frozen=True, kw_only=True):
    """Mean loss over a step's completion tokens or pairs, and what went through the model.

    ``tokens`` went through it; ``unpacked_tokens`` would have if every completion had its own row.
    The rewards (``PairTerms``) are means over a step's pairs, under TRL's names: ``accuracies`` is
    the share of pairs whose chosen side has the higher one, ``margins`` is the mean of its lead.
    """

    loss: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    rewards_chosen: float | UnsetType = msgspec.field(default=UNSET, name="rewards/chosen")
    rewards_rejected: float | UnsetType = msgspec.field(default=UNSET, name="rewards/rejected")
    rewards_accuracies: float | UnsetType = msgspec.field(default=UNSET, name="rewards/accuracies")
    rewards_margins: float | UnsetType = msgspec.field(default=UNSET, name="rewards/margins")


REWARDS = ("rewards_chosen", "rewards_rejected", "rewards_accuracies", "rewards_margins")


def accumulate(
    model: nn.Module,
    batch: Sequence[data.TokenExample],
    row_tokens: int,
    dtype: Dtype,
    over: int,
    pairs: TrainConfig | None = None,
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters, row by row.

    ``batch`` may be a process's part of the step. ``row_tokens`` is the longest packed row; 0 packs
    nothing, and both rows of a pair are held at once. ``over`` is what the mean divides by: the
    step's completion tokens, or its pairs. ``pairs`` supplies beta and rpo_alpha for pairs.
    """
    rows, over = data.pack(batch, row_tokens), max(1, over)
    held = 2 if pairs and not row_tokens else 1  # rows that hold whole pairs together
    loss, rewards = 0.0, dict.fromkeys(REWARDS if pairs else (), 0.0)
    for some in (rows[at : at + held] for at in range(0, len(rows), held)):
        if pairs:
            terms = pair_terms(model, some, dtype, pairs)
            part = terms.losses.sum() / over
            chosen, rejected = terms.chosen.double(), terms.rejected.double()
            values = (chosen, rejected, (chosen > rejected).double(), chosen - rejected)
            for name, value in zip(REWARDS, values, strict=True):
                rewards[name] += float(value.sum())
        else:
            part = row_loss(model, some[0], dtype) / over
        # Each row adds its share, so the step's loss is the mean over all of them.
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in data.single(batch)),
        completion_tokens=sum(len(row.labels) for row in rows),
        **{name: value / over for name, value in rewards.items()},
    )


def merge(figures: StepFigures, parameters: Iterable[nn.Parameter]) -> StepFigures:
    """Join all processes' parts into one step: ``parameters`` get the gradient of its mean loss.

    Each part's loss, gradient and rewards are already its share of the whole step's means.
    """
    if processes.place().world == 1:
        return figures
    import torch

    own = {k: v for k, v in msgspec.structs.asdict(figures).items() if v is not UNSET}
    sums = processes.total(torch.tensor([*own.values()], dtype=torch.float64)).tolist()
    for p in parameters:  # a part without examples has no gradient at all
        p.grad = processes.total(torch.zeros_like(p) if p.grad is None else p.grad)
    return StepFigures(**{k: type(v)(x) for (k, v), x in zip(own.items(), sums, strict=True)})


def row_loss(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The summed cross-entropy of a row's completion tokens, a scalar in nats.

    bf16 runs the matrix products in bf16 (autocast); the loss itself is fp32.
    """
    return token_losses(model, row, dtype).sum()


def token_losses(model: nn.Module, row: data.Row, dtype: Dtype) -> torch.Tensor:
    """The cross-entropy of each completion token of a row, (C,); arguments as of ``row_loss``."""
    import torch
    from torch.nn.functional import cross_entropy

    device = devices.of(model)
    labels = torch.tensor(row.labels, dtype=torch.long, device=device)
    parts = kernels.head_of(model)
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
    """A row as keywords of a forward call, on the model's device; ids and positions (1, T)."""
    import torch

    device = devices.of(model)
    return {
        "input_ids": torch.tensor([row.ids], device=device),
        "position_ids": torch.tensor([row.positions], device=device),
        "use_cache": False,
        **attention.argument(model, None if row.plain else row.pieces),
    }


class PairTerms(NamedTuple):
    """The losses (P,) of the P pairs in some rows, and the rewards (P,) of each side.

    A completion's reward is beta times the log-probability that it gains over the base, in nats.
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
    """Turn the adapter off within this block, but keep the fused code that trains.

    That code runs only while gradients are enabled, so they are; but no parameter requires one.
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
