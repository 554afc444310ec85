"""Models of the Hugging Face hub by name: chosen, downloaded, kept in the hub's own cache.

Uses huggingface_hub, so its cache, token, endpoint and offline switch apply (``HF_HOME``,
``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``); only ``hub_model`` ever uses the network. Knows
nothing of what is in a file.

    hub_model("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF", progress)
    -> Path("~/.cache/huggingface/hub/models--Qwen--Qwen2.5-0.5B-Instruct-GGUF/snapshots/"
            "9217f5db79a29953eb74d5343926648285ec7e67/qwen2.5-0.5b-instruct-q4_k_m.gguf")
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lmsi_cli.atomic import check_room
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress
from lmsi_cli.splits import names_of_parts

PREFIX, US = "hf:", "lmsi"
NAME = re.compile(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?::([\w.-]+)|/(.+\.gguf))?")
SNAPSHOT = re.compile(r"models--(.+)--(.+)/snapshots/([0-9a-f]{40})/(.+)")
# llama.cpp's -hf (common/download.cpp) prefers these quantisations, and skips these other files
PREFERRED = ("Q4_K_M", "Q8_0")
NO_MODELS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
TAG = re.compile(r"[-.](\w+?)(-\d{5}-of-\d{5})?\.gguf")  # the quantisation in a file's name
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PATIENCE = 10  # seconds to wait for the hub
LOGIN = "`hf auth login`, or HF_TOKEN, which goes before it"
ROOM = "free some space, or move the cache with HF_HOME"


class Wanted(NamedTuple):
    """A name split into its parts; missing parts are empty."""

    name: str
    repo: str
    revision: str
    quant: str
    file: str

    def error(self, what: str, hint: str = "") -> LmsiError:
        """An error about this name."""
        return LmsiError(f"{self.name}: {what}", hint=hint)


def hub_model(name: str, progress: Progress) -> Path:
    """The file of a model, or the first of its parts; downloads what the cache lacks.

    If the hub is out of reach, or ``HF_HUB_OFFLINE`` is set, the cached file is used. The name is
    ``hf:OWNER/REPO[@REVISION]``, optionally followed by ``:QUANT`` or ``/FILE.gguf``; ``progress``
    counts MiB. LmsiError: there is no such repository, revision, quantisation or file, the hub
    refuses it, the disk is full, or the file is not what the hub announces.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import logging

    wanted = _wanted(name)
    repo, revision = wanted.repo, wanted.revision or None
    logging.set_verbosity_error()  # its retries are no news, and lmsi reports the rest
    constants.HF_HUB_DISABLE_TELEMETRY = True  # nobody has asked for that
    try:
        try:
            how = {"revision": revision, "files_metadata": True, "timeout": PATIENCE}
            info = HfApi(library_name=US).model_info(repo, **how)
            commit, files = str(info.sha), {f.rfilename: f for f in info.siblings or ()}
        except (HTTPError, OSError) as e:
            down = isinstance(e, HTTPError | ConnectionError) and not 0 < _answer(e) < 500
            if not down or not (there := cached(name)):
                raise
            progress.say(f"{name}: the hub is out of reach, so its cache is taken")
            return there
        paths = []
        for part in names_of_parts(chosen(wanted, files)):
            if part not in files:
                raise wanted.error(f"{part} is missing in this repository")
            if not isinstance(try_to_load_from_cache(repo, part, revision=commit), str):
                _bring(wanted, commit, files[part], progress)
            paths.append(hf_hub_download(repo, part, revision=revision, library_name=US))
        return Path(paths[0])
    except (HTTPError, OSError, ValueError, KeyError, TypeError) as e:
        raise _refusal(wanted, e) from None


def cached(name: str) -> Path | None:
    """As ``hub_model``, but only from the cache, at the revision that it knows; None if absent."""
    with suppress(LmsiError):
        wanted = _wanted(name)
        folder, revision = _folder(wanted.repo), wanted.revision or "main"
        ref = folder / "refs" / revision
        snapshot = folder / "snapshots" / (ref.read_text() if ref.is_file() else revision)
        files = sorted(p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*.gguf"))
        return snapshot / chosen(wanted, files)
    return None


def cached_files() -> list[Path]:
    """GGUF files in the hub's cache, wherever ``HF_HUB_CACHE`` or ``HF_HOME`` put it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*/**/*.gguf"))


def hub_name(file: Path) -> str:
    """The name that finds a file of the hub's cache again, with its revision; empty for others."""
    found = SNAPSHOT.search(file.absolute().as_posix())
    return "{}{}/{}@{}/{}".format(PREFIX, *found.groups()) if found else ""


def is_model(file: str) -> bool:
    """Whether a GGUF file is a model, or the first part of one, by its name."""
    name = PurePosixPath(file).name
    aside = any(word in name for word in NO_MODELS)
    return name.endswith(".gguf") and not aside and names_of_parts(name)[0] == name


def chosen(wanted: Wanted, files: Collection[str]) -> str:
    """The file of a repository that a name means; chooses among quantisations as llama.cpp does.

    LmsiError: it has no such file, no such quantisation, or no model at all; says what it has.
    """
    models = list(filter(is_model, files))
    if not models:
        hint = "repositories that have some are often called ...-GGUF"
        raise wanted.error("no GGUF file of a model in this repository", hint)
    if wanted.file:
        if wanted.file in files:
            return wanted.file
        raise wanted.error("no such file there", f"it has {', '.join(models)}")
    for quant in [wanted.quant] if wanted.quant else PREFERRED:
        pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(quant)}[.-]", re.IGNORECASE)
        if found := next(filter(pattern.search, models), None):
            return found
    if wanted.quant:
        tags = [tag[1].upper() if (tag := TAG.search(file)) else file for file in models]
        hint = f"it has {', '.join(dict.fromkeys(tags))}"
        raise wanted.error(f"no {wanted.quant} in this repository", hint)
    return models[0]


