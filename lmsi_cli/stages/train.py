"""Stage three: training examples in, a proven adapter out, in PEFT's format and as GGUF.

Knows the order of work: tokenise with the GGUF's own tokenizer, train, export, prove. During
training llama.cpp holds the vocabulary alone, so the sampler's memory is free.

    train.jsonl -> adapter/{adapter_config.json, adapter_model.safetensors, adapter.gguf, log.jsonl}
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli import aside
from lmsi_cli.config import ORIGINAL, SPEED_ONLY, TrainConfig
from lmsi_cli.engine.checks import Mark
from lmsi_cli.engine.cpu_check import torch_is_here
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.llama import LlamaModel, vocabulary
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records, read_struct, write_struct
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Progress, Question, Record, Silent
from lmsi_cli.resume import ANEW, check_model, check_same
from lmsi_cli.run_folder import RunDir, discard_adapter, sha256_file
from lmsi_cli.training import adapter, examples, processes
from lmsi_cli.training.data import Codec, Example
from lmsi_cli.training.devices import check_packages, pick
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.trainer import TrainSummary, suited, train
from lmsi_cli.training.verify import AdapterProof, LogitsFn, Sides, Witness, verify

HELD_OUT = 8  # prompts for the proof


class TrainResult(Record, frozen=True, kw_only=True):
    """What was trained, and the proof that PyTorch and llama.cpp agree on the adapter."""

    summary: TrainSummary
    proof: AdapterProof


def train_run(
    run: RunDir,
    model: Path,
    task: Task,
    config: TrainConfig,
    progress: Progress,
    overwrite: bool = False,
) -> TrainResult:
    """Train on a run folder's examples and prove the adapter; a finished one is kept as it is.

    The caller holds the folder (``locked``). The task supplies the chat template's variables and
    the form of the prompts for the proof. ``overwrite`` discards an existing adapter, finished or
    not.

    LmsiError: there are no examples, the folder has an adapter of other settings, transformers
    cannot load the model, the model did not draw the paths or has changed meanwhile, training
    diverged, or a proof failed; says which.
    """
    examples.check(run, config)
    mark = Mark(model)
    config = suited(config, read_meta(model), examples.count_pairs(run))
    origin = _origin(run, model, config)
    check_model(run, model, origin["base_sha256"])
    if overwrite:
        _check_training(model, config, progress)  # before the old adapter is gone
        discard_adapter(run)
    if run.adapter_origin.exists():
        known = read_object(run.adapter_origin)
        saved = {name: known.get(name) for name in origin}
        check_same(saved, origin, f"the adapter in {run.adapter}", SPEED_ONLY, ANEW)
        return finished(run)
    run.adapter_gguf.unlink(missing_ok=True)  # left by a training that was killed after its proof
    processes.wait()  # the other processes start from the folder as it is now
    found = examples.read(run, config)
    with vocabulary(model) as words:
        codec = _codec(words, task)
        prompts = _unseen(run, model, task, found, codec)
        with LlamaEngine(model, ORIGINAL) as engine:  # before PyTorch takes the memory
            seen = prompts, engine.last_logits(prompts)
        summary, logits = train(found, model, config, run.adapter, codec, progress, seen)
    mark.check()
    adapter.to_gguf(run.adapter, model, run.unproven_gguf)
    progress.say("proving the adapter: PyTorch against llama.cpp")
    proof = _proof(run, model, logits, seen)
    run.unproven_gguf.replace(run.adapter_gguf)
    result = TrainResult(summary=summary, proof=proof)
    run.save_settings("train", {**origin, "adapter_sha256": sha256_file(run.adapter_gguf)})
    write_struct(run.adapter_origin, {**origin, "result": result}, sort=True)
    run.checkpoint.unlink(missing_ok=True)
    return result


def _proof(run: RunDir, model: Path, logits: LogitsFn, seen: Witness) -> AdapterProof:
    """Prove that llama.cpp and PyTorch agree; LmsiError as ``verify``, with the adapter's file."""
    prompts, plain = seen
    with LlamaEngine(model, ORIGINAL) as engine:
        engine.use_adapter(str(run.unproven_gguf))
        llama = Sides(plain, engine.last_logits(prompts))
    ours = Sides(logits(prompts, False), logits(prompts, True))
    try:
        return verify(ours, llama)
    except LmsiError as e:
        raise LmsiError(f"{run.unproven_gguf}: {e}", e.hint) from e


