"""Preference training on pairs of paths: ScPO's loss (Prasad et al. 2024, arXiv 2411.04109, eq. 2).

With M(y) the probability of completion y, M0(y) that of the base, and w the weight of a pair,

    loss = -w log sigmoid(beta (log M(chosen)/M0(chosen) - log M(rejected)/M0(rejected)))
           - rpo_alpha w / |chosen| log M(chosen)

The step's loss is the mean over its pairs, in however many rows these are. The base is the same
model with its adapter off: what it makes of every pair is computed once, before the first step,
and kept in the folder until the run is done, so that a resumed run goes on with the very same
numbers. Knows no run folder and not how pairs are chosen. A pair, and the file of the base's logs:

    TokenPair(chosen=TokenExample([5, 6, 7], [8, 2], weight=0.5, stem=2, reference=-1.25), ...)
    {"fingerprint": "9f2c...", "logs": {"0": [-1.25, -3.5], ...}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import TrainConfig
from lmsi_cli.records import Preference, Progress, Record, TrainExample
from lmsi_cli.training import checkpoint, data, devices, load, processes, schedule
from lmsi_cli.training.step import Rewards, StepFigures, token_losses

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lmsi_cli.training.state import Job

T = TypeVar("T")
Learner = Callable[["nn.Module", Sequence[data.Unit], int, load.Dtype], StepFigures]


class References(Record, frozen=True, kw_only=True):
    """What the base makes of a run's pairs: natural logs of chosen and rejected, by their number.

    JSON spells a float so that it is read back bit for bit.
    """

    fingerprint: str
    logs: dict[int, tuple[float, float]]


class Terms(NamedTuple):
    """A row's pairs, (P,) each: their losses, and the rewards of either side."""

    losses: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


def chosen_of(preference: Preference) -> TrainExample:
    """The better half of a pair, as plain fine-tuning would learn it."""
    return TrainExample(
        prompt=preference.prompt,
        completion=preference.chosen,
        format=preference.format,
        question_id=preference.question_id,
        path=preference.chosen_path,
    )


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


def learner(config: TrainConfig) -> Learner:
    """What a step of pairs does in the place of ``step.accumulate``."""

    def learn(
        model: nn.Module, batch: Sequence[data.Unit], row_tokens: int, dtype: load.Dtype
    ) -> StepFigures:
        return accumulate(model, batch, row_tokens, dtype, config)

    return learn


def accumulate(
    model: nn.Module,
    batch: Sequence[data.Unit],
    row_tokens: int,
    dtype: load.Dtype,
    config: TrainConfig,
) -> StepFigures:
    """Add the gradient of a step's mean loss to the adapter's parameters.

    Args:
        model: With an adapter; only that collects gradients.
        batch: The step's pairs, with their references.
        row_tokens: Longest packed row; 0 packs nothing, and both rows of a pair are held at once.
        dtype: Of the matrix products.
        config: Supplies beta and rpo_alpha.
    """
    rows, count = data.pack(batch, row_tokens), len(batch)
    loss, sums = 0.0, [0.0] * len(Rewards._fields)
    for group in _groups(rows, row_tokens):
        terms = pair_terms(model, group, dtype, config)
        part = terms.losses.sum() / max(1, count)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
        sums = [a + b for a, b in zip(sums, _sums(terms), strict=True)]
    return StepFigures(
        loss=loss,
        tokens=sum(len(row.ids) for row in rows),
        unpacked_tokens=sum(e.length for e in data.sequences(batch)),
        completion_tokens=sum(len(row.labels) for row in rows),
        pairs=count,
        rewards=Rewards(*(value / max(1, count) for value in sums)),
    )


def _groups(rows: Sequence[data.Row], row_tokens: int) -> Iterator[Sequence[data.Row]]:
    """Rows that hold whole pairs together: each one, or two and two."""
    return _chunks(rows, 1 if row_tokens else 2)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _sums(terms: Terms) -> list[float]:
    chosen, rejected = terms.chosen.double(), terms.rejected.double()
    values = (chosen, rejected, (chosen > rejected).double(), chosen - rejected)
    return [float(value.sum()) for value in values]


