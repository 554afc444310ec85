"""From pairs and a GGUF file to a LoRA adapter in PEFT's format, and what that took.

Knows nothing of llama.cpp, of the command line or of where the pairs come from. What it tells:

    TrainSummary(steps=98, examples=780, first_loss=0.61, final_loss=0.24, seconds=61.0, ...)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UnsetType

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Preference, Progress, Prompt, Record, TrainExample
from lmsi_cli.training import (
    arithmetic,
    bases,
    checkpoint,
    curve,
    data,
    devices,
    export,
    fitting,
    heap,
    load,
    lora,
    memory,
    preference,
    processes,
    schedule,
    starting,
    validation,
)
from lmsi_cli.training.lessons import Lesson
from lmsi_cli.training.loop import fit
from lmsi_cli.training.origin import Original
from lmsi_cli.training.state import Job, Outcome
from lmsi_cli.training.step import recompute
from lmsi_cli.training.verify import Witness

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 30_000  # a matrix this tall holds words and is no typical product


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
    foretold_rss_mib: int = 0
    reward_margin: float | None = None
    reward_accuracy: float | None = None


class Trained(NamedTuple):
    """The summary, and the model with its adapter for the proofs of ``verify``."""

    summary: TrainSummary
    model: nn.Module


def train(  # noqa: PLR0913 - the base and what is known of it
    examples: Sequence[Lesson],
    gguf: Path,
    config: TrainConfig,
    out: Path,
    codec: data.Codec,
    progress: Progress,
    witness: Witness | None = None,
) -> Trained:
    """Train an adapter over ``gguf`` and save it in ``out``; goes on where a killed run stopped.

    The last checkpoint stays (``checkpoint.remove``), so that a proof that was interrupted, or
    failed for a reason outside, costs no training.

    Args:
        examples: Prompt/completion pairs, or with ``loss`` scpo preference pairs; the loss falls
            on completions only.
        gguf: The base model.
        config: All settings.
        out: Folder for adapter_config.json, adapter_model.safetensors, the log and checkpoints.
        codec: The GGUF's own tokenizer.
        progress: Told of every step.
        witness: What llama.cpp computes from ``gguf``; PyTorch must agree before the first step.

    Raises:
        LmsiError: There is nothing to train on, the model cannot be trained, or the loss is NaN.
    """
    heap.prepare()
    heap.give_back()  # what sampling has left
    lora.refuse_dora(config)
    _complete(examples)
    parts = validation.split(examples, config.val_share)
    limit = min(config.max_length, _context(gguf))
    tokens = _tokens(parts.train, codec, limit)
    if not tokens.examples:
        raise _nothing(len(parts.train), tokens.dropped, limit)
    export.preflight(gguf, config.target, config.layers, config.rank)
    device = devices.pick(config.device, processes.place().local)
    dtype = _dtype(config, gguf, device)
    plan = _settled(tokens.examples, config, dtype, gguf, out, progress)
    config, dropped = plan.config, len(parts.train) - len(plan.examples)
    processes.lead(config)
    lessons = data.weighed(plan.examples)
    base, original = bases.load_proven(gguf, config.base, dtype, witness, progress.say)
    model = lora.add_lora(base, config, gguf.name).to(device)
    starting.fill(model, config)
    recompute(model, plan.checkpointing)
    name = checkpoint.fingerprint(gguf, lessons, config, starting.fingerprint(config))
    watched = _watched(parts, config, codec, limit)
    job = Job(lessons, config, dtype, out, name, watched)
    _announce(job, parts, dropped, limit, progress)
    outcome = fit(model, job, progress)
    with checkpoint.writing(out / export.WEIGHTS):
        export.save_adapter(model, out)
    _draw(job, outcome)
    where = devices.of(model)
    summary = msgspec.structs.replace(
        _summary(job, outcome, dropped),
        original=original,
        device=str(where),
        peak_device_mib=devices.peak_mib(where),
        processes=processes.place().world,
        foretold_rss_mib=plan.footprint.peak >> 20,
    )
    return Trained(summary, model)


def _draw(job: Job, outcome: Outcome) -> None:
    path = job.out / curve.NAME
    if job.config.loss == "scpo":  # its readings are in nats per token of the chosen side
        curve.draw(outcome.log, [], outcome.best, path, "mean over pairs")
        return
    curve.draw(outcome.log, outcome.readings if job.unseen else [], outcome.best, path)


def _tokens(lessons: Sequence[Lesson], codec: data.Codec, limit: int) -> data.TokenSet:
    """The ids of examples or of pairs, whichever they are."""
    pairs = [e for e in lessons if isinstance(e, Preference)]
    if pairs:
        return preference.tokenize(pairs, codec, limit)
    return data.tokenize(_examples(lessons), codec, limit)


def _examples(lessons: Sequence[Lesson]) -> list[TrainExample]:
    """Examples as they are, and of pairs the chosen side."""
    return [preference.chosen_of(e) if isinstance(e, Preference) else e for e in lessons]


def _settled(
    examples: list[data.Unit],
    config: TrainConfig,
    dtype: load.Dtype,
    gguf: Path,
    out: Path,
    progress: Progress,
) -> fitting.Settled:
    """Settings that fit the memory; the first process has settled for the others."""
    if processes.place().rank:
        return fitting.taken_over(config, examples)
    return fitting.settle(memory.outline(gguf, examples, dtype), config, out, progress)


def _complete(lessons: Sequence[Lesson]) -> None:
    """Refuse an example with nothing to learn; lmsi never writes one."""
    for number, e in enumerate(lessons, 1):
        sides = (e.chosen, e.rejected) if isinstance(e, Preference) else (e.completion,)
        if any(_is_empty(side) for side in sides):
            raise LmsiError(
                f"training example {number}, question '{e.question_id}' ({e.format}): "
                "its completion is empty",
                hint="run `lmsi vote` again, or delete that line",
            )


def _is_empty(completion: Prompt) -> bool:
    texts = [completion] if isinstance(completion, str) else [m.content for m in completion]
    return not any(text.strip() for text in texts)


def _context(gguf: Path) -> int:
    """Tokens of the model's context; no limit where the file does not say."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (OSError, ValueError, KeyError) as e:
        raise LmsiError(f"{gguf}: not a readable GGUF file: {e}") from None
    family = reader.get_field("general.architecture")
    found = reader.get_field(f"{family.contents()}.context_length") if family else None
    return int(found.contents()) if found else sys.maxsize


