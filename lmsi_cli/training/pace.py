"""How long a training run will take, from a few seconds of its own work on the loaded model.

A row's work is counted from its tokens, its labels and the pairs that attention compares. One of
the run's own rows, first a little of it and then as much as the time allows, is computed there and
back and thrown away; that tells what a unit costs, and what memory does that is used for the first
time.
Knows neither files nor a user. Changes nothing: gradients are dropped, and random numbers are drawn
again. What it finds:

    Pace(fixed=0.012, rate=3.1e-12, tried=2.2e11, beyond=3.4e-12, forward=0.44, least=0.005,
         growth=0.0002, reached=640)
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import data, load, processes, schedule, step, validation
from lmsi_cli.training.attention import Piece
from lmsi_cli.training.memory import scores

if TYPE_CHECKING:
    from torch import nn

# About what the trials may take together: seconds, or a share of the run if that is more.
SPENT, SHARE = 6.0, 0.05
FEW = 32  # tokens of the first trial, for what the libraries build once
LONGER = 4  # how many times as long the next trial is, at most; at least half as much again


class Costs(NamedTuple):
    """Multiplications of a model: for a token, for a label, for a pair that is compared."""

    token: int
    label: int
    pair: int

    def of(self, row: data.Row) -> float:
        """Multiplications of a row on its way forwards; the way back is in proportion."""
        return self.token * len(row.ids) + self.label * len(row.labels) + self.pair * scores(row)


class Pace(NamedTuple):
    """What rows cost, in seconds.

    Every row takes ``fixed`` and each multiplication ``rate``, those over ``tried`` take ``beyond``
    each; ``forward`` is the share of that before the way back. A row of a few tokens takes
    ``least`` forwards. Each token that a row is longer than ``reached`` takes ``growth`` once, for
    memory that nothing has touched before.
    """

    fixed: float
    rate: float
    tried: float = math.inf
    beyond: float = 0.0
    forward: float = 0.5
    least: float = 0.0
    growth: float = 0.0
    reached: int = 0

    def of(self, work: float) -> float:
        """Seconds of a row."""
        more = max(0.0, work - self.tried)
        return self.fixed + self.rate * (work - more) + self.beyond * more

    def once(self, tokens: int) -> float:
        """Seconds more that the first row of so many tokens takes."""
        return self.growth * max(0, tokens - self.reached)


class Trial(NamedTuple):
    """A row that was computed: its size, and its seconds in all and on the way forwards."""

    tokens: int
    work: float
    seconds: float
    forward: float


def foretell(  # noqa: PLR0913 - all that the loop does
    model: nn.Module,
    examples: Sequence[data.Unit],
    config: TrainConfig,
    row_tokens: int,
    dtype: load.Dtype,
    done: int = 0,
    watched: Sequence[data.TokenExample] = (),
) -> float:
    """Seconds that a run will take: steps, validations, and of pairs their way through the base.

    Saving is not counted, nor what comes before the first step and after the last.

    Args:
        model: Ready to train; left as it is.
        examples: All of the run.
        config: Decides which examples a step sees.
        row_tokens: As the steps pack them.
        dtype: Of the matrix products.
        done: Steps that are finished already.
        watched: What validations measure on.
    """
    steps = schedule.plan(len(examples), config)
    rows = _rows(examples, steps[done:], row_tokens)
    if not rows:
        return 0.0
    each = costs(model)
    pace = measure(model, rows, each, dtype)
    seconds = sum(pace.of(each.of(row)) for row in rows) + pace.once(max(map(_tokens, rows)))
    reading = pace.forward * sum(pace.of(each.of(row)) for row in data.pack(watched, row_tokens))
    if watched:
        seconds += validations(reading, pace, config, done, len(steps))
    if config.loss == "sft" or done:
        return seconds
    seen = [[i] for i in sorted({i for step_ in steps for i in step_})]
    alone = _rows(examples, seen, row_tokens)
    return seconds + pace.forward * sum(pace.rate * each.of(row) for row in alone)


def _rows(
    examples: Sequence[data.Unit], steps: Sequence[Sequence[int]], row_tokens: int
) -> list[data.Row]:
    """The rows of some steps; where several processes share them, the first one's."""
    share = processes.place().world if processes.active() else 1
    parts = [[examples[i] for i in step_[::share]] for step_ in steps]
    return [row for part in parts for row in data.pack(part, row_tokens)]


def _tokens(row: data.Row) -> int:
    return len(row.ids)


def validations(reading: float, pace: Pace, config: TrainConfig, done: int, total: int) -> float:
    """Seconds of the validations from one step on.

    Args:
        reading: Seconds of one, without drawing answers.
        pace: Tells what a drawn token costs: as much as a short row, for weights decide.
        config: Says how often.
        done: Steps that are finished.
        total: Steps of the run.
    """
    due = [
        step_ for step_ in range(done, total + 1) if validation.due(step_, total, config.eval_every)
    ]
    draws = sum(validation.drawing(step_, total, config.eval_every) for step_ in due)
    answers = validation.PROMPTS * validation.TOKENS * pace.least
    return len(due) * reading + draws * answers


