"""Models by name: those that come with lmsi, with their cards, and those found elsewhere.

Knows where lmsi, Ollama and LM Studio keep models, and what a card must hold; never loads a model.
A card's TOML (only the fields that the program reads; the rest is for people):

    name = "tinymath"      file = "tinymath-f16.gguf"      task = "tinymath"
    questions = "questions.jsonl"      tests = ["test.jsonl", "out_of_domain.jsonl"]
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli import hub
from lmsi_cli.atomic import cache_folder
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Progress, Silent

OLLAMA = "ollama:"
REGISTRY, OFFICIAL, LATEST = "registry.ollama.ai/", "library/", "latest"
MODEL, ADAPTER = (f"application/vnd.ollama.image.{kind}" for kind in ("model", "adapter"))
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LM_STUDIO = ("~/.lmstudio/models", "~/.cache/lm-studio/models")  # current, and former
OLLAMA_HOMES = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")  # the second: as a service


class Found(NamedTuple):
    """A model on this machine: its name for ``-m``, its file, and the program it belongs to."""

    name: str
    file: Path
    place: str


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


def at_hand() -> Iterator[Found]:
    """All models found, each under a name that needs no path; unreadable ones are skipped."""
    studio = [f for home in LM_STUDIO for f in sorted(Path(home).expanduser().glob("**/*.gguf"))]
    for place, files in (("hub cache", hub.cached_files()), ("LM Studio", studio)):
        yield from (Found(f.name, f, place) for f in files if hub.is_model(f.name) and f.is_file())
    for name, manifest in _manifests().items():
        with suppress(LmsiError):
            yield Found(OLLAMA + name, _blob(manifest, name), "Ollama")


def named(name: str) -> Path | None:
    """The model file of that name in the hub's cache or LM Studio's folders, if there is one.

    LmsiError: there are several, of different sizes.
    """
    files = [found.file for found in at_hand() if found.name == name]
    if len({file.stat().st_size for file in files}) > 1:
        hint = f"give the path of one: {', '.join(map(str, files))}"
        raise LmsiError(f"{name}: {len(files)} different files of that name", hint)
    return files[0] if files else None


def ollama_model(name: str) -> tuple[str, Path]:
    """The full name and the file of a model in Ollama's own store.

    The name is ``ollama:[[HOST/]OWNER/]NAME[:TAG]``; case does not matter. LmsiError: it is not
    there (lists those that are), or is not just one readable GGUF file.
    """
    head, slash, last = name.removeprefix(OLLAMA).rpartition("/")
    model, _, tag = last.partition(":")
    full, there = _short(f"{head}{slash}{model}:{tag or LATEST}"), _manifests()
    known = next((known for known in there if known.lower() == full.lower()), None)
    if known is None:
        listed = f"it has {', '.join(there)}; " if there else ""
        stores = ", ".join(map(str, _stores()))
        hint = f"{listed}`ollama pull {full}` brings it"
        raise LmsiError(f"{name}: not in Ollama's store ({stores})", hint)
    return OLLAMA + known, _readable(_blob(there[known], name), known)


def _stores() -> list[Path]:
    own = os.environ.get("OLLAMA_MODELS")
    return [Path(home).expanduser() for home in ([own] if own else OLLAMA_HOMES)]


def _manifests() -> dict[str, Path]:
    """Manifests by the names that Ollama shows: ``manifests/HOST/OWNER/NAME/TAG`` in a store."""
    files = [file for store in _stores() for file in sorted(store.glob("manifests/*/*/*/[!.]*"))]
    return {_short("{}/{}/{}:{}".format(*file.parts[-4:])): file for file in reversed(files)}


def _short(full: str) -> str:
    return full.removeprefix(REGISTRY).removeprefix(OFFICIAL)


def _blob(manifest: Path, name: str) -> Path:
    """The GGUF file that a manifest names."""
    try:
        layers = msgspec.json.decode(manifest.read_bytes(), type=_Manifest).layers
    except (OSError, *UNREADABLE) as e:
        raise LmsiError(f"{manifest}: not a manifest of Ollama: {e}") from None
    files = [layer.digest for layer in layers if layer.media_type == MODEL]
    if len(files) != 1 or not DIGEST.fullmatch(files[0]):
        what = "no GGUF file, but a model of Ollama's cloud or in another format"
        raise LmsiError(f"{name}: {what}", hint="`lmsi models` lists those that are")
    if any(layer.media_type == ADAPTER for layer in layers):
        raise LmsiError(f"{name}: a model with an adapter of its own", hint="give its base")
    blob = manifest.parents[4] / "blobs" / files[0].replace(":", "-")
    if not os.access(blob, os.R_OK):
        pull = f"`ollama pull {name.removeprefix(OLLAMA)}`"
        raise LmsiError(f"{blob}: cannot be read", hint=f"{pull}, if it is not there")
    return blob


def _readable(blob: Path, name: str) -> Path:
    """A link to a blob, named after its model: runs, reports and exports go by that name."""
    link = cache_folder() / "ollama" / blob.name / (re.sub(r"[^\w.-]", "-", name) + ".gguf")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(blob.absolute())
    except OSError:  # a cache that is read-only, or Windows
        return blob
    return link


LOG = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "models", PACKAGE.parent / "models")  # in a wheel, in a checkout
CARD = "card.toml"
SHOWN = 8  # other programs' models that an error lists; `lmsi models` lists all


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
    files = [file for folder in FOLDERS for file in sorted(folder.glob(f"*/{CARD}"))]
    return {_read(file).name: file for file in files}


def find_model(given: str, progress: Progress | None = None) -> Model:
    """A model by path or by name; a path wins if the file exists.

    A name is ``tinymath``, ``hf:OWNER/REPO[:QUANT]``, ``ollama:NAME[:TAG]``, or that of a file that
    the hub's cache or LM Studio has. LmsiError: it is none of these; lists the models there are.
    """
    path = Path(given)
    there = path.is_file()
    if not there and given.startswith(hub.PREFIX):
        file = hub.hub_model(given, progress or Silent())
        return Model(file, None, hub.hub_name(file))
    if not there and given.startswith(OLLAMA):
        name, file = ollama_model(given)
        return Model(file, None, name)
    own = {file.parent / card.file: card for file in cards().values() for card in [_read(file)]}
    if there:
        card = next((card for f, card in own.items() if path.resolve() == f.resolve()), None)
        return Model(path, card, hub.hub_name(path))
    for file, card in own.items():
        if card.name == given:
            return Model(file, card)
    if len(path.parts) == 1 and (known := named(given)):
        LOG.info("%s: %s", given, known)
        return Model(known, None, hub.hub_name(known))
    found = dict.fromkeys(model.name for model in at_hand())
    near = sorted(found, key=lambda name: -difflib.SequenceMatcher(None, name, given).ratio())
    listed = ", ".join([*cards(), *near[:SHOWN]])
    hint = f"there are {listed}; or give the path of a GGUF file, hf:OWNER/REPO or ollama:NAME"
    raise LmsiError(f"{given}: no such model file, and no model of that name", hint)


def find_again(name: str) -> Path | None:
    """A model's file by the ``Model.name`` that a run saved, if it is here; uses no network."""
    with suppress(LmsiError):
        return hub.cached(name) or ollama_model(name)[1]
    return None


def _read(card: Path) -> Card:
    try:
        return msgspec.toml.decode(card.read_bytes(), type=Card)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise LmsiError(f"{card}: {e}") from None
