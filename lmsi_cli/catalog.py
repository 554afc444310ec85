"""Models by name: those that come with lmsi, with their cards, and those that are found elsewhere.

Knows where the models folder lies and what a card must hold; never loads a model. A card's TOML
(only the fields that the program reads; the rest is for people):

    name = "tinymath"      file = "tinymath-f16.gguf"      task = "tinymath"
    questions = "questions.jsonl"      tests = ["test.jsonl", "out_of_domain.jsonl"]
"""

from __future__ import annotations

import difflib
import logging
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli import hub, model_files
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Silent

LOG = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "models", PACKAGE.parent / "models")  # in a wheel, in a checkout
CARD = "card.toml"
SHOWN = 8  # other programs' models in a refusal; `lmsi models` has all


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
    """A model to run: its file, its card if it is one of ours, and the name that finds it again.

    The name is ``hf:OWNER/REPO@REVISION/FILE`` or ``ollama:NAME:TAG``, and empty for other files.
    """

    path: Path
    card: Card | None
    name: str = ""


def cards() -> dict[str, Path]:
    """Card files by model name."""
    return {
        _read(file).name: file
        for folder in FOLDERS
        if folder.is_dir()
        for file in sorted(folder.glob(f"*/{CARD}"))
    }


def find_model(given: str, progress: Progress | None = None) -> Model:
    """A model by path or by name; a path wins if the file exists.

    Args:
        given: A path, ``tinymath``, ``hf:OWNER/REPO[:QUANT]``, ``ollama:NAME[:TAG]``, or the name
            of a file that the hub's cache or LM Studio has.
        progress: Is told of a download.

    Raises:
        LmsiError: It is none of these; lists what there is.
    """
    path = Path(given)
    if path.is_file():
        own = next((f for f in cards().values() if path.resolve() == _file(f).resolve()), None)
        return Model(path, _read(own) if own else None, hub.hub_name(path))
    if given.startswith(hub.PREFIX):
        file = hub.hub_model(given, progress or Silent())
        return Model(file, None, hub.hub_name(file))
    if given.startswith(model_files.OLLAMA):
        name, file, _ = model_files.ollama_model(given)
        return Model(file, None, name)
    if card := cards().get(given):
        return Model(_file(card), _read(card))
    if len(path.parts) == 1 and (known := model_files.named(given)):
        LOG.info("%s: %s", given, known)
        return Model(known, None, hub.hub_name(known))
    raise _unknown(given)


def find_again(name: str) -> Path | None:
    """A model's file by the ``Model.name`` that a run has kept, if it is here; asks no network."""
    with suppress(LmsiError):
        return hub.cached(name) or model_files.ollama_model(name).file
    return None


def _unknown(given: str) -> LmsiError:
    """Say what there is, the likest first."""
    found = dict.fromkeys(model.name for model in model_files.at_hand())
    near = sorted(found, key=lambda name: -difflib.SequenceMatcher(None, name, given).ratio())
    return LmsiError(
        f"{given}: no such model file, and no model of that name",
        hint=f"there are {', '.join([*cards(), *near[:SHOWN]])}; or give the path of a GGUF file, "
        "hf:OWNER/REPO or ollama:NAME",
    )


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