def told(seconds: float) -> str:
    """A duration in the unit that suits it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def measure(model: nn.Module, rows: Sequence[data.Row], each: Costs, dtype: load.Dtype) -> Pace:
    """Compute longer and longer parts of a typical row, as far as the time goes.

    Every trial has shapes of its own, as the rows of a run have: kernels are made for each. The
    last one is followed by an equal one that finds all its memory in use already.
    """
    import torch

    one, other = typical(rows, each)
    work = sum(each.of(row) for row in rows)
    training = model.training

    def trial(row: data.Row) -> Trial:
        return _trial(model, row, each, dtype)

    with torch.random.fork_rng(devices=[]):
        model.train()
        found = [trial(cut(one, FEW)), trial(cut(one, FEW + 1))]
        while size := _next(found, one, work, each):
            found.append(trial(cut(one, size)))
        if len(found) > 2:
            found.append(trial(cut(other, found[-1].tokens - 1)))
    model.train(training)
    return read(found)


def typical(rows: Sequence[data.Row], each: Costs) -> tuple[data.Row, data.Row]:
    """The row of the size in which half of the run's work is done, and the next longer one."""
    ordered = sorted(rows, key=each.of)
    left = sum(map(each.of, ordered)) / 2
    for number, row in enumerate(ordered):
        left -= each.of(row)
        if left <= 0:
            return row, ordered[min(number + 1, len(ordered) - 1)]
    return ordered[-1], ordered[-1]


def cut(row: data.Row, tokens: int) -> data.Row:
    """The beginning of a row; its last token is predicted if no label of the row's own is left."""
    pieces: list[Piece] = []
    left = tokens
    for piece in row.pieces:
        if left > 0:
            pieces.append(piece._replace(length=min(left, piece.length)))
        left -= piece.length
    ids = row.ids[:tokens]
    keep = [place for place in row.keep if place < tokens]
    labels = row.labels[: len(keep)]
    if not keep:
        keep, labels = [len(ids) - 1], ids[-1:]
    return data.Row(ids, row.positions[:tokens], pieces, keep, labels, [data.Part(len(labels))])


def _next(found: Sequence[Trial], one: data.Row, work: float, each: Costs) -> int:
    """Tokens of the next trial; 0 if there is no time for one that tells more than the last."""
    line = fit_line([(t.work, t.seconds) for t in found[1:]])
    limit = max(SPENT, SHARE * work * line.rate) - sum(t.seconds for t in found)
    # The last one is followed by another; of one point the rate is too high, so there will be more.
    limit /= min(2, len(found) - 1)
    part = (limit - line.fixed) / (line.rate * each.of(one))
    last, whole = found[-1].tokens, len(one.ids)
    size = min(whole, LONGER * last, int(part * whole))
    return size if size >= 1.5 * last or last < size == whole else 0


def read(found: Sequence[Trial]) -> Pace:
    """What trials tell: a warm-up, a short one, longer ones, and an equal of the last.

    Args:
        found: Two at least; of two the rest is not known.
    """
    short, last = found[1], found[-1]
    line = fit_line([(short.work, short.seconds), (last.work, last.seconds)])
    pace = line._replace(
        tried=last.work,
        beyond=line.rate,
        forward=last.forward / last.seconds,
        least=short.forward,
        reached=last.tokens,
    )
    if len(found) == 2:
        return pace
    before, grown = found[-3], found[-2]
    more = grown.seconds - last.seconds * grown.work / last.work
    longer = grown.tokens - before.tokens
    return pace._replace(
        beyond=_beyond(before, last, line),
        growth=max(0.0, more / longer),
        reached=grown.tokens,
    )


def _beyond(before: Trial, last: Trial, line: Pace) -> float:
    """The rate of rows longer than any trial: that of the last stretch.

    Few tokens wait for the weights, many for the arithmetic, so it is no lower than that of all
    trials; and no row takes less for its work than a longer one.
    """
    steep = (last.seconds - before.seconds) / (last.work - before.work)
    return min(max(steep, line.rate), last.seconds / last.work)


def _trial(model: nn.Module, row: data.Row, each: Costs, dtype: load.Dtype) -> Trial:
    """Compute a row there and back; of several processes, the first one's clock counts."""
    begun = time.perf_counter()
    loss = step.row_loss(model, data.to_batch(row), dtype)
    forward = time.perf_counter() - begun
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = processes.leader_s(time.perf_counter() - begun)
    model.zero_grad(set_to_none=True)
    return Trial(len(row.ids), each.of(row), seconds, forward)


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