def _nothing(count: int, dropped: int, limit: int) -> LmsiError:
    if not count:
        return LmsiError(
            "nothing to train on: 0 examples", hint="loosen the filters of `lmsi vote`"
        )
    return LmsiError(
        f"nothing to train on: {dropped} of {count} examples are longer than {limit} tokens",
        hint="raise --max-length as far as the model's context goes",
    )


def _watched(
    parts: validation.Split, config: TrainConfig, codec: data.Codec, limit: int
) -> validation.Watched | None:
    """What to measure on: held-out questions; without any, alarms are read off trained ones.

    A run that is over at once has nothing to save.
    """
    chosen = validation.one_each(_examples(parts.held))
    steps = len(schedule.plan(len(parts.train), config))
    if not chosen and config.alarms and steps >= validation.SELDOM:
        chosen = validation.one_each(_examples(parts.train), validation.FEWEST)
    tokens = data.tokenize(chosen, codec, limit)
    return validation.watched(data.sequences(tokens.examples), unseen=bool(parts.held))


def _announce(
    job: Job, parts: validation.Split, dropped: int, limit: int, progress: Progress
) -> None:
    if dropped:
        progress.say(
            f"{dropped} of {len(parts.train)} examples are longer than {limit} tokens and left out"
        )
    if job.watched and job.unseen:
        progress.say(
            f"validated on {len(job.watched.examples)} questions, set apart with their "
            f"{len(parts.held)} of {len(parts.train) + len(parts.held)} examples"
        )


def _dtype(config: TrainConfig, gguf: Path, device: str) -> load.Dtype:
    """As asked for; left to us, bf16 where the device has it and a CPU is seen to be faster."""
    dtype = devices.pick_dtype(config.dtype, device)
    if config.dtype != "auto" or dtype == "fp32" or device != "cpu":
        return dtype
    shapes = [s for s in load.read_meta(gguf).shapes.values() if len(s) == 2]
    inner = [s for s in shapes if max(s) < VOCABULARY] or shapes
    out, into = max(inner, key=math.prod)
    return "bf16" if arithmetic.compare(out, into).pays else "fp32"


def _summary(job: Job, outcome: Outcome, dropped: int) -> TrainSummary:
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
