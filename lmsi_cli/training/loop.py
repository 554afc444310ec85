"""The training loop: steps, validations and checkpoints of one run, from the first to the last.

Goes on from its own checkpoint when the same command runs again. Knows nothing of llama.cpp, of the
command line, of GGUF files or of where the examples come from. A line of ``log.jsonl``:

    {"step": 1, "loss": 1.92, "lr": 0.0005, "grad_norm": 0.8, "tokens": 1180,
     "unpacked_tokens": 2410, "completion_tokens": 312, "seconds": 0.61}
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import Appender, appender, read_records, write_records
from lmsi_cli.records import Progress
from lmsi_cli.training import (
    adapter,
    attention,
    checkpoint,
    data,
    devices,
    processes,
    tracking,
    validation,
)
from lmsi_cli.training.load import Dtype
from lmsi_cli.training.losses import row_loss
from lmsi_cli.training.memory import Trimmer
from lmsi_cli.training.step import (
    StepFigures,
    accumulate,
    learning_rate,
    merge,
    plan,
    speed_up,
)
from lmsi_cli.training.validation import Reading, Validator, Watched

if TYPE_CHECKING:
    from torch import nn

LOG = "log.jsonl"
# A kill costs this much at most, however slow the steps are.
SAVE_SECONDS = 60.0
R = TypeVar("R", "LogLine", Reading)


class LogLine(StepFigures, frozen=True, kw_only=True):
    """One finished step: its figures, its rate and the norm of its gradient; wall time."""

    step: int
    lr: float
    grad_norm: float
    seconds: float


class TrainingRun(NamedTuple):
    """What a run trains on and where it keeps its state; ``name`` is its fingerprint."""

    examples: Sequence[data.Unit]
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

    Args:
        model: With an adapter; its trainable parameters are changed in place.
        training: Examples, settings and folder.
        progress: Told of every step.

    Raises:
        LmsiError: The adapter was destroyed before any of its states was better than the base; a
            file cannot be written; or the folder holds another unfinished run.
        KeyboardInterrupt: Passed on after a checkpoint is written.
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
        self.parameters = adapter.trainable(model)
        self.optimizer = devices.adamw(self.parameters.values(), training.config)
        self.row_tokens = self._rows()
        if devices.of(model).type == "cpu":  # where the kernels were measured
            speed_up(model, training.dtype, self.row_tokens)
        self.steps = plan(len(training.examples), training.config)
        self.done = self._resume()
        self.whole, self.saved, self.stopped = True, time.monotonic(), ""
        self.heap = Trimmer()
        self.log = _kept(training.out / LOG, LogLine, self.done)
        self.readings: list[Reading] = []
        self.validator: Validator | None = None
        if training.watched:
            self.readings = _kept(training.out / validation.LOG, Reading, self.done)
            self.validator = Validator(model, training.watched, self.row_tokens, training.dtype)

    def _rows(self) -> int:
        """The longest packed row; 0 where the model takes one example a row."""
        watched = self.training.watched.examples if self.training.watched else []
        longest = max(unit.length for unit in [*self.training.examples, *watched])
        if not attention.supports(getattr(self.model, "config", None), longest):
            return 0
        attention.install(self.model)
        return self.training.config.row_tokens

    def _resume(self) -> int:
        """Bring back what the checkpoint holds; the number of steps that it has done."""
        found = checkpoint.load(self.training.out, self._header(0), self.parameters, self.optimizer)
        if found is None:
            (self.training.out / checkpoint.BEST).unlink(missing_ok=True)
            return 0
        return found.step

    def finish(self) -> None:
        """Steps and validations in turn; one that the checkpoint lacks comes first."""
        training, total = self.training, len(self.steps)
        self.progress.start("training", total)
        if self.done:
            self.progress.say(f"going on after step {self.done} of {total}")
        with (
            appender(training.out / LOG, LogLine) as log,
            appender(training.out / validation.LOG, Reading)
            if training.watched
            else nullcontext() as readings,
            tracking.tracked(training.config, training.out.parent, training.name[:8]) as self.tell,
        ):
            self._validate(readings)
            while not self.stopped and self.done < total:
                line = self._step()
                if line is None:
                    break
                log.write(line)
                self.tell("train", line)
                self.log.append(line)
                self.done, self.whole = self.done + 1, True
                self.heap.after_step()
                self._report()
                late = time.monotonic() - self.saved > SAVE_SECONDS
                if late or self.done % training.config.checkpoint_every == 0:
                    self.save()
                self._validate(readings)
        self.save()

    def _step(self) -> LogLine | None:
        """One optimiser step; None, with ``stopped`` set, where its figures are no numbers."""
        import torch

        started, config = time.perf_counter(), self.training.config
        batch = [self.training.examples[i] for i in self.steps[self.done]]
        rate = learning_rate(self.done, len(self.steps), config)
        # Dropout draws what no other step and no other process draws, resumed or not.
        torch.manual_seed(hash((config.seed, self.done, processes.place().rank)) % 2**63)
        figures = merge(self._gradient(batch), self.parameters.values())
        longest = config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), longest))
        if not (math.isfinite(figures.loss) and math.isfinite(norm)):
            self.stopped = f"step {self.done + 1}: {self._blame(data.sequences(batch))}"
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

    def _gradient(self, batch: Sequence[data.Unit]) -> StepFigures:
        """Add this process's part of the gradient of the step's mean loss."""
        own, config = processes.part(batch), self.training.config
        pairs = config if config.loss == "scpo" else None
        over = len(batch) if pairs else sum(e.predicted for e in data.sequences(batch))
        return accumulate(self.model, own, self.row_tokens, self.training.dtype, over, pairs)

    def _blame(self, batch: Sequence[data.TokenExample]) -> str:
        """At which examples of a step the loss is not a number, each computed alone."""
        import torch

        broken: list[data.TokenExample] = []
        with torch.no_grad():
            for e in batch:
                [row] = data.pack([e], 0)
                if not math.isfinite(float(row_loss(self.model, row, self.training.dtype))):
                    broken.append(e)
        if not broken:
            return f"the gradient is not a number; examples: {', '.join(e.name for e in batch)}"
        if len(broken) == len(batch) > 1:
            return "the loss is not a number, at every example: the adapter is destroyed"
        return f"the loss is not a number at {', '.join(e.name for e in broken)}"

    def _validate(self, log: Appender[Reading] | None) -> None:
        """Validate where that is due and not done yet, keep the best adapter, stop if need be."""
        training, taken = self.training, self.readings[-1].step if self.readings else -1
        due = validation.due(self.done, len(self.steps), training.config.eval_every)
        if self.validator and log and taken < self.done and due:
            reading = self.validator.read(self.done)
            if not math.isfinite(reading.loss):
                self.stopped = f"step {self.done}: the adapted model computes NaN"
                return
            self.readings.append(reading)
            if self.done and reading is validation.best(
                self.readings, training.config, training.unseen
            ):
                self.save()  # first, so that no kill leaves a best one of steps yet to come
                best = training.out / checkpoint.BEST
                checkpoint.save(best, self._header(self.done), self.parameters)
            log.write(reading)
            self.tell("eval", reading)
        self.stopped = validation.judge(self.readings, training.config, training.unseen)

    def save(self) -> None:
        """Write the checkpoint; the weights must not be between two steps."""
        path = self.training.out / checkpoint.NAME
        checkpoint.save(path, self._header(self.done), self.parameters, self.optimizer)
        self.saved = time.monotonic()

    def _header(self, step: int) -> checkpoint.Header:
        settings = checkpoint.decisive(self.training.config)
        return checkpoint.Header(fingerprint=self.training.name, step=step, settings=settings)

    def _report(self) -> None:
        recent = self.log[-20:]
        rate = sum(line.tokens for line in recent) / sum(line.seconds for line in recent)
        loss = round(fmean(line.loss for line in recent), 4)
        self.progress.advance(self.done, loss=loss, tokens_s=round(rate))

    def outcome(self) -> Outcome:
        """Bring the best weights back, if others came after them."""
        training, say = self.training, self.progress.say
        best = validation.best(self.readings, training.config, training.unseen)
        if self.stopped:
            say(f"stopped: {self.stopped}")
        if best is None and self.stopped:
            raise validation.DestroyedError(
                f"training stopped before there was any sound adapter: {self.stopped}",
                hint="start over with `--overwrite` and a lower --lr, or with --set dtype=fp32",
            )
        if best is not None and best.step != self.done:
            checkpoint.load_best(training.out, training.name, best.step, self.parameters)
            say(f"taken: the adapter after step {best.step} of {self.done}")
        if best is not None and training.unseen and best.loss >= self.readings[0].loss:
            say(
                f"no adapter was better than the base on held-out questions: loss "
                f"{self.readings[0].loss:.3f} before, {best.loss:.3f} after; try a lower --lr"
            )
        return Outcome(self.log, self.readings, best.step if best else None, self.stopped)


def _kept(path: Path, kind: type[R], done: int) -> list[R]:
    """Cut a log to what the checkpoint holds; a killed run may have written more."""
    found = list(read_records(path, kind)) if path.exists() and done else []
    kept = [r for r in found if r.step <= done]
    write_records(path, kept)
    return kept
