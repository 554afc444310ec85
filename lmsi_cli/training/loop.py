"""The training loop: plan, steps, validations and checkpoints of one run, first to last.

Goes on from its own checkpoint when the same command runs again; plan and rate are functions of the
settings alone, so a resumed run computes those of an uninterrupted one. Knows nothing of llama.cpp,
of the command line, of GGUF files or of where the examples come from. A line of ``log.jsonl``:

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

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import appender, read_records, write_records
from lmsi_cli.records import Progress
from lmsi_cli.training import adapter, attention, checkpoint, data, devices, kernels, processes
from lmsi_cli.training.load import Dtype
from lmsi_cli.training.losses import StepFigures, accumulate, merge
from lmsi_cli.training.memory import Trimmer
from lmsi_cli.training.validation import LOG as READINGS
from lmsi_cli.training.validation import (
    DestroyedError,
    Reading,
    Watched,
    best,
    due,
    judge,
    measure,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "log.jsonl"
# A kill costs this much at most, however slow the steps are.
SAVE_SECONDS = 60.0
R = TypeVar("R", "LogLine", Reading)
# Any ids that every vocabulary has; two examples with a common front, as in training.
_SAMPLE = [
    data.TokenExample([*range(2, 20)], [5, 3, 9, 4], shared=16),
    data.TokenExample([*range(2, 18), 7, 8, 6], [11, 2, 3], shared=16),
]


class LogLine(StepFigures, frozen=True, kw_only=True):
    """One finished step: its figures, its rate and the norm of its gradient; wall time."""

    step: int
    lr: float
    grad_norm: float
    seconds: float


class TrainingRun(NamedTuple):
    """What a run trains on and where it keeps its state; ``name`` is its fingerprint.

    ``watched`` are the examples to validate on; None: it is not validated.
    """

    examples: Sequence[data.TokenExample]
    config: TrainConfig
    dtype: Dtype
    out: Path
    name: str
    watched: Watched | None = None

    @property
    def unseen(self) -> bool:
        """Whether it is validated on questions that it is not trained on."""
        return self.watched is not None and self.watched.unseen


class Outcome(NamedTuple):
    """All steps and validations of a run, whose weights were taken, and what ended it early.

    ``best`` is None where nothing was validated: then the last step's weights were taken.
    """

    log: list[LogLine]
    readings: list[Reading]
    best: int | None
    stopped: str


def fit(model: nn.Module, training: TrainingRun, progress: Progress) -> Outcome:
    """Run every step that is not done yet, with checkpoints; the model ends with the best weights.

    LmsiError: the adapter was destroyed before any of its states was better than the base; a file
    cannot be written; or the folder holds another unfinished run. KeyboardInterrupt is passed on
    after a checkpoint is written.
    """
    training.out.mkdir(parents=True, exist_ok=True)
    run = _Run(model, training, progress)
    model.train()
    try:
        run.finish()
    except KeyboardInterrupt:
        # Torn between two steps, the last regular checkpoint is the truth.
        if run.whole and run.done:
            run.save()
        raise
    finally:
        model.eval()
    return run.outcome()


class _Run:
    """Where the loop stands; ``whole`` is False while the weights are between two steps."""

    def __init__(self, model: nn.Module, training: TrainingRun, progress: Progress) -> None:
        self.model, self.training, self.progress = model, training, progress
        self.config, self.out, watched = training.config, training.out, training.watched
        self.parameters = adapter.trainable(model)
        self.optimizer = devices.adamw(self.parameters.values(), self.config)
        longest = max(
            e.length for e in [*training.examples, *(watched.examples if watched else [])]
        )
        self.row_tokens = 0  # one example a row, where attention is more than a mask
        if attention.supports(getattr(model, "config", None), longest):
            attention.install(model)
            self.row_tokens = self.config.row_tokens
        if devices.of(model).type == "cpu":  # where the kernels were measured
            speed_up(model, training.dtype, self.row_tokens)
        self.steps = plan(len(training.examples), self.config)
        self.done, self.best = checkpoint.load(
            self.out, self._header(0), self.parameters, self.optimizer
        )
        self.whole, self.saved, self.stopped, self.heap = True, time.monotonic(), "", Trimmer()
        self.log = _kept(self.out / LOG, LogLine, self.done)
        self.readings = _kept(self.out / READINGS, Reading, self.done) if watched else []
        self.watched = data.pack(watched.examples, self.row_tokens) if watched else []

    def finish(self) -> None:
        """Steps and validations in turn; one that the checkpoint lacks comes first."""
        total = len(self.steps)
        self.progress.start("training", total)
        if self.done:
            self.progress.say(f"going on after step {self.done} of {total}")
        with appender(self.out / LOG, LogLine) as log:
            self._validate()
            while not self.stopped and self.done < total and (line := self._step()):
                log.write(line)
                self.log.append(line)
                self.done, self.whole = self.done + 1, True
                self.heap.after_step()
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
        """One optimiser step; None, with ``stopped`` set, where its figures are no numbers."""
        import torch

        started, config = time.perf_counter(), self.config
        batch = [self.training.examples[i] for i in self.steps[self.done]]
        rate = learning_rate(self.done, len(self.steps), config)
        # Dropout draws what no other step and no other process draws, resumed or not.
        torch.manual_seed(hash((config.seed, self.done, processes.place().rank)) % 2**63)
        pairs = config if config.loss == "scpo" else None
        over = len(batch) if pairs else sum(e.predicted for e in batch)
        own = processes.part(batch)
        part = accumulate(self.model, own, self.row_tokens, self.training.dtype, over, pairs)
        figures = merge(part, self.parameters.values())
        longest = config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), longest))
        if not (math.isfinite(figures.loss) and math.isfinite(norm)):
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
            **msgspec.structs.asdict(figures),
        )

    def _validate(self) -> None:
        """Validate where that is due and not done yet, keep the best adapter, stop if need be."""
        config, taken = self.config, self.readings[-1].step if self.readings else -1
        wanted = due(self.done, len(self.steps), config.eval_every)
        if self.watched and taken < self.done and wanted:
            reading = measure(self.model, self.watched, self.training.dtype, self.done)
            if not math.isfinite(reading.loss):
                self.stopped = f"step {self.done}: the adapted model computes NaN"
                return
            self.readings.append(reading)
            if self.done and reading is best(self.readings, config, self.training.unseen):
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
                self.save()
            with appender(self.out / READINGS, Reading) as log:
                log.write(reading)
        self.stopped = judge(self.readings, config, self.training.unseen)

    def _header(self, step: int) -> checkpoint.Header:
        settings = checkpoint.decisive(self.config)
        return checkpoint.Header(fingerprint=self.training.name, step=step, settings=settings)

    def save(self) -> None:
        """Write the checkpoint; the weights must not be between two steps."""
        header = self._header(self.done)
        checkpoint.save(self.out, header, self.parameters, self.optimizer, self.best)
        self.saved = time.monotonic()

    def outcome(self) -> Outcome:
        """Bring the best weights back, if others came after them."""
        unseen, say = self.training.unseen, self.progress.say
        taken = best(self.readings, self.config, unseen)
        if self.stopped:
            say(f"stopped: {self.stopped}")
        if taken is None and self.stopped:
            raise DestroyedError(
                f"training stopped before there was any sound adapter: {self.stopped}",
                hint="start over with `--overwrite` and a lower --lr, or with --set dtype=fp32",
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
    """The example indices of every step, of ``count`` examples.

    Each epoch is its own shuffle; a step may span two. ``max_steps`` beats ``epochs`` and goes
    round as often as it needs. With five examples, two epochs and four to a step,

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


# From the share of the steps after the warm-up that are done to a share of the peak rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of a step, from 0, of so many: linear warm-up, then as ``config.schedule`` says.

    A cosine and a line both fall to nearly zero; the last step still moves.
    """
    warm, rate = math.ceil(config.warmup * steps), float(config.lr)
    if step < warm:
        return rate * (step + 1) / warm
    return rate * SCHEDULES[config.schedule]((step - warm) / max(1, steps - warm))


def speed_up(model: nn.Module, dtype: Dtype, row_tokens: int) -> bool:
    """Let the model compute with fewer passes over memory where that is the same; says if it is.

    Call it after ``attention.install`` and before anything is trained.
    """
    import torch

    def probe() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        figures = accumulate(model, _SAMPLE, row_tokens, dtype, over=7)
        wanted = [p for p in model.parameters() if p.requires_grad]
        loss = merge(figures, wanted).loss  # so that all processes come to one end
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