def train_apart(
    run: RunDir,
    model: Path,
    task: Task,
    config: TrainConfig,
    progress: Progress,
    overwrite: bool = False,
) -> TrainResult:
    """Train in a separate process, because PyTorch may not share one with llama.cpp.

    If several processes train together, PyTorch is already loaded: training then stays here and
    llama.cpp does without repacked weights. LmsiError as ``train_run``, or packages are missing.
    """
    check_packages()
    work, given = partial(train_run, overwrite=overwrite), (run, model, task, config)
    result: TrainResult = _apart(work, *given, progress=progress, name="training")
    return result


def check_training(model: Path, config: TrainConfig, progress: Progress) -> None:
    """Refuse a training that cannot begin, before hours are spent on its paths.

    In a separate process, as ``train_apart``. LmsiError: transformers cannot load the model, the
    matrices, the device or the adapter to start from are not there.
    """
    _apart(_check_training, model, config, progress=progress, name="the check of the model")


def _apart(work: Callable[..., Any], *given: object, progress: Progress, name: str) -> Any:  # noqa: ANN401
    """Do work with PyTorch in a separate process, or here if PyTorch is loaded already."""
    if torch_is_here():
        return work(*given, progress=progress)
    return aside.run(work, *given, progress=progress, name=name)


def _check_training(model: Path, config: TrainConfig, progress: Progress) -> None:
    adapter.preflight(model, config)
    pick(config.device)
    adapter.check_start(config, sha256_file(model) if config.init else "")


def assist(run: RunDir, model: Path, task: Task, config: TrainConfig, overwrite: bool) -> None:
    """Do the part of a process other than the first; arguments as for ``train_run``.

    It works in a temporary folder, on a copy of the adapter folder as it was at the start.
    """
    if run.adapter_origin.exists() and not overwrite:
        return
    processes.wait()
    config = suited(config, read_meta(model), examples.count_pairs(run))
    found = examples.read(run, config)
    with tempfile.TemporaryDirectory() as own, vocabulary(model) as words:
        if run.adapter.is_dir():
            shutil.copytree(run.adapter, own, dirs_exist_ok=True)
        train(found, model, config, Path(own), _codec(words, task), Silent())


def _codec(words: LlamaModel, task: Task) -> Codec:
    encoder = Encoder(words, task.variables)
    return Codec(lambda prompt: encoder.prompt(prompt).ids, encoder.completion)


def _origin(run: RunDir, model: Path, config: TrainConfig) -> dict[str, Any]:
    """Everything that determines an adapter: settings, examples, base and what it started from."""
    base_sha256 = sha256_file(model)
    if config.init and Path(config.init).resolve() == run.adapter.resolve():
        message = f"--set init={config.init}: that is where the new adapter is to be written"
        raise LmsiError(message, hint="copy it elsewhere first, or train in another run folder")
    adapter.check_start(config, base_sha256)
    start = {"init_sha256": adapter.fingerprint(config)} if config.init else {}
    return {
        **msgspec.to_builtins(config),
        **start,
        **examples.origin(run, config),
        "base_file": model.name,
        "base_sha256": base_sha256,
    }


class _Origin(msgspec.Struct):
    result: TrainResult


def finished(run: RunDir) -> TrainResult:
    """The training result of a finished adapter; LmsiError: its file is damaged."""
    again = f"`lmsi train {run.typed} --overwrite` makes the adapter again"
    return read_struct(run.adapter_origin, _Origin, again).result


def _unseen(
    run: RunDir, model: Path, task: Task, trained: Sequence[Example], codec: Codec
) -> list[list[int]]:
    """Prompts that the adapter is not trained on: questions of the run without an example.

    If there are fewer than 8, the exemplars' questions make up the number; if there are none of
    either, trained questions have to serve. Prompts beyond the model's context are left out, since
    a student's may be shorter than its teacher's. If none fits, the result is the beginning of the
    shortest one.
    """
    seen = {e.question_id for e in trained}
    asked = list(read_records(run.questions, Question))
    lost = [q.question for q in asked if q.id not in seen][:HELD_OUT]
    texts = [*lost, *(e.question for e in task.exemplars)] or [q.question for q in asked]
    prompts = [codec.prompt(render(task, text, "cot-zero")) for text in texts[:HELD_OUT]]
    context = int(read_meta(model).values.get("context_length", 0)) or sys.maxsize
    return [p for p in prompts if len(p) <= context] or [min(prompts, key=len)[:context]]
