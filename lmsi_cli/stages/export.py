"""After all other stages: an adapter in the form that somebody else's program takes.

Every form is a folder with a model card, is loaded again before it is called done, and comes to its
place in one rename. Knows the order of work; how weights are merged, quantised and told apart is in
``training/`` and ``engine/``. A result:

    Export(to="gguf", folder="runs/a/export/gguf-Q8_0", files={"m-Q8_0.gguf": 27444416, ...},
           scale=1.0, checks={"the adapter moves the logits by": 0.12, ...})
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lmsi_cli.atomic import check_place, check_room, replacing_folder, write_atomic
from lmsi_cli.config import ORIGINAL, ExportConfig, SampleConfig
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.engine.quantise import check_kind, kind_name, quantise
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Progress, Question, Record
from lmsi_cli.report.export_texts import LIBRARY, WHAT, Card, card_of, markdown, modelfile, whose
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, RunDir, chosen_scale, sha256_file
from lmsi_cli.splits import stem_of
from lmsi_cli.training import hf_export as hf
from lmsi_cli.training.adapter import with_adapter
from lmsi_cli.training.merge import Facts, describe, merge, read_lora, rescale, tensor_types
from lmsi_cli.training.verify import (
    SAME,
    agree,
    distances,
    gap,
    lost,
    torch_logits,
    widened,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CARD, MODELFILE, ADAPTER = "README.md", "Modelfile", "adapter.gguf"
PROMPTS = 8  # that the checks compare logits on
# Types fine enough to hold what an adapter adds. On tinymath a coarser base lost most of it when
# the sum was rounded to its own grid once more: docs/log.md.
FINE = frozenset({"F32", "F16", "BF16", "Q8_0"})
WIDEST = "Q8_0"
EXACT = frozenset({"F32", "BF16"})
TYPE_IN_NAME = re.compile(r"[-._](?:I?Q\d\w*|B?F16|F32)$", re.IGNORECASE)


class Export(Record, frozen=True, kw_only=True):
    """What was written; ``files`` in bytes, ``checks`` relative distances of logits."""

    to: str
    folder: str
    files: dict[str, int]
    type: str
    scale: float
    checks: dict[str, float]
    remarks: tuple[str, ...] = ()


class Job(NamedTuple):
    """What every form needs; ``adapter`` is a folder with the adapter at the scale it acts at."""

    run: RunDir
    model: Path
    task: Task
    config: ExportConfig
    facts: Facts
    scale: float
    adapter: Path
    prompts: list[list[int]]
    progress: Progress


class Made(NamedTuple):
    """What a form came to: its checks, its remarks, and how to use it."""

    checks: dict[str, float]
    remarks: list[str]
    use: str
    type: str = ""


def export_run(  # noqa: PLR0913 - a stage's own, and where to
    run: RunDir,
    model: Path,
    task: Task,
    config: ExportConfig,
    progress: Progress,
    out: Path | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a run's adapter in another form.

    Args:
        run: Held by the caller (``locked``); with a finished adapter.
        model: Its base.
        task: As the run was sampled.
        config: Which form.
        progress: Is told of the steps.
        out: The folder to write; None: in the run folder, by the form's name.
        overwrite: Replace an earlier export.

    Raises:
        LmsiError: There is no finished adapter, it is for another base, something is in the way,
            the disk is too small, or what was written does not compute what it should.
    """
    if not run.adapter_origin.exists() or not run.adapter_gguf.exists():
        raise LmsiError(f"{run.adapter}: no finished adapter", hint=f"run `lmsi train {run.root}`")
    facts = describe(model)
    kind = "" if config.to == "adapter" else _kind(config, facts)
    base_sha256 = sha256_file(model)
    check_base(run.adapter_gguf, base_sha256)
    place = out or run.root / "export" / "-".join(x for x in (config.to, kind) if x)
    check_place(place, ORIGIN, overwrite)
    with replacing_folder(place) as fresh:
        check_room(fresh, _need(config, facts, kind))
        scale = config.scale or chosen_scale(run.adapter_gguf)
        scaled = fresh if config.to == "adapter" else fresh / "scaled"
        scaled.mkdir(exist_ok=True)
        rescale(run.adapter_gguf, scaled / ADAPTER, scale)
        hf.save_scaled(run.adapter, scaled, scale)
        prompts = _prompts(run, model, task)
        job = Job(run, model, task, config, facts, scale, scaled, prompts, progress)
        made = FORMS[config.to](job, fresh, kind)
        if scaled != fresh:
            shutil.rmtree(scaled)
        write_atomic(fresh / CARD, markdown(_card(job, made, base_sha256)))
        _note(job, made, base_sha256, fresh)
        files = {p.name: p.stat().st_size for p in sorted(fresh.iterdir())}
    return Export(
        to=config.to,
        folder=str(place),
        files=files,
        type=kind,
        scale=scale,
        checks=made.checks,
        remarks=tuple(made.remarks),
    )


