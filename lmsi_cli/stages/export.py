"""After all other stages: an adapter in a form that other programs read.

Every form is a folder with a model card. It is loaded and checked before it is called done, and
moves to its place in one rename. Only the order of work is here; ``training/`` and ``engine/``
merge, quantise and compare.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lmsi_cli.atomic import replacing_folder, write_atomic
from lmsi_cli.config import ORIGINAL, ExportConfig
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import check_kind, kind_name, quantise
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import printable
from lmsi_cli.jsonl import read_object, read_records, write_struct
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Progress, Question, Record
from lmsi_cli.reporting.export_texts import Card, card_of, card_text, modelfile, whose
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, RunDir, sha256_file
from lmsi_cli.splits import stem_of
from lmsi_cli.stages.asking import sample_config
from lmsi_cli.stages.train import finished
from lmsi_cli.training import merge as merging
from lmsi_cli.training.adapter import CONFIG, WEIGHTS, name_base, with_adapter
from lmsi_cli.training.devices import check_packages
from lmsi_cli.training.header import read_meta, repository
from lmsi_cli.training.verify import agree, gap, torch_logits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CARD, MODELFILE = "README.md", "Modelfile"
PROMPTS = 8  # whose logits the checks compare
# Types fine enough to hold what an adapter adds. On tinymath a coarser base lost most of that when
# the sum was rounded to its own type again: docs/log.md.
FINE = frozenset({"F32", "F16", "BF16", "Q8_0"})
WIDEST = "Q8_0"
EXACT = frozenset({"F32", "BF16"})
TYPE_IN_NAME = re.compile(r"[-._](?:I?Q\d\w*|B?F16|F32)$", re.IGNORECASE)


class Export(Record, frozen=True, kw_only=True):
    """What was written; ``files`` in bytes, ``checks`` as relative distances of logits."""

    to: str
    folder: str
    files: dict[str, int]
    type: str
    checks: dict[str, float]
    remarks: tuple[str, ...] = ()


def export_run(  # noqa: PLR0913 - a stage's own, and where to
    run: RunDir,
    model: Path,
    task: Task,
    config: ExportConfig,
    progress: Progress,
    out: Path | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a run's adapter in another form; the caller holds the folder (``locked``).

    ``out`` is the folder to write, by default one in the run folder, named after the form;
    ``overwrite`` replaces an earlier export.

    LmsiError: there is no finished adapter, it is for another base, the place is taken, or the
    written form fails its check.
    """
    if not run.adapter_origin.exists() or not run.adapter_gguf.exists():
        raise LmsiError(f"{run.adapter}: no finished adapter", hint=f"run `lmsi train {run.typed}`")
    finished(run)  # raises if damaged: the card needs it
    exporter = _Exporter(run, model, task, config, progress)
    if config.to not in ("gguf", "ollama"):  # llama.cpp alone checks these
        check_packages(f"export --to {config.to}")
    base_sha256 = sha256_file(model)
    check_base(run.adapter_gguf, base_sha256)
    place = out or run.root / "export" / "-".join(x for x in (config.to, exporter.kind) if x)
    check_place(place, overwrite)
    with replacing_folder(place) as folder:
        checks = exporter.write(folder)
        write_atomic(folder / CARD, card_text(exporter.card(checks, base_sha256)))
        note = {  # the card for programs; it tells other stages the base
            "export": config.to,
            "base_file": model.name,
            "base_sha256": base_sha256,
            "adapter_sha256": sha256_file(run.adapter_gguf),
            "checks": checks,
        }
        write_struct(folder / ORIGIN, note, sort=True)
        files = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    return Export(
        to=config.to,
        folder=str(place),
        files=files,
        type=exporter.kind,
        checks=checks,
        remarks=tuple(exporter.remarks),
    )


def check_place(place: Path, overwrite: bool) -> None:
    """Refuse to replace a folder without ``overwrite``, or one that is no export.

    A trained adapter's folder has an ``lmsi.json``, too.
    """
    note = place / ORIGIN
    if place.exists() and not (note.is_file() and "export" in read_object(note)):
        raise LmsiError(f"{place}: is there already, and no export", "choose another --out")
    if place.exists() and not overwrite:
        hint = "replace it with --overwrite, or choose another --out"
        raise LmsiError(f"{place}: is there already", hint)


