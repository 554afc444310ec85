"""Preference training on pairs of paths: ScPO's loss (Prasad et al. 2024, arXiv 2411.04109, eq. 2).

With M(y) the probability of completion y, M0(y) that of the base, and w the weight of a pair,

    loss = -w log sigmoid(beta (log M(chosen)/M0(chosen) - log M(rejected)/M0(rejected)))
           - rpo_alpha w / |chosen| log M(chosen)

The step's loss is the mean over its pairs, in however many rows these are. The base is the same
model with its adapter off; what it makes of a row is computed beside what the adapter makes of it.
Knows no run folder and not how pairs are chosen. A pair of token ids:

    TokenPair(chosen=TokenExample([5, 6, 7], [8, 2], weight=0.5, stem=2), rejected=...)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import Preference
from lmsi_cli.training import data, devices
from lmsi_cli.training.load import Dtype
from lmsi_cli.training.step import Rewards, StepFigures, token_losses

if TYPE_CHECKING:
    import torch
    from torch import nn


class Terms(NamedTuple):
    """A row's pairs, (P,) each: their losses, and the rewards of either side."""

    losses: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


def tokenize(pairs: Iterable[Preference], codec: data.Codec, max_length: int) -> data.TokenSet:
    """Turn pairs into ids; leave a pair out if one of its sides is too long.

    Args:
        pairs: As voted.
        codec: The tokenizer.
        max_length: Longest prompt and completion together, in tokens.
    """
    return data.keep(((p.format, _tokens(p, codec)) for p in pairs), max_length)


def _tokens(pair: Preference, codec: data.Codec) -> data.TokenPair:
    prompt = codec.prompt(pair.prompt)
    # The last prompt token predicts the first one of either side, so each has its own.
    stem = max(0, len(prompt) - 1)
    return data.TokenPair(
        *(
            data.TokenExample(
                prompt,
                codec.completion(pair.prompt, completion),
                name=f"{pair.question_id} ({pair.format}), {side}",
                weight=pair.weight,
                stem=stem,
            )
            for side, completion in (("chosen", pair.chosen), ("rejected", pair.rejected))
        )
    )


def accumulate(
    model: nn.Module,
    batch: Sequence[data.Unit],
    row_tokens: int,
    dtype: Dtype,
    config: TrainConfig,
    over: int,
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters.

    Args:
        model: With an adapter; only that collects gradients.
        batch: The step's pairs, or a process's part of them.
        row_tokens: Longest packed row; 0 packs nothing, and both rows of a pair are held at once.
        dtype: Of the matrix products.
        config: Supplies beta and rpo_alpha.
        over: Pairs of the whole step, which its loss is the mean over.
    """
    rows, over = data.pack(batch, row_tokens), max(1, over)
    held = 1 if row_tokens else 2  # rows that hold whole pairs together
    loss, sums = 0.0, [0.0] * len(Rewards._fields)
    for start in range(0, len(rows), held):
        terms = pair_terms(model, rows[start : start + held], dtype, config)
        part = terms.losses.sum() / over
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
        sums = [a + b for a, b in zip(sums, _sums(terms), strict=True)]
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in data.sequences(batch)),
        completion_tokens=sum(len(row.labels) for row in rows),
        rewards=Rewards(*(value / over for value in sums)),
    )


def _sums(terms: Terms) -> list[float]:
    chosen, rejected = terms.chosen.double(), terms.rejected.double()
    values = (chosen, rejected, (chosen > rejected).double(), chosen - rejected)
    return [float(value.sum()) for value in values]


def pair_terms(
    model: nn.Module, rows: Sequence[data.Row], dtype: Dtype, config: TrainConfig
) -> Terms:
    """Loss and rewards of the pairs that some rows hold.

    Args:
        model: Any causal model of transformers, with an adapter.
        rows: From ``data.pack``; together they hold whole pairs.
        dtype: Of the matrix products; sums and loss are fp32.
        config: Supplies beta and rpo_alpha.
    """
    parts = [part for row in rows for part in row.parts]
    with _base(model):
        references = sequence_logs(model, rows, dtype)
    logs = sequence_logs(model, rows, dtype)
    return terms_of(
        logs,
        references,
        logs.new_tensor([part.weight for part in parts]),
        logs.new_tensor([max(1, part.labels) for part in parts]),
        config,
    )


def terms_of(
    logs: torch.Tensor,
    references: torch.Tensor,
    weights: torch.Tensor,
    lengths: torch.Tensor,
    config: TrainConfig,
) -> Terms:
    """The formula above.

    Args:
        logs: (2 P,), log M of chosen and rejected in turn; the same order in all of them.
        references: Log M0.
        weights: Of the pairs, once for each side.
        lengths: Completion tokens.
        config: Supplies beta and rpo_alpha.
    """
    from torch.nn.functional import logsigmoid

    rewards = config.beta * (logs - references)
    chosen, rejected = rewards[0::2], rewards[1::2]
    own = logs[0::2] / lengths[0::2]
    losses = -weights[0::2] * (logsigmoid(chosen - rejected) + config.rpo_alpha * own)
    return Terms(losses, chosen.detach(), rejected.detach())


def sequence_logs(model: nn.Module, rows: Sequence[data.Row], dtype: Dtype) -> torch.Tensor:
    """Log-probabilities of whole completions, one for each part of the rows, in nats."""
    import torch

    device = devices.of(model)
    sums = []
    for row in rows:
        losses = token_losses(model, devices.put(data.to_batch(row), device), dtype)
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