def _card(job: Job, made: Made, base_sha256: str) -> Card:
    facts = job.facts
    return card_of(
        job.run,
        Card(
            title=f"{facts.name or job.model.stem}, taught by {whose(job.run)} votes",
            kind=WHAT[job.config.to],
            use=made.use,
            base=job.model.name,
            base_sha256=base_sha256,
            base_name=facts.name,
            licence=facts.licence,
            library=LIBRARY[job.config.to],
            scale=job.scale,
            checks=tuple((name, f"{x:.2%}") for name, x in made.checks.items()),
            remarks=tuple(made.remarks),
        ),
    )


def _note(job: Job, made: Made, base_sha256: str, folder: Path) -> None:
    """Write for programs what the card says for people; other stages then know the base."""
    note = {
        "export": job.config.to,
        "base_file": job.model.name,
        "base_sha256": base_sha256,
        "adapter_sha256": sha256_file(job.run.adapter_gguf),
        "adapter_scale": job.scale,
        "checks": made.checks,
    }
    write_atomic(folder / ORIGIN, msgspec.json.format(msgspec.json.encode(note, order="sorted")))


def _kind(config: ExportConfig, facts: Facts) -> str:
    """The type of the merged weights; not asked for: the base's own, if that is fine enough."""
    own = kind_name(facts.file_type) if facts.file_type is not None else None
    if config.to == "hf":
        kind = config.type.upper() or (own if own in hf.DTYPES else "F16")
        if kind not in hf.DTYPES:
            raise LmsiError(f"--type {config.type}: a Hugging Face folder holds F16, BF16 or F32")
        return str(kind)
    if config.to == "ollama" and not config.merge:
        return ""
    if config.type:
        check_kind(config.type)
        return config.type.upper()
    return own if own in FINE else WIDEST


def _need(config: ExportConfig, facts: Facts, kind: str) -> int:
    """Bytes of the result and of what is there on the way."""
    floats = facts.parameters * (4 if kind in EXACT else 2)
    spare = 64 << 20
    if config.to == "hf":
        return spare + floats
    if not kind:
        return spare
    return spare + floats + (floats if kind in FINE else facts.bytes)


def _prompts(run: RunDir, model: Path, task: Task) -> list[list[int]]:
    """Token ids of a few questions of the run, as they are asked in it."""
    texts = [q.question for q in islice(read_records(run.questions, Question), PROMPTS)]
    with vocabulary(model) as words:
        encoder = Encoder(words, task.variables)
        return [encoder.prompt(render(task, text, "cot-zero")).ids for text in texts]


def _logits(job: Job, model: Path, adapter: Path | None = None) -> NDArray[np.float32]:
    with LlamaEngine(model, ORIGINAL) as engine:
        engine.use_adapter(None if adapter is None else str(adapter))
        return engine.last_logits(job.prompts)


