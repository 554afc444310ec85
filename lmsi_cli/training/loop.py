"""The training loop: plan, steps, validations and checkpoints of one run, first to last.

Resumes from its own checkpoint when the same command runs again. Settings and number of examples
fix plan and learning rate, so a resumed run has those of an uninterrupted one. Knows nothing of
llama.cpp, the command line, GGUF files or where the examples come from. A line of ``log.jsonl``:

    {"step": 1, "loss": 1.92, "lr": 0.0005, "grad_norm": 0.8, "tokens": 1180,
     "unpacked_tokens": 2410, "completion_tokens": 312, "seconds": 0.61}
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import appender, read_records, write_records
from lmsi_cli.records import Progress, Record
from lmsi_cli.resume import ANEW
from lmsi_cli.training import (
    adapter,
    attention,
    checkpoint,
    data,
    devices,
    memory,
    processes,
    validation,
)
from lmsi_cli.training.load import Dtype
from lmsi_cli.training.losses import accumulate, merge
from lmsi_cli.training.validation import DestroyedError, Reading

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "log.jsonl"
# A kill costs at most this much and the step that is under way.
SAVE_SECONDS = 60.0
R = TypeVar("R", "LogLine", Reading)
# Ids that every vocabulary has, in two examples with a common prefix, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class LogLine(Record, frozen=True, kw_only=True):
    """One finished step: the mean loss over its completion tokens or pairs, and its figures.

    ``tokens`` went through the model; ``unpacked_tokens`` would have if every completion had its
    own row. The rewards (``losses.pair_terms``) are means over a step's pairs, under TRL's names:
    ``accuracies`` is the share of pairs whose chosen side has the higher one, ``margins`` is the
    mean of its lead.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    rewards_chosen: float | UnsetType = msgspec.field(default=UNSET, name="rewards/chosen")
    rewards_rejected: float | UnsetType = msgspec.field(default=UNSET, name="rewards/rejected")
    rewards_accuracies: float | UnsetType = msgspec.field(default=UNSET, name="rewards/accuracies")
    rewards_margins: float | UnsetType = msgspec.field(default=UNSET, name="rewards/margins")


class TrainingRun(NamedTuple):
    """What a run trains on and where it keeps its state.

    ``watched`` are the examples to validate on, one per question; ``unseen``: not to train on.
    """

    examples: Sequence[data.TokenExample]
    config: TrainConfig
    dtype: Dtype
    out: Path
    header: checkpoint.Header
    watched: Sequence[data.TokenExample] = ()
    unseen: bool = False


class Outcome(NamedTuple):
    """All steps and validations of a run, the step whose weights it took, and why it ended early.

    ``best``, that step, is None where nothing was validated: then the last weights were taken.
    """

    log: list[LogLine]
    readings: list[Reading]
    best: int | None
    stopped: str


def fit(model: nn.Module, training: TrainingRun, progress: Progress) -> Outcome:
    """Run the steps that are left, with checkpoints; leave the model with the best weights.

    LmsiError: training was stopped before any validation found a sound adapter; a file cannot be
    written; or the folder holds another unfinished run. KeyboardInterrupt is passed on after a
    checkpoint is written.
    """
    run = _Run(model, training, progress)
    model.train()
    try:
        run.finish()
    except KeyboardInterrupt:
        # In the middle of a step, the last regular checkpoint stays.
        if run.whole and run.done:
            run.save()
        raise
    finally:
        model.eval()
    return run.outcome()


