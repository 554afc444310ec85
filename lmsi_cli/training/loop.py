"""The training loop: from checkpoint to checkpoint, one line per step in ``log.jsonl``.

Picks up its own checkpoint when the same command runs again. Knows nothing of llama.cpp, of the
command line, of GGUF files or of where the examples come from. A line of the log:

    {"step": 1, "loss": 1.92, "lr": 0.0005, "grad_norm": 0.8, "tokens": 1180,
     "unpacked_tokens": 2410, "completion_tokens": 312, "seconds": 0.61}
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import TYPE_CHECKING

from lmsi_cli.jsonl import Appender, appender
from lmsi_cli.records import Progress
from lmsi_cli.training import (
    alarms,
    attention,
    checkpoint,
    devices,
    lora,
    preference,
    processes,
    schedule,
    validation,
)
from lmsi_cli.training.data import sequences
from lmsi_cli.training.state import LOG, Job, LogLine, Outcome, State, header, keep, resume, save
from lmsi_cli.training.step import accumulate, speed_up
from lmsi_cli.training.validation import Reading, Validator, Watched

if TYPE_CHECKING:
    from torch import nn

# A kill costs this much at most, however slow the steps are.
SAVE_SECONDS = 60.0


class _Broken(Exception):
    """A step whose loss or gradient is not a number; says where."""


def fit(model: nn.Module, job: Job, progress: Progress) -> Outcome:
    """Run every step that is not done yet, with checkpoints; the model ends with the best weights.

    Args:
        model: With an adapter; its trainable parameters are changed in place.
        job: Examples, settings and folder.
        progress: Told of every step.

    Raises:
        LmsiError: The adapter was destroyed before any of its states was better than the base; a
            file cannot be written; or the folder holds another unfinished run.
        KeyboardInterrupt: Passed on after a checkpoint is written.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    state = _begin(model, job, progress)
    progress.start("training", len(state.steps))
    if state.done:
        progress.say(f"going on after step {state.done} of {len(state.steps)}")
    job = _referred(model, job, state, progress)
    model.train()
    try:
        with appender(job.out / LOG, LogLine) as log, _readings(job) as readings:
            _run(model, state, job, log, readings, progress)
        save(job, state)
    except KeyboardInterrupt:
        # Torn between two steps, the last regular checkpoint is the truth.
        if state.whole and state.done:
            save(job, state)
        raise
    finally:
        model.eval()
    return _settle(state, job, progress)


def _readings(job: Job) -> AbstractContextManager[Appender[Reading] | None]:
    return appender(job.out / validation.LOG, Reading) if job.watched else nullcontext()


def _referred(model: nn.Module, job: Job, state: State, progress: Progress) -> Job:
    """The job with what the base makes of its pairs, if these are what is trained on."""
    if job.config.loss == "sft":
        return job
    kept = preference.refer(model, job.examples, job, state.row_tokens, progress)
    progress.start("training", len(state.steps))
    return job._replace(examples=kept)


def _begin(model: nn.Module, job: Job, progress: Progress) -> State:
    import torch

    torch.manual_seed(job.config.seed)
    parameters = lora.trainable(model)
    optimizer = devices.adamw(parameters.values(), job.config)
    watched = (job.watched or Watched([], True)).examples
    longest = max(unit.length for unit in [*job.examples, *watched])
    packs = attention.supports(getattr(model, "config", None), longest)
    if packs:
        attention.install(model)
    steps = schedule.plan(len(job.examples), job.config)
    state = State(parameters, optimizer, job.config.row_tokens if packs else 0, steps)
    if devices.of(model).type == "cpu":  # where the kernels were measured
        speed_up(model, job.dtype, state.row_tokens)
    resume(state, job, progress)
    state.rng = checkpoint.random_state()
    state.log = keep(job.out / LOG, LogLine, state.done)
    if job.watched:
        state.readings = keep(job.out / validation.LOG, Reading, state.done)
        state.validator = Validator(model, job.watched, state.row_tokens, job.dtype)
    return state


