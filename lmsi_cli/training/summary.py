"""What a training run did, as one record: from its log and readings to the figures people see.

Knows nothing of how a step is made. One of it:

    TrainSummary(steps=98, examples=780, first_loss=0.61, final_loss=0.24, seconds=61.0, ...)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from statistics import fmean

from msgspec import UnsetType

from lmsi_cli.records import Record
from lmsi_cli.training import load
from lmsi_cli.training.origin import Original
from lmsi_cli.training.state import Job, Outcome


class Validation(Record, frozen=True, kw_only=True):
    """Losses on held-out questions, in nats per completion token, and whose adapter was taken.

    ``divergence`` is that of the adapter taken, as in ``validation.Reading``.
    """

    questions: int
    base_loss: float
    best_loss: float
    last_loss: float
    best_step: int
    divergence: float
    seconds: float


class TrainSummary(Record, frozen=True, kw_only=True):
    """What a training run did; losses are means over the first and the last few steps.

    ``stopped`` says why it ended before its last step; empty if it did not. ``reward_margin`` and
    ``reward_accuracy`` (``step.Rewards``) are those of pairs, over the last few steps.
    """

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    unpacked_tokens: int
    completion_tokens: int
    first_loss: float
    final_loss: float
    seconds: float
    tokens_per_second: float
    dtype: load.Dtype
    peak_rss_mib: int
    validation: Validation | None = None
    stopped: str = ""
    device: str = "cpu"
    peak_device_mib: int = 0
    processes: int = 1
    original: Original | None = None  # the folder of --base
    reward_margin: float | None = None
    reward_accuracy: float | None = None


def summarise(job: Job, outcome: Outcome, dropped: int) -> TrainSummary:
    """The figures that follow from a finished run.

    Args:
        job: What was trained on.
        outcome: What the loop made of it.
        dropped: Examples that were too long.
    """
    # One step's loss is noisy (its formats vary), so both ends are means over a tenth of the run.
    log = outcome.log
    few = max(1, min(20, len(log) // 10))
    seconds = sum(line.seconds for line in log)
    tokens = sum(line.tokens for line in log)
    return TrainSummary(
        steps=len(log),
        examples=len(job.examples),
        dropped_too_long=dropped,
        tokens=tokens,
        unpacked_tokens=sum(line.unpacked_tokens for line in log),
        completion_tokens=sum(line.completion_tokens for line in log),
        first_loss=fmean(line.loss for line in log[:few]),
        final_loss=fmean(line.loss for line in log[-few:]),
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        dtype=job.dtype,
        peak_rss_mib=_peak_rss_mib(),
        validation=_validated(job, outcome),
        stopped=outcome.stopped,
        reward_margin=_mean(line.rewards_margins for line in log[-few:]),
        reward_accuracy=_mean(line.rewards_accuracies for line in log[-few:]),
    )


def _mean(values: Iterable[float | UnsetType]) -> float | None:
    """Their mean; None of steps that have no such figure."""
    found = [v for v in values if isinstance(v, float)]
    return fmean(found) if found else None


def _validated(job: Job, outcome: Outcome) -> Validation | None:
    if not (job.watched and job.unseen and outcome.readings):
        return None
    taken = next(r for r in outcome.readings if r.step == outcome.best)
    return Validation(
        questions=len(job.watched.examples),
        base_loss=outcome.readings[0].loss,
        best_loss=taken.loss,
        last_loss=outcome.readings[-1].loss,
        best_step=taken.step,
        divergence=taken.divergence,
        seconds=sum(r.seconds for r in outcome.readings),
    )


def _peak_rss_mib() -> int:
    """The process's largest resident size; on Windows the present one."""
    try:
        import resource
    except ImportError:
        import psutil

        return int(psutil.Process().memory_info().rss) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10  # macOS counts bytes, Linux KiB