class _Run:
    """The state of the loop; ``whole`` is False while a step changes the weights."""

    def __init__(self, model: nn.Module, training: TrainingRun, progress: Progress) -> None:
        self.model, self.training, self.progress = model, training, progress
        self.config, self.out = training.config, training.out
        self.parameters = adapter.trainable(model)
        self.optimizer = devices.adamw(self.parameters.values(), self.config)
        if self.config.row_tokens:  # 0: one example a row, without plain causal attention
            attention.install(model)
        if devices.of(model).type == "cpu":  # where the kernels were measured
            speed_up(model, training.dtype, self.config.row_tokens)
        self.steps = plan(len(training.examples), self.config)
        self.done, self.best = checkpoint.load(
            self.out, training.header, self.parameters, self.optimizer
        )
        self.whole, self.stopped, self.saved = True, "", time.monotonic()
        self.heap = memory.Trimmer()
        self.log = _kept(self.out / LOG, LogLine, self.done)
        self.watched = data.pack(training.watched, self.config.row_tokens)
        readings = self.out / validation.LOG
        self.readings = _kept(readings, Reading, self.done) if self.watched else []

    def finish(self) -> None:
        """Run steps and validations in turn, first a validation that the checkpoint lacks."""
        total = len(self.steps)
        self.progress.start("training", total)
        if self.done:
            self.progress.say(f"going on after step {self.done} of {total}")
        with appender(self.out / LOG, LogLine) as write:
            self._validate()
            while not self.stopped and self.done < total and (line := self._step()):
                write(line)
                self.log.append(line)
                self.done, self.whole = self.done + 1, True
                self.heap.after_step(line.seconds)
                recent = self.log[-20:]
                rate = sum(r.tokens for r in recent) / sum(r.seconds for r in recent)
                loss = round(fmean(r.loss for r in recent), 4)
                self.progress.advance(self.done, loss=loss, tokens_s=round(rate))
                late = time.monotonic() - self.saved > SAVE_SECONDS
                if late or self.done % self.config.checkpoint_every == 0:
                    self.save()
                self._validate()
        self.save()

    def _step(self) -> LogLine | None:
        """One optimiser step; if its figures are not finite, sets ``stopped`` and returns None."""
        import torch

        started, config, here = time.perf_counter(), self.config, processes.place()
        batch = [self.training.examples[i] for i in self.steps[self.done]]
        rate = learning_rate(self.done, len(self.steps), config)
        # Dropout differs between steps and between processes, and a resumed run repeats it.
        torch.manual_seed(hash((config.seed, self.done, here.rank)) % 2**63)
        over = len(batch) if config.loss == "scpo" else sum(e.predicted for e in batch)
        own = batch[here.rank :: here.world]
        part = accumulate(self.model, own, config, self.training.dtype, over)
        figures = merge(part, self.parameters.values())
        longest = config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), longest))
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            names = ", ".join(e.name for e in batch)
            self.stopped = (
                f"step {self.done + 1}: the loss or its gradient is not a number; examples: {names}"
            )
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return LogLine(
            step=self.done + 1,
            lr=rate,
            grad_norm=norm,
            seconds=time.perf_counter() - started,
            **figures,
        )

    def _validate(self) -> None:
        """Validate if that is due and not done yet, keep the best adapter, and stop if need be."""
        config, unseen = self.config, self.training.unseen
        taken = self.readings[-1].step if self.readings else -1
        wanted = validation.due(self.done, len(self.steps), config.eval_every)
        if self.watched and taken < self.done and wanted:
            reading = validation.measure(self.model, self.watched, self.training.dtype, self.done)
            if not math.isfinite(reading.loss):
                self.stopped = f"step {self.done}: the adapted model computes NaN"
                return
            self.readings.append(reading)
            if self.done and reading is validation.best(self.readings, config, unseen):
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
                self.save()
            with appender(self.out / validation.LOG, Reading) as write:
                write(reading)
        self.stopped = validation.judge(self.readings, config, unseen)

    def save(self) -> None:
        """Write the checkpoint; never in the middle of a step."""
        header = msgspec.structs.replace(self.training.header, step=self.done)
        checkpoint.save(self.out, header, self.parameters, self.optimizer, self.best)
        self.saved = time.monotonic()

    def outcome(self) -> Outcome:
        """Restore the best weights if later steps changed them."""
        unseen, say = self.training.unseen, self.progress.say
        taken = validation.best(self.readings, self.config, unseen)
        if self.stopped:
            say(f"stopped: {self.stopped}")
        if taken is None and self.stopped:
            raise DestroyedError(
                f"training stopped before there was any sound adapter: {self.stopped}",
                hint=f"`{ANEW}` starts over: with a lower --lr, or with --set dtype=fp32",
            )
        if taken is not None and taken.step != self.done:
            checkpoint.fill(self.parameters, self.best)
            say(f"taken: the adapter after step {taken.step} of {self.done}")
        if taken is not None and unseen and taken.loss >= self.readings[0].loss:
            say(
                f"no adapter was better than the base on held-out questions: loss "
                f"{self.readings[0].loss:.3f} before, {taken.loss:.3f} after; try a lower --lr"
            )
        return Outcome(self.log, self.readings, taken.step if taken else None, self.stopped)


def plan(count: int, config: TrainConfig) -> list[list[int]]:
    """The example indices of every step, for ``count`` examples.

    Each epoch has its own shuffle; a step may span two. ``max_steps`` overrides ``epochs`` and
    repeats the examples as often as needed. With five examples, two epochs and four to a step,

        plan(5, TrainConfig(epochs=2, batch_size=4)) == [[2, 0, 4, 1], [3, 0, 3, 1], [4, 2]]
    """
    size = config.batch_size
    total = config.max_steps * size if config.max_steps else max(1, round(config.epochs * count))
    order: list[int] = []
    for epoch in range(-(-total // count)):
        indices = list(range(count))
        random.Random(f"{config.seed}/{epoch}").shuffle(indices)
        order.extend(indices)
    return [order[at : min(at + size, total)] for at in range(0, total, size)]


# From the finished share of the steps after the warm-up to a share of the peak rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of ``step`` (from 0) of ``steps``: linear warm-up, then ``config.schedule``.

    Cosine and linear fall to nearly zero; the last step still learns.
    """
    warm, rate = math.ceil(config.warmup * steps), float(config.lr)
    if step < warm:
        return rate * (step + 1) / warm
    return rate * SCHEDULES[config.schedule]((step - warm) / max(1, steps - warm))


def speed_up(model: nn.Module, dtype: Dtype, row_tokens: int) -> bool:
    """Install the fused kernels if the model still computes the same; returns whether it does.

    Call it after ``attention.install`` and before anything is trained.
    """
    import torch

    from lmsi_cli.training import kernels

    def probe() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        figures = accumulate(model, _SAMPLE, TrainConfig(row_tokens=row_tokens), dtype, over=7)
        wanted = [p for p in model.parameters() if p.requires_grad]
        loss = merge(figures, wanted)["loss"]  # so that all processes decide alike
        gradient = torch.cat([p.grad.flatten() for p in wanted if p.grad is not None])
        model.zero_grad()
        return loss, gradient

    was = model.training
    model.eval()  # dropout would make two runs differ
    same = kernels.install(model, dtype, probe)
    model.train(was)
    return same


def _kept(path: Path, kind: type[R], done: int) -> list[R]:
    """Cut a log to what the checkpoint holds; a killed run may have written more."""
    found = list(read_records(path, kind)) if path.exists() and done else []
    kept = [r for r in found if r.step <= done]
    write_records(path, kept)
    return kept
