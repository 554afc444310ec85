"""The models that come with lmsi: cards and files, found in a wheel or in a checkout.

Knows where the models folder lies and what a card must hold; never loads a model. A card's TOML
(only the fields that the program reads; the rest is for people):

    name = "tinymath"      file = "tinymath-f16.gguf"      task = "tinymath"
    questions = "questions.jsonl"      tests = ["test.jsonl", "out_of_domain.jsonl"]
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError

PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "models", PACKAGE.parent / "models")  # in a wheel, in a checkout
CARD = "card.toml"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a model card that the program uses; unknown ones are for people."""

    name: str
    file: str
    task: str
    summary: str = ""
    licence: str = ""
    questions: str = ""
    tests: tuple[str, ...] = ()


class Model(NamedTuple):
    """A model to run: its file, and its card if it is one of ours."""

    path: Path
    card: Card | None


def cards() -> dict[str, Path]:
    """Card files by model name."""
    return {
        _read(file).name: file
        for folder in FOLDERS
        if folder.is_dir()
        for file in sorted(folder.glob(f"*/{CARD}"))
    }


def find_model(name_or_path: str) -> Model:
    """A model by name or by path; a path wins if the file exists.

    Raises:
        LmsiError: It is neither; lists the names.
    """
    path = Path(name_or_path)
    if path.is_file():
        own = next((f for f in cards().values() if path.resolve() == _file(f).resolve()), None)
        return Model(path, _read(own) if own else None)
    card = cards().get(name_or_path)
    if card is None:
        raise LmsiError(
            f"{name_or_path}: no such model file, and no model of that name",
            hint=f"names: {', '.join(cards()) or 'none'}; or give the path of a GGUF file",
        )
    return Model(_file(card), _read(card))


def card_text(name: str) -> str:
    """A card as its author wrote it."""
    return cards()[name].read_text(encoding="utf-8")


def _file(card: Path) -> Path:
    return card.parent / _read(card).file


def _read(card: Path) -> Card:
    try:
        return msgspec.toml.decode(card.read_bytes(), type=Card)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise LmsiError(f"{card}: {e}") from None