def pair_terms(
    model: nn.Module, rows: Sequence[data.Row], dtype: load.Dtype, config: TrainConfig
) -> Terms:
    """Loss and rewards of the pairs that some rows hold.

    Args:
        model: Any causal model of transformers.
        rows: From ``data.pack``; together they hold whole pairs.
        dtype: Of the matrix products; sums and loss are fp32.
        config: Supplies beta and rpo_alpha.
    """
    parts = [part for row in rows for part in row.parts]
    logs = sequence_logs(model, rows, dtype)
    return terms_of(
        logs,
        logs.new_tensor([part.reference for part in parts]),
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


def sequence_logs(model: nn.Module, rows: Sequence[data.Row], dtype: load.Dtype) -> torch.Tensor:
    """Log-probabilities of whole completions, one for each part of the rows, in nats."""
    import torch

    device = devices.of(model)
    sums = []
    for row in rows:
        losses = token_losses(model, devices.put(data.to_batch(row), device), dtype)
        sums += [-part.sum() for part in torch.split(losses, [p.labels for p in row.parts])]
    return torch.stack(sums)


def refer(
    model: nn.Module,
    pairs: Sequence[data.Unit],
    job: Job,
    row_tokens: int,
    progress: Progress,
) -> Sequence[data.Unit]:
    """Give every pair that the run's plan will see the logs that the base has for it.

    Args:
        model: With an adapter, which is off meanwhile.
        pairs: All of the run.
        job: Its settings, folder and name.
        row_tokens: As the steps pack them.
        progress: Is told of every batch.
    """
    path = job.out / checkpoint.REFERENCE
    found = _read(path.read_bytes() if path.exists() else b"", job.name)
    if found is None:
        logs = _computed(model, pairs, job, row_tokens, progress)
        found = References(fingerprint=job.name, logs=logs)
        write_atomic(path, msgspec.json.encode(found))
    logs = found.logs
    return [_with(pair, logs[i]) if i in logs else pair for i, pair in enumerate(pairs)]


def _read(text: bytes, name: str) -> References | None:
    try:
        found = msgspec.json.decode(text, type=References)
    except msgspec.DecodeError:
        return None
    return found if found.fingerprint == name else None


def _with(pair: data.Unit, logs: tuple[float, float]) -> data.Unit:
    chosen, rejected = logs
    if not isinstance(pair, data.TokenPair):
        return pair
    return data.TokenPair(
        pair.chosen._replace(reference=chosen), pair.rejected._replace(reference=rejected)
    )


def planned(count: int, config: TrainConfig) -> list[int]:
    """The numbers of the pairs that a run sees at all."""
    return sorted({i for step in schedule.plan(count, config) for i in step})


def _computed(
    model: nn.Module,
    pairs: Sequence[data.Unit],
    job: Job,
    row_tokens: int,
    progress: Progress,
) -> dict[int, tuple[float, float]]:
    """The base's logs, each process's share of them computed by itself."""
    import torch

    wanted = planned(len(pairs), job.config)
    progress.start("pairs through the base", len(wanted))
    logs = torch.zeros(len(pairs), 2, dtype=torch.float64)
    done = 0
    with _base(model):
        for numbers in _chunks(processes.part(wanted), job.config.batch_size):
            logs[list(numbers)] = _logs(model, [pairs[i] for i in numbers], row_tokens, job.dtype)
            done += len(numbers)
            progress.advance(done)
    logs = processes.total(logs)
    return {i: (float(logs[i, 0]), float(logs[i, 1])) for i in wanted}


def _logs(
    model: nn.Module, pairs: Sequence[data.Unit], row_tokens: int, dtype: load.Dtype
) -> torch.Tensor:
    """Logs of some pairs, (P, 2), in their own order whatever that of the rows is."""
    import torch

    # A sequence's place travels as its weight through the packing.
    marked = [
        data.TokenPair(*(side._replace(weight=float(i)) for side in pair))
        for i, pair in enumerate(pairs)
        if isinstance(pair, data.TokenPair)
    ]
    logs = torch.zeros(len(pairs), 2, dtype=torch.float64)
    for group in _groups(data.pack(marked, row_tokens), row_tokens):
        found = sequence_logs(model, group, dtype).double().cpu().view(-1, 2)
        places = [int(part.weight) for row in group for part in row.parts][0::2]
        logs[places] = found.detach()
    return logs


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
