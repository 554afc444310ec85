"""The key for a server: where it is read from, and that it shows nowhere.

Knows files, their permissions and the environment; sends nothing. There is no flag and no setting
that holds a key, since both are written down. Printed, it is ``Key(hidden)``; text that comes back
from a server goes through ``hide``, for a server may repeat what it was sent:

    find_key("", Address.parse("http://gpu:8000/v1")).hide("bad key sk-123") -> "bad key [key]"
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from lmsi_cli.engine.server.address import Address
from lmsi_cli.errors import LmsiError

OWN, OPENAI, OPENAI_HOST = "LMSI_API_KEY", "OPENAI_API_KEY", "api.openai.com"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
LONGEST = 8192  # bytes; nobody's key is longer, but a wrong file may be


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
                told = f"{file}: others may read this key (its mode is {mode:04o})"
                raise LmsiError(told, f"chmod 600 {file}")
            return opened.read(LONGEST).decode("ascii", "replace")
    except OSError as e:
        raise LmsiError(f"{file}: cannot be read: {e.strerror}", "--api-key-file FILE") from None


def _checked(text: str, where: str) -> Key:
    """A key is one printable word; the complaint must not show it."""
    secret = text.strip()
    if not secret.isascii() or not secret.isprintable() or not secret or " " in secret:
        raise LmsiError(f"{where}: this holds no key", "a key is one word, on one line")
    return Key(secret)
