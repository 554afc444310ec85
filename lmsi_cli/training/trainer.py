"""From pairs and a GGUF file to a LoRA adapter in PEFT's format, and what that took.

Knows nothing of llama.cpp, of the command line or of where the pairs come from. What it hands over:

    Trained(TrainSummary(steps=98, examples=780, final_loss=0.24, ...), model, logits)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Preference, Progress, Prompt, TrainExample
from lmsi_cli.training import (
    arithmetic,
    attention,
    bases,
    checkpoint,
    curve,
    data,
    devices,
    export,
    heap,
    load,
    lora,
    memory,
    preference,
    processes,
    schedule,
    starting,
    summary,
    validation,
    verify,
)
from lmsi_cli.training.lessons import Lesson
from lmsi_cli.training.loop import fit
from lmsi_cli.training.origin import Original
from lmsi_cli.training.state import Job, Outcome
from lmsi_cli.training.step import recompute
from lmsi_cli.training.summary import TrainSummary as TrainSummary
from lmsi_cli.training.verify import Witness

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 30_000  # a matrix this tall holds words and is no typical product


class Trained(NamedTuple):
    """The summary, the model with its adapter, and its logits for the proofs of ``verify``."""

    summary: TrainSummary
    model: nn.Module
    logits: verify.LogitsFn


class _Task(NamedTuple):
    """What is trained on, as it was given."""

    gguf: Path
    config: TrainConfig
    out: Path
    codec: data.Codec
    progress: Progress


class _Material(NamedTuple):
    """Examples in both forms, and the longest that the model can take, in tokens."""

    parts: validation.Split
    tokens: data.TokenSet
    limit: int


class _Ready(NamedTuple):
    """A model to train, where its weights come from, and all that decides the run."""

    model: nn.Module
    original: Original | None
    job: Job


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
    task = _Task(gguf, config, out, codec, progress)
    material = _material(task, examples)
    dtype, recomputing = _planned(task, material)
    ready = _ready(task, material, dtype, witness)
    recompute(ready.model, recomputing)
    _announce(ready.job, material, progress)
    outcome = fit(ready.model, ready.job, progress)
    _write(ready, outcome)
    logits = verify.torch_logits(ready.model, dtype)
    return Trained(_summary(ready, material, outcome), ready.model, logits)


def _material(task: _Task, examples: Sequence[Lesson]) -> _Material:
    """Token ids of what is trained on."""
    _complete(examples)
    parts = validation.split(examples, task.config.val_share)
    limit = min(task.config.max_length, _context(task.gguf))
    tokens = _tokens(parts.train, task.codec, limit)
    if not tokens.examples:
        raise _nothing(len(parts.train), tokens.dropped, limit)
    return _Material(parts, tokens, limit)


def _planned(task: _Task, material: _Material) -> tuple[load.Dtype, bool]:
    """The arithmetic, and whether activations are computed twice, where all fits the memory."""
    gguf, config = task.gguf, task.config
    export.preflight(gguf, config.target, config.layers, config.rank)
    device = devices.pick(config.device, processes.place().local)
    dtype = _dtype(config, gguf, device)
    if device == "cpu":  # a GPU has a memory of its own
        run = memory.Run(load.read_meta(gguf), material.tokens.examples, dtype)
        longest = max(u.length for u in run.units)
        if not attention.supports(load.configuration(run.meta), longest):
            config = msgspec.structs.replace(config, row_tokens=0)
        config = memory.choose_checkpointing(run, config, task.progress.say)
    processes.wait()  # no checkpoint is written before all have read the last one
    return dtype, config.gradient_checkpointing == "on"


def _ready(task: _Task, material: _Material, dtype: load.Dtype, witness: Witness | None) -> _Ready:
    """The model with its adapter, and the run."""
    config, progress = task.config, task.progress
    device = devices.pick(config.device, processes.place().local)
    base, original = bases.load_proven(task.gguf, config.base, dtype, witness, progress.say)
    model = lora.add_lora(base, config, task.gguf.name).to(device)
    starting.fill(model, config)
    lessons = data.weighed(material.tokens.examples)
    name = checkpoint.fingerprint(task.gguf, lessons, config, starting.fingerprint(config))
    watched = _watched(material, config, task.codec)
    return _Ready(model, original, Job(lessons, config, dtype, task.out, name, watched))


def _write(ready: _Ready, outcome: Outcome) -> None:
    """The adapter in PEFT's format, and the curve of its losses."""
    out = ready.job.out
    with checkpoint.writing(out / export.WEIGHTS):
        export.save_adapter(ready.model, out)
    _draw(ready.job, outcome)


def _summary(ready: _Ready, material: _Material, outcome: Outcome) -> TrainSummary:
    where = devices.of(ready.model)
    return msgspec.structs.replace(
        summary.summarise(ready.job, outcome, material.tokens.dropped),
        original=ready.original,
        device=str(where),
        peak_device_mib=devices.peak_mib(where),
        processes=processes.place().world,
    )


def _draw(job: Job, outcome: Outcome) -> None:
    path = job.out / curve.NAME
    if job.config.loss == "scpo":  # its readings are in nats per token of the chosen side
        curve.draw(outcome.log, [], outcome.best, path, "mean over pairs")
        return
    curve.draw(outcome.log, outcome.readings if job.unseen else [], outcome.best, path)


def _tokens(lessons: Sequence[Lesson], codec: data.Codec, limit: int) -> data.TokenSet:
    """The ids of examples or of pairs, whichever they are."""
    if lessons and isinstance(lessons[0], Preference):
        pairs = (e for e in lessons if isinstance(e, Preference))
        return preference.tokenize(pairs, codec, limit)
    return data.tokenize(_examples(lessons), codec, limit)


def _examples(lessons: Iterable[Lesson]) -> Iterable[TrainExample]:
    """Examples as they are, and of pairs the chosen side."""
    return (preference.chosen_of(e) if isinstance(e, Preference) else e for e in lessons)


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
    return int(load.read_meta(gguf).values.get("context_length", 0)) or sys.maxsize


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
    material: _Material, config: TrainConfig, codec: data.Codec
) -> validation.Watched | None:
    """What to measure on: held-out questions; without any, alarms are read off trained ones.

    A run that is over at once has nothing to save.
    """
    train, held = material.parts
    chosen = validation.one_each(_examples(held))
    steps = len(schedule.plan(len(train), config))
    if not chosen and config.alarms and steps >= validation.SELDOM:
        chosen = validation.one_each(_examples(train), validation.FEWEST)
    tokens = data.tokenize(chosen, codec, material.limit)
    return validation.watched(data.sequences(tokens.examples), unseen=bool(held))


def _announce(job: Job, material: _Material, progress: Progress) -> None:
    parts = material.parts
    if dropped := material.tokens.dropped:
        progress.say(
            f"{dropped} of {len(parts.train)} examples are longer than {material.limit} tokens "
            "and left out"
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