def _run(
    model: nn.Module,
    state: State,
    job: Job,
    log: Appender[LogLine],
    readings: Appender[Reading] | None,
    progress: Progress,
) -> None:
    """Steps and validations in turn; one that the checkpoint lacks comes first."""
    while True:
        _look(state, job, readings, progress)
        if state.stopped or state.done == len(state.steps):
            return
        rate = schedule.learning_rate(state.done, len(state.steps), job.config)
        try:
            line = _step(model, state, job, state.steps[state.done], rate)
        except _Broken as e:
            state.stopped = str(e)
            return
        log.write(line)
        _commit(state, line)
        state.heap.after_step()
        _report(progress, state)
        if _save_due(state, job):
            save(job, state)


def _step(model: nn.Module, state: State, job: Job, indices: list[int], rate: float) -> LogLine:
    import torch

    started = time.perf_counter()
    batch = [job.examples[i] for i in indices]
    processes.seed_dropout(job.config.seed, state.done)
    learn = preference.learner(job.config) if job.config.loss == "scpo" else accumulate
    own = learn(model, processes.part(batch), state.row_tokens, job.dtype)
    figures = processes.merge(own, state.parameters.values())
    norm = float(
        torch.nn.utils.clip_grad_norm_(
            state.parameters.values(), job.config.max_grad_norm or math.inf
        )
    )
    if not (math.isfinite(figures.loss) and math.isfinite(norm)):
        each = sequences(batch)
        broken = alarms.culprits(model, each, job.dtype)
        raise _Broken(alarms.blame(state.done + 1, each, broken))
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.whole = False
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - started
    return LogLine(step=state.done + 1, lr=rate, grad_norm=norm, seconds=seconds, **figures.told())


def _commit(state: State, line: LogLine) -> None:
    state.log.append(line)
    state.rng = checkpoint.random_state()
    state.done += 1
    state.whole = True


def _look(state: State, job: Job, log: Appender[Reading] | None, progress: Progress) -> None:
    """Validate where that is due and not done yet, keep the best adapter, stop if need be."""
    total, every = len(state.steps), job.config.eval_every
    taken = state.readings[-1].step if state.readings else -1
    if state.validator and log and taken < state.done and validation.due(state.done, total, every):
        draw = validation.drawing(state.done, total, every)
        reading = state.validator.read(state.done, draw)
        if not math.isfinite(reading.loss):
            state.stopped = f"step {state.done}: {alarms.NAN}"
            return
        state.readings.append(reading)
        if state.done and reading is alarms.best(state.readings, job.config, job.unseen):
            save(job, state)  # first, so that no kill leaves a best one of steps yet to come
            checkpoint.save_best(job.out, header(job, state), state.parameters)
        log.write(reading)
        if not state.done and (why := alarms.strange(reading, state.validator.vocabulary)):
            progress.say(why)
    state.stopped = alarms.judge(state.readings, job.config, job.unseen)


def _save_due(state: State, job: Job) -> bool:
    late = time.monotonic() - state.saved > SAVE_SECONDS
    return late or state.done % job.config.checkpoint_every == 0


def _settle(state: State, job: Job, progress: Progress) -> Outcome:
    """Bring the best weights back, if others came after them."""
    best = alarms.best(state.readings, job.config, job.unseen)
    if state.stopped:
        progress.say(f"stopped: {state.stopped}")
    if best is None and state.stopped:
        raise alarms.DestroyedError(
            f"training stopped before there was any sound adapter: {state.stopped}",
            hint="start over with `--overwrite` and a lower --lr, or with --dtype fp32",
        )
    if best is not None and best.step != state.done:
        checkpoint.load_best(job.out, job.name, best.step, state.parameters)
        progress.say(f"taken: the adapter after step {best.step} of {state.done}")
    if best is not None and job.unseen and best.loss >= state.readings[0].loss:
        progress.say(
            f"no adapter was better than the base on held-out questions: loss "
            f"{state.readings[0].loss:.3f} before, {best.loss:.3f} after; try a lower --lr"
        )
    return Outcome(state.log, state.readings, best.step if best else None, state.stopped)


def _report(progress: Progress, state: State) -> None:
    recent = state.log[-20:]
    rate = sum(line.tokens for line in recent) / sum(line.seconds for line in recent)
    progress.advance(
        state.done, loss=round(fmean(line.loss for line in recent), 4), tokens_s=round(rate)
    )
