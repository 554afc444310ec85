"""Where a server is, and the key for it: both read once, checked, and shown nowhere.

Knows URLs, files and the environment; opens no connection. What is written to a run folder is the
address as the user gave it, so a password in it is refused. There is no flag and no setting that
holds a key, since both are written down. Printed, it is ``Key(hidden)``; text that comes back from
a server goes through ``hide``, for a server may repeat what it was sent:

    Address.parse("http://gpu:8000/v1/") -> Address("http", "gpu", 8000, "/v1")
    find_key("", Address.parse("http://gpu:8000/v1")).hide("bad key sk-123") -> "bad key [key]"
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lmsi_cli.errors import LmsiError

PORTS = {"http": 80, "https": 443}
HERE = ("localhost", "127.0.0.1", "::1")
FORM = "give it as --base-url http://HOST:PORT/v1"
OWN, OPENAI, OPENAI_HOST = "LMSI_API_KEY", "OPENAI_API_KEY", "api.openai.com"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
LONGEST = 8192  # bytes; nobody's key is longer, but a wrong file may be


class Address(NamedTuple):
    """Where a server listens; ``path`` begins with a slash or is empty, and ends with none."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a base URL.

        Raises:
            LmsiError: It is no http(s) address, or holds a password, a query or a fragment.
        """
        if not text:
            raise LmsiError("--engine openai needs the server's address", FORM)
        shown = "" if "@" in text else f" {text}"  # what may be a password is not
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise LmsiError("--base-url: this is no address", FORM) from None
        if parts.scheme not in PORTS or not parts.hostname:
            raise LmsiError(f"--base-url{shown}: expected an http:// or https:// address", FORM)
        if parts.username or parts.password:
            raise LmsiError(
                "--base-url: a name or password in the address would be written to the run folder",
                hint="give the key as LMSI_API_KEY or --set api_key_file=FILE",
            )
        if parts.query or parts.fragment:
            raise LmsiError(f"--base-url{shown}: an address with ? or # cannot be built on", FORM)
        path = parts.path.rstrip("/")
        return cls(parts.scheme, parts.hostname.lower(), port or PORTS[parts.scheme], path)

    @property
    def url(self) -> str:
        """What paths are put behind."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def open(self) -> bool:
        """Whether others on the way can read what is sent."""
        return self.scheme == "http" and self.host not in HERE


class Key:
    """A secret, or none."""

    def __init__(self, secret: str = "") -> None:
        self.__secret = secret

    def __bool__(self) -> bool:
        return bool(self.__secret)

    def __repr__(self) -> str:
        return "Key(hidden)" if self else "Key()"

    def __reduce__(self) -> str:
        raise TypeError("a key is not copied into files")

    def hide(self, text: str) -> str:
        """Take the secret out of a text."""
        return text.replace(self.__secret, "[key]") if self else text

    def header(self) -> str:
        """What the Authorization header says."""
        return f"Bearer {self.__secret}"


def find_key(file: str, address: Address, environ: Mapping[str, str] = os.environ) -> Key:
    """Read the key for a server: from the file if there is one, else from the environment.

    ``OPENAI_API_KEY`` belongs to OpenAI: many have it set, and it must not go to whoever runs the
    server that is asked today.

    Raises:
        LmsiError: The file cannot be read or others can read it, or what it holds is no key.
    """
    if file:
        return _checked(_read(Path(file)), file)
    if OWN in environ:
        return _checked(environ[OWN], OWN)
    if address.host == OPENAI_HOST and address.scheme == "https" and OPENAI in environ:
        return _checked(environ[OPENAI], OPENAI)
    return Key()


def _read(file: Path) -> str:
    """Read a file that nobody else may; on Windows the bits say nothing."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if os.name != "nt" and mode & OTHERS:
                message = f"{file}: others may read this key (its mode is {mode:04o})"
                raise LmsiError(message, f"chmod 600 {file}")
            return opened.read(LONGEST).decode("ascii", "replace")
    except OSError as e:
        raise LmsiError(
            f"{file}: cannot be read: {e.strerror}", "--set api_key_file=FILE"
        ) from None


def _checked(text: str, where: str) -> Key:
    """A key is one printable word; the complaint must not show it."""
    secret = text.strip()
    if not secret.isascii() or not secret.isprintable() or not secret or " " in secret:
        raise LmsiError(f"{where}: this holds no key", "a key is one word, on one line")
    return Key(secret)