def _wanted(name: str) -> Wanted:
    if found := NAME.fullmatch(name):
        return Wanted(name, *found.groups(""))
    forms = "hf:OWNER/REPO, hf:OWNER/REPO:Q4_K_M or hf:OWNER/REPO/FILE.gguf"
    raise LmsiError(f"{name}: not a name on the hub", hint=f"write {forms}")


def _folder(repo: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    return Path(HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"))


def _bring(wanted: Wanted, commit: str, file: Any, progress: Progress) -> None:  # noqa: ANN401
    """Download a file; it enters the cache only whole and with the hash that the hub announces.

    huggingface_hub then finds it there, links it and records the revision. On its own it would
    start over in every process, and check no hash.
    """
    from filelock import FileLock
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    sha256 = file.lfs.sha256 if file.lfs else ""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return  # a small file, in Git itself
    folder = _folder(wanted.repo)
    part, locks = folder / "blobs" / f"{sha256}.incomplete", folder.parent / ".locks" / folder.name
    for place in (part.parent, locks):
        place.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{sha256}.lock"):
        if part.with_suffix("").exists():  # another process was faster
            return
        have = part.stat().st_size if part.exists() else 0
        check_room(part.parent, file.lfs.size - have, ROOM)
        try:
            with part.open("ab") as out:
                http_get(
                    hf_hub_url(wanted.repo, file.rfilename, revision=commit),
                    out,
                    resume_size=have,
                    headers=build_hf_headers(library_name=US),
                    expected_size=file.lfs.size,
                    tqdm_class=partial(_Bar, progress, file.rfilename),
                )
                os.fsync(out.fileno())
        except OSError as e:
            if e.errno in FULL or not 0 < part.stat().st_size <= file.lfs.size:
                part.unlink()  # it cannot be resumed
            raise
        with part.open("rb") as data:
            came = hashlib.file_digest(data, "sha256").hexdigest()
        if came != sha256:
            part.unlink()
            what = f"{file.rfilename} has come with SHA-256 {came[:12]}, not {sha256[:12]}"
            raise wanted.error(f"{what}, and is deleted", "try again; or does HF_ENDPOINT err?")
        part.replace(part.with_suffix(""))


class _Bar:
    """Stands in for the tqdm bar that huggingface_hub expects."""

    def __init__(
        self, progress: Progress, file: str, *, total: int | None, initial: int = 0, **_: object
    ) -> None:
        self.progress, self.done = progress, initial
        progress.start(f"{PurePosixPath(file).name}, MiB", (total or 0) >> 20)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: float = 1) -> None:
        """Report that ``count`` more bytes have come."""
        self.done += int(count)
        self.progress.advance(self.done >> 20)


def _answer(e: Exception) -> int:
    """The HTTP status of the hub's answer; 0 if there was none."""
    return int(getattr(getattr(e, "response", None), "status_code", 0))


def _refusal(wanted: Wanted, e: Exception) -> LmsiError:
    """Say in one line what huggingface_hub says in many."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{wanted.repo}"
    if isinstance(e, errors.GatedRepoError):
        hint = f"ask for it on {page}, then give that account's token: {LOGIN}"
        return wanted.error("gated: whoever wants it has to ask for it", hint)
    if isinstance(e, errors.RevisionNotFoundError):
        return wanted.error("no such revision", f"{page}/commits/main lists them")
    if isinstance(e, errors.RepositoryNotFoundError):
        hint = f"look for {page}; a private one needs a token: {LOGIN}"
        return wanted.error("no such repository, or a private one", hint)
    if _answer(e) in (401, 403):
        return wanted.error("the hub refuses your token", f"give a new one: {LOGIN}")
    if isinstance(e, OSError) and e.errno in FULL:
        return wanted.error(f"no space left in {_folder(wanted.repo)}", ROOM)
    if isinstance(e, errors.OfflineModeIsEnabled):
        hint = "once without HF_HUB_OFFLINE, it is downloaded"
        return wanted.error("not in the hub's cache, and HF_HUB_OFFLINE is set", hint)
    reason = f"{e}".strip().partition("\n")[0] or type(e).__name__
    if isinstance(e, errors.HFValidationError):
        return wanted.error(reason)
    if not isinstance(e, OSError | errors.HTTPError):
        hint = "is HF_ENDPOINT right, or does a page to log in stand in between?"
        return wanted.error(f"{constants.ENDPOINT} answers unlike a hub: {reason}", hint)
    return wanted.error(f"not to be had: {reason}", "the same command goes on with what has come")
