"""Folders in object stores: which names mean one, how it is opened, and what its errors mean.

Knows URLs and fsspec; nothing of runs. Credentials come from where the store's own client looks
(environment, its own files) and are never part of a name:

    place_of("s3://bucket/runs/a")      # Place(url="s3://bucket/runs/a", protocol="s3")
    place_of("runs/a")                  # None: a folder of this machine
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmsi_cli.errors import LmsiError

# Two letters at least, since C:/ is a drive. One slash suffices: a Path folds two into one.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)\Z", re.DOTALL)
_EXTRAS = {"s3": "lmsi[s3]", "s3a": "lmsi[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}  # a put is seen whole or not at all
_ERRORS = {  # of the clients; none of them is an OSError
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


class Place(NamedTuple):
    """A folder of a store; ``url`` has no slash at its end."""

    url: str
    protocol: str

    @property
    def work(self) -> Path:
        """Where this machine keeps its copy and what it must remember; ``LMSI_WORK`` moves it.

        No cache folder: what was not uploaded yet is nowhere else.
        """
        home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        base = Path(os.environ.get("LMSI_WORK") or Path(home) / "lmsi" / "stores")
        return base / hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def copy(self) -> Path:
        """The copy of the folder, by its own name."""
        return self.work / self.url.rpartition("/")[2]

    def open(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """Connect: a file system of fsspec that remembers no listings.

        Raises:
            LmsiError: What it needs is not installed, or no store has this name.
        """
        import fsspec

        try:
            options = {"use_listings_cache": False, "skip_instance_cache": True}
            return fsspec.filesystem(self.protocol, **options)
        except ImportError:
            needed = _EXTRAS.get(self.protocol, "the package that fsspec names")
            raise LmsiError(
                f"{self.url}: {self.protocol}:// needs a package that is not installed",
                hint=f"pip install '{needed}'",
            ) from None
        except ValueError:
            raise LmsiError(
                f"{self.url}: no store is known by {self.protocol}://",
                hint="s3://, gs://, abfs://, sftp:// and what else fsspec knows; "
                "a folder of this machine is given by its path alone",
            ) from None


def place_of(root: Path | str) -> Place | None:
    """The store's folder that a name means; None for a folder of this machine.

    Raises:
        LmsiError: The name holds a password, or names no folder.
    """
    found = _URL.match(root.as_posix() if isinstance(root, Path) else root)
    if found is None:
        return None
    protocol, rest = found[1], found[2].strip("/")
    if re.match(r"[^/@]*:[^/@]*@", rest):
        raise LmsiError(
            f"{protocol}://...: a run folder's name must not hold a password",
            hint="leave it to the store's own settings, such as AWS_PROFILE",
        )
    if protocol in ("file", "local") or not rest or ".." in rest.split("/"):
        raise LmsiError(f"{root}: not a folder of a store", hint="as in s3://bucket/runs/a")
    return Place(f"{protocol}://{rest}", protocol)


@contextmanager
def told(place: Place, doing: str) -> Iterator[None]:
    """Turn the errors of a store into one line.

    Args:
        place: Where.
        doing: What fails: ``"cannot be written"``.

    Raises:
        LmsiError: Whatever the store refused.
    """
    try:
        yield
    except _errors() as e:
        reason, hint = _reason(e)
        raise LmsiError(f"{place.url}: {doing}: {reason}", hint=hint) from None


def _errors() -> tuple[type[Exception], ...]:
    """What a store's client may raise, of the clients that are loaded."""
    foreign = [
        getattr(sys.modules[module], name)
        for module, names in _ERRORS.items()
        if module in sys.modules
        for name in names
        if hasattr(sys.modules[module], name)
    ]
    return (OSError, NotImplementedError, *foreign)


def _reason(e: Exception) -> tuple[str, str]:
    """What happened, in words, and what to do."""
    says = (str(e).strip().splitlines() or [""])[0] or type(e).__name__
    if isinstance(e, PermissionError) or "Credential" in type(e).__name__:
        return (
            f"access denied ({says})",
            "are the credentials right, and may they list, read, write and delete there?",
        )
    if isinstance(e, FileNotFoundError):
        return f"not found ({says})", "does the bucket exist? lmsi makes none"
    return says, "what was finished is kept on this machine; the same command goes on"