def _both(job: Job) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The base without and with the adapter, in llama.cpp: what every form is held against."""
    with LlamaEngine(job.model, ORIGINAL) as engine:
        base = engine.last_logits(job.prompts)
        engine.use_adapter(str(job.adapter / ADAPTER))
        return base, engine.last_logits(job.prompts)


def _adapter(job: Job, out: Path, kind: str) -> Made:
    job.progress.say("checking: PEFT against llama.cpp")
    base, wanted = _both(job)
    peft = torch_logits(with_adapter(job.model, out, "fp32"), "fp32")
    apart, moved = gap(wanted, peft(job.prompts, True)), gap(wanted, base)
    noise = gap(base, peft(job.prompts, False))
    agree("PEFT's model", apart, moved, noise)
    use = (
        f"llama.cpp: `llama-cli -m {job.model.name} --lora {ADAPTER}`; PEFT: "
        "`PeftModel.from_pretrained(base, folder)`. The scale is folded in: use both at 1."
    )
    return Made(distances(moved, apart, noise, "PEFT from llama.cpp"), [], use)


def _gguf(job: Job, out: Path, kind: str) -> Made:
    name = f"{_stem(job.model)}-lmsi-{kind}.gguf"
    made = _merged(job, out / name, kind)
    use = f"llama.cpp: `llama-cli -m {name}`. It needs no adapter beside it."
    return made._replace(use=use, type=kind)


def _merged(job: Job, target: Path, kind: str) -> Made:
    """Merge, quantise, and measure what each of the two did, beside the same to the base alone."""
    base, wanted = _both(job)
    lora, number = read_lora(job.adapter / ADAPTER), check_kind(kind)
    own = tensor_types(job.model) if number == job.facts.file_type else None
    whole, found = target.with_suffix(".whole"), list[float]()
    # the base alone first: the file that stays is then the last one written
    for scale, held in ((0.0, base), (1.0, wanted)):
        job.progress.say(
            f"merging and quantising to {kind}" + ("" if scale else ": the base alone")
        )
        merge(job.model, lora, whole, scale, kind in EXACT)
        found.append(gap(_logits(job, whole), held))
        quantise(whole, target, number, own)
        whole.unlink()
        found.append(gap(_logits(job, target), held))
    noise, rounding, apart, rounded = found
    moved = gap(wanted, base)
    agree("the merged model", apart, moved, noise)
    checks = {
        "the adapter moves the logits by": moved,
        "apart: merged, before rounding": apart,
        "apart: the base alone, before rounding": noise,
        f"apart: merged, as {kind}": rounded,
        f"apart: the base alone, as {kind}": rounding,
    }
    return Made(checks, [*_widened(job, kind), *lost(kind, rounded, moved)], "")


def _widened(job: Job, kind: str) -> Iterator[str]:
    own = kind_name(job.facts.file_type) if job.facts.file_type is not None else None
    return widened(own, kind) if not job.config.type and own not in FINE else iter(())


def _hf(job: Job, out: Path, kind: str) -> Made:
    job.progress.say("merging in PyTorch")
    hf.save_merged(job.model, job.adapter, out, kind)
    texts = [q.question for q in read_records(job.run.questions, Question)][:200]
    with vocabulary(job.model) as words:
        tokenizer = hf.save_tokenizer(job.model, out, texts, words.encode)
    job.progress.say("checking: the folder against llama.cpp")
    base, wanted = _both(job)
    moved = gap(wanted, base)
    apart = gap(torch_logits(hf.load_merged(out), "fp32")(job.prompts, True), wanted)
    noise = float(_proof(job).get("base_gap", SAME / 3))
    agree("the merged folder", apart, moved, noise)
    remark = f"Tokenizer: {tokenizer.told}."
    if not tokenizer.written:
        remark = f"No tokenizer is in this folder: {tokenizer.told}. Take the original model's."
    use = "transformers: `AutoModelForCausalLM.from_pretrained(folder)`."
    return Made(distances(moved, apart, noise, "PyTorch from llama.cpp"), [remark], use, kind)


def _proof(job: Job) -> dict[str, float]:
    result = read_object(job.run.adapter_origin).get("result", {})
    return result.get("proof", {}) if isinstance(result, dict) else {}


def _ollama(job: Job, out: Path, kind: str) -> Made:
    settings = _as_sampled(job.run)
    remarks = [
        "The Modelfile was written for the grammar of Ollama's parser; no Ollama has run it.",
        "The template is the run's own prompt."
        if job.task.chat is None
        else "There is no TEMPLATE: Ollama makes one of the chat template in the file.",
    ]
    remarks += [f"A Modelfile has no place for the variable {v}." for v in job.task.variables]
    if job.config.merge:
        name = f"{_stem(job.model)}-lmsi-{kind}.gguf"
        made = _merged(job, out / name, kind)
        text = modelfile(f"./{name}", "", job.task, settings)
    else:
        base, wanted = _both(job)
        shutil.copyfile(job.adapter / ADAPTER, out / ADAPTER)
        again = gap(_logits(job, job.model, out / ADAPTER), wanted)
        made = Made({"the adapter moves the logits by": gap(wanted, base), "apart": again}, [], "")
        text = modelfile(job.model.absolute(), f"./{ADAPTER}", job.task, settings)
        remarks.append("Ollama from version 0.34.1 on refuses ADAPTER; merge for these.")
    write_atomic(out / MODELFILE, text)
    use = f"Ollama: `ollama create NAME -f {MODELFILE}` in this folder, then `ollama run NAME`."
    return made._replace(remarks=[*made.remarks, *remarks], use=use, type=kind)


def _as_sampled(run: RunDir) -> SampleConfig:
    saved = run.load_settings().get("sample", {})
    names = SampleConfig.__struct_fields__
    kept = {n: saved[n] for n in names if n in saved and n not in ("chat", "model", "task")}
    return msgspec.convert(kept, SampleConfig)


def _stem(model: Path) -> str:
    return re.sub(r"[^\w.-]", "_", TYPE_IN_NAME.sub("", stem_of(model)))


FORMS: dict[str, Callable[[Job, Path, str], Made]] = {
    "adapter": _adapter,
    "gguf": _gguf,
    "hf": _hf,
    "ollama": _ollama,
}
