"""The model card of an export: README.md with the header that model hubs read.

All that comes out of files (a model's name, a licence, a data set's name) is a stranger's text: in
the header it is a quoted string, in the text it is escaped. Computes nothing. The header:

    ---
    base_model: "tinymath-f16.gguf"
    tags: ["lora", "self-improvement", "lmsi"]
    ---
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import read_object
from lmsi_cli.records import Record
from lmsi_cli.report.results import BASE, Evaluation, Pair
from lmsi_cli.run_folder import RESULT, SCALE, RunDir, sha256_file, teacher_of

LONGEST = 200  # characters of a stranger's text
KNOWN_LICENCE = re.compile(r"[a-z][a-z0-9.-]{1,39}")  # as hubs spell them: apache-2.0
_MARKS = re.compile(r"([\\`*_{}\[\]()<>#|!~&^$@]|(?<=www)\.|:(?=//))")


WHAT = {
    "adapter": "A LoRA adapter, for PEFT and as GGUF for llama.cpp, to be used over its base.",
    "gguf": "A GGUF model: the base with the adapter merged into it.",
    "hf": "A model for transformers: the base's weights with the adapter merged into them.",
    "ollama": "A model for Ollama, with the Modelfile that makes it.",
}


LIBRARY = {"adapter": "peft", "gguf": "gguf", "hf": "transformers", "ollama": "gguf"}


class Measured(Record, frozen=True, kw_only=True):
    """One figure of an evaluation, in percent with its interval, as text."""

    data: str
    n: int
    name: str
    base: str
    adapted: str
    change: str
    p: str


class Card(Record, frozen=True, kw_only=True):
    """What a card says; all but ``kind`` and ``use`` may be strangers' text until escaped.

    ``data``, ``settings`` and ``measured`` come out of the run folder (``card_of``).
    """

    title: str
    kind: str
    use: str
    base: str
    base_sha256: str
    base_name: str
    licence: str
    library: str
    scale: float
    checks: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    data: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    measured: tuple[Measured, ...] = ()


def card_of(run: RunDir, card: Card) -> Card:
    """Fill in what the run folder knows: its data, the training's settings, what was measured."""
    origin = read_object(run.adapter_origin)
    summary = read_object(run.vote_summary) if run.vote_summary.exists() else {}
    told = _section(origin, "result", "summary")
    proof = _section(origin, "result", "proof")
    sweep = _section(origin, SCALE)
    names = ("questions", "paths", "kept_questions", "kept_paths")
    data = [(name.replace("_", " "), str(summary[name])) for name in names if name in summary]
    if taught := teacher_of(run):
        data += [("teacher", Path(str(taught["model"])).name)]
        data += [("SHA-256 of the teacher", str(taught["model_sha256"]))]
    data += [(n, str(told[n])) for n in ("examples", "steps", "final_loss") if n in told]
    why = f" ({sweep['why']})" if sweep.get("chosen") == card.scale and "why" in sweep else ""
    data.append(("adapter scale", f"{card.scale:g}{why}"))
    known = TrainConfig.__struct_fields__
    checks = [
        (f"after training: {name.replace('_', ' ')}", f"{proof[name]:.2%}")
        for name in ("moved", "base_gap", "adapted_gap")
        if isinstance(proof.get(name), float)
    ]
    return msgspec.structs.replace(
        card,
        data=tuple(data),
        settings=tuple((n, str(origin[n])) for n in known if n in origin),
        measured=tuple(_measurements(run, card.scale)),
        checks=(*checks, *card.checks),
    )


def whose(run: RunDir) -> str:
    """Whose votes the adapter of a run learned from, in the genitive."""
    told = teacher_of(run)
    return f"{Path(str(told['model'])).name}'s" if told else "its own"


