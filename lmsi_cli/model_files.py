"""Model files that other programs have left on this machine: the hub's cache, LM Studio, Ollama.

Reads what lies there; asks no network and copies nothing. Knows where the programs keep their
files; nothing of what is in one.

    at_hand()  # [Found("qwen2.5-0.5b-instruct-q4_k_m.gguf", Path(...), "LM Studio"), ...]
    ollama_model("ollama:llama3.2:1b")  # Found("ollama:llama3.2:1b", Path(...), "Ollama")
"""

from __future__ import annotations

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
from lmsi_cli.records import UNREADABLE

OLLAMA = "ollama:"
REGISTRY, OFFICIAL, LATEST = "registry.ollama.ai/", "library/", "latest"
MODEL, ADAPTER = (f"application/vnd.ollama.image.{kind}" for kind in ("model", "adapter"))
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LM_STUDIO = ("~/.lmstudio/models", "~/.cache/lm-studio/models")  # now, and formerly
OLLAMA_HOMES = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")  # the second: as a service


class Found(NamedTuple):
    """A model of this machine: what ``-m`` takes for it, its file, and whose it is."""

    name: str
    file: Path
    place: str


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


def at_hand() -> Iterator[Found]:
    """All models found, each by a name that needs no path; unreadable ones are passed over."""
    studio = [f for home in LM_STUDIO for f in sorted(Path(home).expanduser().glob("**/*.gguf"))]
    for place, files in (("hub cache", hub.cached_files()), ("LM Studio", studio)):
        yield from (Found(f.name, f, place) for f in files if hub.is_model(f.name) and f.is_file())
    for name, manifest in _manifests().items():
        with suppress(LmsiError):
            yield Found(OLLAMA + name, _blob(manifest, name), "Ollama")


def named(name: str) -> Path | None:
    """The model file of that name in the hub's cache or LM Studio's folders, if there is one.

    Raises:
        LmsiError: There are several, which differ.
    """
    files = [found.file for found in at_hand() if found.name == name]
    if len({file.stat().st_size for file in files}) > 1:
        raise LmsiError(
            f"{name}: {len(files)} different files of that name",
            hint=f"give the path of one: {', '.join(map(str, files))}",
        )
    return files[0] if files else None


def ollama_model(name: str) -> Found:
    """A model of Ollama's own store, by the name that Ollama has for it.

    Args:
        name: ``ollama:[[HOST/]OWNER/]NAME[:TAG]``; upper and lower case are alike.

    Raises:
        LmsiError: It is not there, or is no GGUF file alone; says which ones there are.
    """
    head, slash, last = name.removeprefix(OLLAMA).rpartition("/")
    model, _, tag = last.partition(":")
    full, there = _short(f"{head}{slash}{model}:{tag or LATEST}"), _manifests()
    known = next((known for known in there if known.lower() == full.lower()), None)
    if known is None:
        listed = f"it has {', '.join(there)}; " if there else ""
        raise LmsiError(
            f"{name}: not in Ollama's store ({', '.join(map(str, _stores()))})",
            hint=f"{listed}`ollama pull {full}` brings it",
        )
    return Found(OLLAMA + known, _readable(_blob(there[known], name), known), "Ollama")


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
    """A link to a blob under its model's name, which runs, reports and exports go by."""
    link = cache_folder() / "ollama" / blob.name / (re.sub(r"[^\w.-]", "-", name) + ".gguf")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(blob.absolute())
    except OSError:  # a cache that is read-only, or Windows
        return blob
    return link
