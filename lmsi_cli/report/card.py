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
from collections.abc import Mapping, Sequence
from typing import Any

from lmsi_cli.records import Record

LONGEST = 200  # characters of a stranger's text
KNOWN_LICENCE = re.compile(r"[a-z][a-z0-9.-]{1,39}")  # as hubs spell them: apache-2.0
_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$^=:@])")


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
    """What a card says; texts in ``facts`` and ``files`` are strangers' until escaped."""

    title: str
    kind: str
    base: str
    base_sha256: str
    base_name: str
    licence: str
    library: str
    use: str
    data: Sequence[tuple[str, str]]
    settings: Mapping[str, Any]
    checks: Sequence[tuple[str, str]]
    measured: Sequence[Measured]
    remarks: Sequence[str]


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
        rows = [(plain(k), plain(str(v))) for k, v in card.settings.items()]
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