class _Exporter:
    """A run, its base and the folder to write; one method per form, which returns its checks.

    ``kind`` is the type of the merged weights, empty for the adapter alone. ``base_name`` is the
    base's repository, as given or as its file states it. ``use`` says how to use the form.
    """

    def __init__(
        self, run: RunDir, model: Path, task: Task, config: ExportConfig, progress: Progress
    ) -> None:
        self.run, self.model, self.task, self.config = run, model, task, config
        self.facts, self.progress = read_meta(model), progress
        number = self.facts.general.get("file_type")
        self.own_kind = None if number is None else kind_name(number)
        self.kind = "" if config.to == "adapter" else self._merged_kind()
        self.base_name = config.base_name or repository(self.facts.general)
        stem = re.sub(r"[^\w.-]", "_", TYPE_IN_NAME.sub("", stem_of(model)))
        self.merged_name = f"{stem}-lmsi-{self.kind}.gguf"
        self.remarks, self.use = list[str](), ""

    def _merged_kind(self) -> str:
        """The type of the merged weights; LmsiError: the form cannot hold it."""
        to_hf, given = self.config.to == "hf", self.config.type.upper()
        fit, else_ = (merging.DTYPES, "F16") if to_hf else (FINE, WIDEST)
        if not given:
            return self.own_kind if self.own_kind and self.own_kind in fit else else_
        if to_hf and given not in fit:
            raise LmsiError(f"--type {given}: a Hugging Face folder holds F16, BF16 or F32")
        check_kind(given)
        return given

    def write(self, folder: Path) -> dict[str, float]:
        """Write the form that ``config.to`` names."""
        self.folder = folder
        texts = [q.question for q in islice(read_records(self.run.questions, Question), PROMPTS)]
        with vocabulary(self.model) as words:
            encoder = Encoder(words, self.task.variables)
            self.prompts = [encoder.prompt(render(self.task, t, "cot-zero")).ids for t in texts]
        checks: dict[str, float] = getattr(self, self.config.to)()
        return checks

    def _reference(self) -> None:
        """Compute logits in llama.cpp, without and with the adapter, to check a form against."""
        with LlamaEngine(self.model, ORIGINAL) as engine:
            self.base = engine.last_logits(self.prompts)
            engine.use_adapter(str(self.run.adapter_gguf))
            self.wanted = engine.last_logits(self.prompts)
        self.moved = gap(self.wanted, self.base)

    def adapter(self) -> dict[str, float]:
        """Write the adapter alone, checked in PEFT and in llama.cpp."""
        # read in place, so that an error names that file and not a copy that is deleted
        adapter = with_adapter(self.model, self.run.adapter)
        for file in (self.run.adapter / CONFIG, self.run.adapter / WEIGHTS, self.run.adapter_gguf):
            shutil.copyfile(file, self.folder / file.name)
        name_base(self.folder, self.base_name or self.model.name)
        self.progress.say("checking: PEFT against llama.cpp")
        self._reference()
        peft = torch_logits(adapter, "fp32")
        apart = gap(self.wanted, peft(self.prompts, True))
        noise = gap(self.base, peft(self.prompts, False))
        name = shlex.quote(printable(self.model.name))
        self.use = (
            f"llama.cpp: `llama-cli -m {name} --lora {self.run.adapter_gguf.name}`; "
            "PEFT: `PeftModel.from_pretrained(base, folder)`."
        )
        return agree("PEFT's model", "PEFT from llama.cpp", self.moved, apart, noise)

    def ollama(self) -> dict[str, float]:
        """Write the merged file, and a Modelfile that asks as the run did."""
        checks = self.gguf()
        text = modelfile(f"./{self.merged_name}", self.task, sample_config(self.run))
        write_atomic(self.folder / MODELFILE, text)
        self.remarks += [
            "The Modelfile was written for the grammar of Ollama's parser; no Ollama has run it.",
            "The template is the run's own prompt."
            if self.task.chat is None
            else "There is no TEMPLATE: Ollama makes one of the chat template in the file.",
        ]
        for v in self.task.variables:
            self.remarks.append(f"A Modelfile has no place for the variable {v}.")
        create = f"`ollama create NAME -f {MODELFILE}` in this folder"
        self.use = f"Ollama: {create}, then `ollama run NAME`."
        return checks

    def hf(self) -> dict[str, float]:
        """Write a folder for transformers, with the tokenizer if it can be written."""
        self.progress.say("merging in PyTorch")
        merging.save_merged(self.model, self.run.adapter, self.folder, self.kind)
        texts = [q.question for q in read_records(self.run.questions, Question)][:200]
        with vocabulary(self.model) as words:
            written, note = merging.save_tokenizer(self.model, self.folder, texts, words.encode)
        self.progress.say("checking: the folder against llama.cpp")
        self._reference()
        made = torch_logits(merging.load_merged(self.folder), "fp32")(self.prompts, True)
        noise = finished(self.run).proof.base_gap  # of the base, from the proof after training
        apart = gap(made, self.wanted)
        remark = f"Tokenizer: {note}."
        if not written:
            remark = f"No tokenizer is in this folder: {note}. Take the original model's."
        self.remarks.append(remark)
        self.use = "transformers: `AutoModelForCausalLM.from_pretrained(folder)`."
        return agree("the merged folder", "PyTorch from llama.cpp", self.moved, apart, noise)

    def gguf(self) -> dict[str, float]:
        """Write one GGUF file with the adapter merged into it.

        The effects of merging and of rounding are measured for the base alone as well. The base
        goes first, because the file written last is the one that stays.
        """
        self._reference()
        noise, rounding = self._merge(0.0, self.base, "merging and quantising the base alone")
        apart, rounded = self._merge(1.0, self.wanted, f"merging and quantising to {self.kind}")
        agree("the merged model", "merged", self.moved, apart, noise)
        own = self.own_kind
        if not self.config.type and own not in FINE:
            self.remarks.append(
                f"The base's own type{f' {own}' if own else ''} would round much of the adapter "
                f"away; {self.kind} keeps it, in a larger file."
            )
        if not rounded <= self.moved / 2:
            self.remarks.append(
                f"Rounding to {self.kind} moves the logits by {rounded:.1%}, the adapter by "
                f"{self.moved:.1%}: much of what was learnt may be lost. A finer type, or the base "
                "with the adapter beside it, keeps it."
            )
        self.use = f"llama.cpp: `llama-cli -m {self.merged_name}`. It needs no adapter beside it."
        return {
            "the adapter moves the logits by": self.moved,
            "apart: merged, before rounding": apart,
            "apart: the base alone, before rounding": noise,
            f"apart: merged, as {self.kind}": rounded,
            f"apart: the base alone, as {self.kind}": rounding,
        }

    def _merge(self, scale: float, wanted: NDArray[np.float32], words: str) -> tuple[float, float]:
        """Merge at a scale; returns the distances from ``wanted`` before and after quantising."""

        def apart(model: Path) -> float:
            with LlamaEngine(model, ORIGINAL) as engine:
                return gap(engine.last_logits(self.prompts), wanted)

        self.progress.say(words)
        target, number = self.folder / self.merged_name, check_kind(self.kind)
        whole = target.with_suffix(".whole")
        same = number == self.facts.general.get("file_type")
        own = merging.tensor_types(self.model) if same else None
        lora = merging.read_lora(self.run.adapter_gguf)
        merging.merge(self.model, lora, whole, scale, self.kind in EXACT)
        before = apart(whole)
        quantise(whole, target, number, own)
        whole.unlink()
        return before, apart(target)

    def card(self, checks: Mapping[str, float], base_sha256: str) -> Card:
        """The model card of the folder."""
        name = self.facts.general.get("name", "")
        card = Card(
            to=self.config.to,
            title=f"{name or self.model.stem}, taught by {whose(self.run)} votes",
            use=self.use,
            base=self.model.name,
            base_sha256=base_sha256,
            base_name=name,
            repository=self.base_name,
            licence=self.facts.general.get("license", ""),
            checks=tuple((name, f"{x:.2%}") for name, x in checks.items()),
            remarks=tuple(self.remarks),
        )
        return card_of(self.run, card)
