"""The texts of an export: the model card, and the Modelfile for Ollama.

The card is README.md with the header that model hubs read. All that comes from files (a model's
name, a licence, a data set's name) is untrusted text: in the header it is a quoted string, in the
body it is escaped. Computes nothing. The header of a card, and a Modelfile:

    ---                                          FROM ./model.gguf
    base_model: HuggingFaceTB/SmolLM2-135M       PARAMETER temperature 0.7
    library_name: peft                           TEMPLATE ...
    ---
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lmsi_cli.config import SamplingConfig, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Record
from lmsi_cli.reporting.digest import Heading, Part, Sheet, markdown
from lmsi_cli.reporting.evaluation import accuracy_sheet
from lmsi_cli.reporting.results import BASE, Evaluation, read_evaluation
from lmsi_cli.run_folder import RESULT, RunDir, sha256_file, teacher_of

LONGEST = 200  # characters shown of untrusted text
KNOWN_LICENCE = re.compile(r"[a-z][a-z0-9.-]{1,39}")  # as hubs spell them: apache-2.0
WHAT = {
    "adapter": "A LoRA adapter, for PEFT and as GGUF for llama.cpp, to be used over its base.",
    "gguf": "A GGUF model: the base with the adapter merged into it.",
    "hf": "A model for transformers: the base's weights with the adapter merged into them.",
    "ollama": "A model for Ollama, with the Modelfile that makes it.",
}
LIBRARY = {"adapter": "peft", "gguf": "gguf", "hf": "transformers", "ollama": "gguf"}
QUOTES = '"""'
PROMPT = "{{ .Prompt }}"  # where Ollama's templates put the user's words

Rows = tuple[tuple[str, str], ...]


class Card(Record, frozen=True, kw_only=True):
    """What a card says; all but ``to`` and ``use`` may be untrusted text until escaped.

    ``to`` is the form of the export. ``data``, ``settings`` and ``measured`` come from the run
    folder (``card_of``).
    """

    to: str
    title: str
    use: str
    base: str
    base_sha256: str
    base_name: str
    repository: str = ""
    licence: str
    checks: Rows
    remarks: tuple[str, ...]
    data: Rows = ()
    settings: Rows = ()
    measured: tuple[Evaluation, ...] = ()


def card_of(run: RunDir, card: Card) -> Card:
    """Fill in what a finished run's folder holds: data, settings, measurements, checks."""
    origin = read_object(run.adapter_origin)
    training, proof = origin["result"]["summary"], origin["result"]["proof"]
    voted = read_object(run.vote_summary) if run.vote_summary.exists() else {}
    counts = ("questions", "paths", "kept_questions", "kept_paths")
    data = [(name.replace("_", " "), str(voted[name])) for name in counts if name in voted]
    if taught := teacher_of(run):
        data.append(("teacher", Path(str(taught["model"])).name))
        data.append(("SHA-256 of the teacher", str(taught["model_sha256"])))
    data += [(name, str(training[name])) for name in ("examples", "steps", "final_loss")]
    checks = [
        (f"after training: {name.replace('_', ' ')}", f"{proof[name]:.2%}")
        for name in ("moved", "base_gap", "adapted_gap")
    ]
    return msgspec.structs.replace(
        card,
        data=tuple(data),
        settings=tuple((n, str(origin[n])) for n in TrainConfig.__struct_fields__ if n in origin),
        measured=tuple(_measured(run)),
        checks=(*checks, *card.checks),
    )


def whose(run: RunDir) -> str:
    """Whose votes the adapter of a run learned from, in the genitive."""
    teacher = teacher_of(run)
    return f"{Path(str(teacher['model'])).name}'s" if teacher else "its own"


