"""How long a training run will take, from a moment of its own work on the loaded model.

A row's work is counted from its tokens, its labels and the pairs that attention compares; two short
rows of the run's own examples, computed and thrown away, tell what a unit costs. Changes nothing:
gradients are dropped, and random numbers are drawn again. What it finds:

    Pace(fixed=0.012, rate=3.1e-12)  # seconds a row, seconds a multiplication
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import data, load, schedule, step
from lmsi_cli.training.memory import scores

if TYPE_CHECKING:
    from torch import nn

SLOW = 3.0  # seconds; a row that takes this long is not computed again for a better figure


class Costs(NamedTuple):
    """Multiplications of a model: for a token, for a label, for a pair that is compared."""

    token: int
    label: int
    pair: int

    def of(self, row: data.Row) -> float:
        """Multiplications of a row on its way forwards; the way back is in proportion."""
        return self.token * len(row.ids) + self.label * len(row.labels) + self.pair * scores(row)


class Pace(NamedTuple):
    """Seconds that every row takes, and seconds for each multiplication beside."""

    fixed: float
    rate: float

    def of(self, work: float) -> float:
        """Seconds of a row."""
        return self.fixed + self.rate * work


def foretell(
    model: nn.Module,
    examples: Sequence[data.Unit],
    config: TrainConfig,
    row_tokens: int,
    dtype: load.Dtype,
    done: int = 0,
) -> float:
    """Seconds that the steps of a run will take, and of pairs their way through the base before.

    Args:
        model: Ready to train; left as it is.
        examples: All of the run.
        config: Decides which examples a step sees.
        row_tokens: As the steps pack them.
        dtype: Of the matrix products.
        done: Steps that are finished already.
    """
    steps = schedule.plan(len(examples), config)
    rows = _rows(examples, steps[done:], row_tokens)
    if not rows:
        return 0.0
    each = costs(model)
    trials = _trials(examples, rows, row_tokens)
    found = measure(model, trials, each, dtype)
    seconds = sum(found.of(each.of(row)) for row in rows)
    if config.loss == "sft" or done:
        return seconds
    seen = [[i] for i in sorted({i for step_ in steps for i in step_})]
    work = sum(each.of(row) for row in _rows(examples, seen, row_tokens))
    return seconds + work * _seconds(model, trials[-1], dtype, back=False) / each.of(trials[-1])


def _rows(
    examples: Sequence[data.Unit], steps: Sequence[Sequence[int]], row_tokens: int
) -> list[data.Row]:
    return [row for step_ in steps for row in data.pack([examples[i] for i in step_], row_tokens)]


def told(seconds: float) -> str:
    """A duration in the unit that suits it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _trials(
    examples: Sequence[data.Unit], rows: Sequence[data.Row], row_tokens: int
) -> list[data.Row]:
    """One short example, and about half of the middle one of the run's rows."""
    middle = sorted(len(row.ids) for row in rows)[len(rows) // 2]
    short = sorted(examples, key=lambda e: e.length)
    count = 1
    while count < len(short) and _length(short[: 2 * count], row_tokens) <= middle / 2:
        count *= 2
    return [data.pack(short[:n], row_tokens)[0] for n in (1, count)]


def _length(examples: Sequence[data.Unit], row_tokens: int) -> int:
    return len(data.pack(examples, row_tokens)[0].ids)


def measure(model: nn.Module, trials: Sequence[data.Row], each: Costs, dtype: load.Dtype) -> Pace:
    """Compute rows there and back; the first time is for the libraries, which choose kernels."""
    import torch

    points: list[tuple[float, float]] = []
    training = model.training
    with torch.random.fork_rng(devices=[]):
        model.train()
        for row in trials:
            first = _seconds(model, row, dtype)
            again = _seconds(model, row, dtype) if first < SLOW else first
            points.append((each.of(row), min(first, again)))
    model.train(training)
    return fit_line(points)


def _seconds(model: nn.Module, row: data.Row, dtype: load.Dtype, back: bool = True) -> float:
    begun = time.perf_counter()
    loss = step.row_loss(model, data.to_batch(row), dtype)
    if back:
        loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - begun
    model.zero_grad(set_to_none=True)
    return seconds


def costs(model: nn.Module) -> Costs:
    """Count a model's multiplications; its adapter is part of it."""
    config: Any = model.config
    matrices = [p.numel() for name, p in model.named_parameters() if p.dim() == 2 and _inner(name)]
    heads = int(getattr(config, "num_attention_heads", 1))
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Costs(
        token=sum(matrices),
        label=int(config.vocab_size) * int(config.hidden_size),
        pair=2 * heads * size * int(config.num_hidden_layers),
    )


def _inner(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def fit_line(points: Sequence[tuple[float, float]]) -> Pace:
    """Draw a line through (multiplications, seconds); neither constant is negative.

    Args:
        points: One or more; of one the fixed part cannot be told and is taken for nothing.
    """
    (x, y), (more, seconds) = min(points), max(points)
    if more > 2 * x and seconds > y:
        rate = (seconds - y) / (more - x)
        if (fixed := y - rate * x) >= 0:
            return Pace(fixed, rate)
    return Pace(0.0, sum(p[1] for p in points) / sum(p[0] for p in points))