def _section(told: dict[str, Any], *names: str) -> dict[str, Any]:
    """A part of a JSON object; empty if it is not there or no object."""
    found: Any = told
    for name in names:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _measurements(run: RunDir, scale: float) -> Iterator[Measured]:
    """What was measured with this very adapter at this scale; other files are left out."""
    own = sha256_file(run.adapter_gguf)
    whole = RunDir(run.root.parent)  # rounds are measured in the folder of the run
    folders = [run.eval_dir, *([whole.eval_dir] if whole.rounds.exists() else [])]
    for file in sorted(f for folder in folders for f in folder.glob(f"*{RESULT}")):
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Evaluation)
        except (msgspec.DecodeError, OSError):
            continue
        names = {
            v.name for v in found.mains if v.adapter_sha256 == own and v.scale == scale
        }  # fmt: skip
        usual = (None, found.mains[0].temperature)  # a sweep's other temperatures are no headline
        for pair in found.pairs:
            if pair.after in names and pair.before == BASE and pair.temperature in usual:
                yield _line(found, pair)


def _line(found: Evaluation, pair: Pair) -> Measured:
    shown = {
        v.name: f"{100 * f.accuracy.value:.1f} ({100 * f.accuracy.low:.0f} to "
        f"{100 * f.accuracy.high:.0f})"
        for v in found.mains
        if (f := v.figure(pair.line))
    }
    c = pair.change
    return Measured(
        data=found.data,
        n=found.n,
        name=pair.line,
        base=shown.get(pair.before, "?"),
        adapted=shown.get(pair.after, "?"),
        change=f"{100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f})",
        p=f"{c.p_value:.2g}",
    )


def plain(text: str) -> str:
    """A stranger's text as harmless Markdown on one line."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = " ".join(shown.split())
    if len(shown) > LONGEST:
        shown = shown[:LONGEST] + "..."
    return _MARKS.sub(r"\\\1", shown)


def quoted(text: str) -> str:
    """A stranger's text as a string of YAML, which JSON's is for printable characters."""
    shown = "".join(c if c.isprintable() else " " for c in text)[:LONGEST]
    return json.dumps(shown, ensure_ascii=False)


def markdown(card: Card) -> str:
    """Write the whole file."""
    parts = [_header(card), f"# {plain(card.title)}", card.kind, card.use]
    licence = plain(card.licence) if card.licence else "not stated in the base's file"
    parts += [
        "## What it is made of",
        _table(
            [
                ("base file", plain(card.base)),
                ("its name for itself", plain(card.base_name) if card.base_name else "none"),
                ("SHA-256", f"`{card.base_sha256}`"),
                ("licence of the base", licence),
                *((plain(name), plain(value)) for name, value in card.data),
            ]
        ),
    ]
    if card.settings:
        rows = [(plain(name), plain(value)) for name, value in card.settings]
        parts += ["## Settings of the training", _table(rows)]
    parts += ["## Measured", _measured(card.measured)]
    checks = [(plain(name), plain(value)) for name, value in card.checks]
    parts += ["## Checked", _table(checks)]
    if card.remarks:
        parts += ["## Remarks", "\n".join(f"- {plain(r)}" for r in card.remarks)]
    return "\n\n".join(parts) + "\n"


def _header(card: Card) -> str:
    lines = ["---", f"base_model: {quoted(card.base_name or card.base)}"]
    if KNOWN_LICENCE.fullmatch(card.licence):
        lines.append(f"license: {quoted(card.licence)}")
    lines += [f"library_name: {quoted(card.library)}"]
    lines += ['tags: ["lora", "self-improvement", "lmsi"]', "---"]
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _measured(lines: Sequence[Measured]) -> str:
    if not lines:
        return "Nothing was measured on labelled questions."
    head = [
        "Percent right with 95% intervals, over the base file with the adapter beside it.",
        "",
        "| data | n | how | before | after | change, paired | p |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {plain(m.data)} | {m.n} | {plain(m.name)} | {plain(m.base)} | {plain(m.adapted)} "
        f"| {plain(m.change)} | {plain(m.p)} |"
        for m in lines
    ]
    return "\n".join([*head, *rows])