def _measured(run: RunDir) -> Iterator[Evaluation]:
    """The evaluations of this very adapter, with the base; other models are left out."""
    own = sha256_file(run.adapter_gguf)
    whole = RunDir(run.root.parent)  # rounds are measured in the folder of the run
    folders = [run.eval_dir, *([whole.eval_dir] if whole.rounds.exists() else [])]
    for file in sorted(f for folder in folders for f in folder.glob(f"*{RESULT}")):
        try:
            found = read_evaluation(file)
        except LmsiError:  # of another version; the export works without it
            continue
        adapted = [v for v in found.mains if v.adapter_sha256 == own and v.scale == 1]
        base = [v for v in found.mains if v.model == BASE]
        if base and adapted:
            yield msgspec.structs.replace(found, variants=(*base, *adapted[:1]))


def card_text(card: Card) -> str:
    """The card's whole text."""
    base = (
        ("base file", card.base),
        ("its name for itself", card.base_name or "none"),
        ("SHA-256", card.base_sha256),
        ("licence of the base", card.licence or "not stated in the base's file"),
    )
    parts: list[Part] = [Heading("What it is made of", 2), _sheet((*base, *card.data))]
    if card.settings:
        parts += [Heading("Settings of the training", 2), _sheet(card.settings)]
    parts += [Heading("Measured", 2), *map(accuracy_sheet, card.measured)]
    if not card.measured:
        parts.append("Nothing was measured on labelled questions.")
    parts += [Heading("Checked", 2), _sheet(card.checks)]
    if card.remarks:
        parts += [Heading("Remarks", 2), *map(_short, card.remarks)]
    # ``use`` is our own Markdown, so it is not escaped
    top = markdown(Heading(_short(card.title), 1), WHAT[card.to])
    return "\n".join([header(card), top, card.use, "", markdown(*parts)])


def header(card: Card) -> str:
    """The part of a card that hubs read, between lines of dashes."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=card.repository or None,
        license=card.licence if KNOWN_LICENCE.fullmatch(card.licence) else None,
        library_name=LIBRARY[card.to],
        pipeline_tag="text-generation",
        tags=["lora", "self-improvement", "lmsi"],
        model_name=_short(card.title),
    )
    return f"---\n{data.to_yaml()}\n---"


def _sheet(rows: Rows) -> Sheet:
    return Sheet("", rows=[(_short(a), _short(b)) for a, b in rows])


def _short(text: str) -> str:
    """Untrusted text on one line, cut if it is very long."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."


def modelfile(source: str, task: Task, settings: SamplingConfig) -> str:
    """Write the Modelfile that `ollama create` reads.

    It follows the grammar of Ollama's own parser (``parser/parser.go``): a value runs to the end of
    its line, or stands between triple quotes, and there are no escapes. A plain prompt becomes a
    template with its exemplars, since it is known exactly. For a conversation Ollama builds the
    prompt from the file's chat template, so only the system message is given. LmsiError: that
    cannot be written in this grammar.

    Args:
        source: The model's file as the Modelfile is to name it: letters, digits and ``./-_``.
        task: That of the run.
        settings: Those with which the run's paths were drawn.
    """
    # Ollama's defaults differ, so all are given; it penalises repetition, lmsi does not
    lines = [
        f"FROM {source}",
        f"PARAMETER temperature {settings.temperature:g}",
        f"PARAMETER top_k {settings.top_k}",
        f"PARAMETER top_p {settings.top_p:g}",
        f"PARAMETER min_p {settings.min_p:g}",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_predict {settings.max_tokens}",
    ]
    if task.chat is None:
        lines.append(f"PARAMETER stop {_quoted(chr(10) + 'Q:')}")
        lines.append(f"TEMPLATE {_quoted(template(task))}")
    elif task.chat.system.strip():
        lines.append(f"SYSTEM {_quoted(task.chat.system.strip())}")
    return "\n".join(lines) + "\n"


def template(task: Task) -> str:
    """The run's plain prompt with a placeholder; LmsiError: its own words look like one."""
    text = render(task, PROMPT, task.format)
    if not isinstance(text, str) or text.count("{{") != 1:
        raise LmsiError("the task's prompt cannot be written as an Ollama template")
    return text


def _quoted(text: str) -> str:
    if QUOTES in text or text.endswith('"'):
        raise LmsiError(
            "a text with three quotes, or a quote at its end, has no place in a Modelfile"
        )
    return f"{QUOTES}{text}{QUOTES}"
