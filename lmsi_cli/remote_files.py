"""Files in object stores, and wherever else fsspec reaches.

Knows addresses and the errors of the stores' clients; nothing of what is in a file. Credentials
come from where the client looks for them and are never part of an address:

    read_remote("s3://bucket/questions.jsonl")                          # b'{"question": ...'
    write_remote(Path("paths.parquet"), "s3://bucket/a/paths.parquet")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmsi_cli.errors import LmsiError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
PACKAGES = {"s3": "lmsi[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


def is_address(name: str) -> bool:
    """Whether a name is an address, and not a file of this machine."""
    return ADDRESS.match(name) is not None


def read_remote(address: str) -> bytes:
    """Read a whole file; LmsiError: no such file, a refusal, or no client is installed."""
    with _connected(address, "cannot be read") as (store, path):
        data: bytes = store.cat_file(path)
    return data


def write_remote(file: Path, address: str) -> None:
    """Upload a file; in an object store others see it whole or not at all."""
    with _connected(address, "cannot be written") as (store, path):
        store.put_file(str(file), path)


def remote_exists(address: str) -> bool:
    """Whether there is such a file; LmsiError as ``read_remote``."""
    with _connected(address, "cannot be read") as (store, path):
        return bool(store.exists(path))


@contextmanager
def _connected(address: str, what: str) -> Iterator[tuple[Any, str]]:
    """A file system of fsspec, and the address as it wants it; its errors become one line."""
    import fsspec.core

    protocol = address.partition("://")[0]
    if re.search(r"://[^/@]*:[^/@]*@", address):
        hint = "leave it to the store's own settings, such as AWS_PROFILE"
        raise LmsiError(f"{protocol}://...: an address must not hold a password", hint)
    try:
        yield fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        package = PACKAGES.get(protocol, "the package that fsspec names")
        message = f"{address}: {protocol}:// needs a package that is not installed"
        raise LmsiError(message, hint=f"pip install '{package}'") from None
    except Exception as e:  # noqa: BLE001 - each client has errors of its own, without a common base
        reason = (str(e).strip().splitlines() or [""])[0] or type(e).__name__
        raise LmsiError(
            f"{address}: {what}: {reason}",
            hint="are the credentials right, and does the bucket exist? lmsi makes none",
        ) from None
