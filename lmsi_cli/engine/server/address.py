"""A server's address: read once, checked, and never with a secret in it.

Knows URLs; opens no connection. What is written to a run folder is the address as the user gave
it, so a password in it is refused:

    Address.parse("http://gpu:8000/v1/") -> Address("http", "gpu", 8000, "/v1")
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from lmsi_cli.errors import LmsiError

PORTS = {"http": 80, "https": 443}
HERE = ("localhost", "127.0.0.1", "::1")
FORM = "give it as --base-url http://HOST:PORT/v1"


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
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise LmsiError("--base-url: this is no address", FORM) from None
        if parts.scheme not in PORTS or not parts.hostname:
            shown = "" if "@" in text else f" {text}"  # what may be a password is not
            raise LmsiError(f"--base-url{shown}: expected an http:// or https:// address", FORM)
        if parts.username or parts.password:
            raise LmsiError(
                "--base-url: a name or password in the address would be written to the run folder",
                hint="give the key as LMSI_API_KEY or --api-key-file",
            )
        if parts.query or parts.fragment:
            raise LmsiError(f"--base-url {text}: an address with ? or # cannot be built on", FORM)
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
