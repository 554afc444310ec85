"""One server over HTTP: requests that are tried again, and failures told in one line.

Knows addresses, status codes and JSON; nothing of prompts or paths. Nothing is followed to another
place, no proxy is taken from the environment, and the key goes to the one host that was named:

    await Caller(address, key, config).call("POST", "/completions", {...}, Reply) -> Reply(...)

Three things may come of a request besides its reply. ``LmsiError``: no request can succeed as
things are. ``RefusedError``: the server understood it and does not want it (status 400 and the
like), which the caller may know a remedy for. ``GaveUpError``: it failed several times, while
others may succeed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from lmsi_cli.config import ServerConfig
from lmsi_cli.engine.server.address import Address
from lmsi_cli.engine.server.key import Key
from lmsi_cli.engine.server.patience import MOST_ASKED, Circuit, Fault, asked_wait, wait_after
from lmsi_cli.errors import LmsiError

T = TypeVar("T")
Json = dict[str, Any] | None
TRIES = 3  # of one request, before others have their turn
CONNECT = 15.0  # seconds
MOST_BYTES = 64 << 20  # of a reply; thousands of long paths fit
PASSING = (408, 409, 425, 429)  # and all from 500 on
SHOWN = 200  # characters of what a server says
AGAIN = "what was drawn is kept: give the same command again when the server is well"
ASTRAY = "is the server running there, and is that its address, with its /v1?"
INSTALL = "type: pip install 'lmsi[server]'"
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


class RefusedError(Exception):
    """The server does not want this request; ``told`` is its reason."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told


class MissingError(LmsiError):
    """There is nothing at this path."""


class GaveUpError(Exception):
    """This request failed several times; the text says how it failed last."""


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: bytes


class Caller:
    """A connection pool to one server, for use in one event loop."""

    def __init__(self, address: Address, key: Key, config: ServerConfig) -> None:
        self.address, self.key, self.config = address, key, config
        self.circuit = Circuit(config.retries)
        self._resume = 0.0  # monotonic time before which nobody calls
        self.client = _client(address, key, config)

    async def close(self) -> None:
        """Give the connections back."""
        await self.client.aclose()

    async def call(
        self, method: str, path: str, body: Json, kind: type[T], first: bool = False
    ) -> T:
        """Send a request until it is answered; see the module for what else may come of it.

        Args:
            method: ``GET`` or ``POST``.
            path: Behind the base address.
            body: Sent as JSON; None: nothing.
            kind: What the reply must be; fields that it does not name are passed over.
            first: Nothing was asked of this address before, so it may be a wrong one.
        """
        last = Fault("")
        for n in range(1, TRIES + 1):
            await self._rest()
            begun = time.monotonic()
            found = await self._tried(method, path, body, kind)
            if not isinstance(found, Fault):
                self.circuit.well()
                return found
            last = found
            self._failed(last, begun, first)
            if n < TRIES:
                await asyncio.sleep(wait_after(max(n, self.circuit.in_a_row), random.random()))
        raise GaveUpError(last.why)

    async def _rest(self) -> None:
        """Wait as long as the server asked everybody to, and a bit that differs."""
        left = self._resume - time.monotonic()
        if left > 0:
            await asyncio.sleep(left + random.random() * min(1.0, left / 10))

    def _failed(self, fault: Fault, begun: float, first: bool) -> None:
        """Count a failure; LmsiError if it was one too many."""
        now = time.monotonic()
        if first and fault.astray:
            raise LmsiError(f"{self.address.url}: {fault.why}", ASTRAY)
        if self.circuit.failed(begun, now):
            times = f"{self.circuit.in_a_row} failures in a row, the last: "
            raise LmsiError(f"{self.address.url}: {times}{fault.why}", AGAIN)
        if fault.after is not None:
            if fault.after > MOST_ASKED:
                told = f"it asks to be left alone for {fault.after / 60:.0f} minutes"
                raise LmsiError(f"{self.address.url}: {told} ({fault.why})", AGAIN)
            self._resume = max(self._resume, now + fault.after)

    async def _tried(self, method: str, path: str, body: Json, kind: type[T]) -> T | Fault:
        import httpx

        try:
            async with asyncio.timeout(self.config.timeout):
                answer = await self._sent(method, path, body)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            return Fault(f"no whole reply within {self.config.timeout:g} seconds (--timeout)")
        except httpx.TransportError as e:
            return self._unreached(e)
        except (httpx.InvalidURL, UnicodeError) as e:  # a host that no name can be
            raise LmsiError(
                f"{self.address.url}: no address: {self.said(str(e))}", ASTRAY
            ) from None
        except httpx.HTTPError as e:  # a body that does not unpack
            return Fault(f"a damaged reply: {self.said(str(e))}")
        if 200 <= answer.status < 300:
            return self._read(answer, kind)
        return self._complained(answer, path, body)

    async def _sent(self, method: str, path: str, body: Json) -> _Answer:
        """One exchange; a reply is read up to a limit, however it is packed."""
        import httpx

        content = None if body is None else msgspec.json.encode(body)
        data = bytearray()
        async with self.client.stream(method, self.address.url + path, content=content) as reply:
            async for part in reply.aiter_bytes():
                data += part
                if len(data) > MOST_BYTES:
                    raise httpx.DecodingError(f"over {MOST_BYTES >> 20} MiB")
            return _Answer(reply.status_code, reply.headers, bytes(data))

    def _unreached(self, e: Exception) -> Fault:
        """Tell why nothing came; a certificate that is not trusted will not be so in a minute."""
        told = self.said(str(e)) or type(e).__name__
        if "CERTIFICATE_VERIFY_FAILED" in told or "SSL" in told or "TLS" in told:
            raise LmsiError(
                f"{self.address.url}: no secure connection: {told}",
                "name the authority's certificate with SSL_CERT_FILE=FILE, or mend the address",
            )
        return Fault(f"the connection failed: {told}", astray=True)

    def _read(self, answer: _Answer, kind: type[T]) -> T | Fault:
        try:
            return msgspec.json.decode(answer.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            mended = _mended(answer.data, kind)
            if mended is not None:
                return mended
            if answer.data.lstrip()[:1] == b"<":
                return Fault("HTML instead of JSON", astray=True)
            return Fault(f"a reply that cannot be read: {self.said(str(e))}")

    def _complained(self, answer: _Answer, path: str, body: Json) -> Fault:
        """Sort what is not a reply: final, refused, or passing."""
        told = self.said(_reason(answer.data))
        where = f"{self.address.url}: HTTP {answer.status}"
        if answer.status < 400:
            to = self.said(answer.headers.get("location", "another place"))
            raise LmsiError(
                f"{where}: sent on to {to}, which is not followed",
                "give that address if it is right",
            )
        if answer.status in (401, 403):
            state = "the server refuses the key" if self.key else "the server wants a key"
            raise LmsiError(f"{where}: {state}: {told}", "set LMSI_API_KEY, or --api-key-file FILE")
        if answer.status in PASSING or answer.status >= 500:
            fault = Fault(f"HTTP {answer.status}: {told}", asked_wait(answer.headers))
            # llama-cpp-python's server says so of what it cannot do
            if "logprobs" in told and "logprobs" in (body or {}):
                raise RefusedError(answer.status, told)
            return fault
        if answer.status in (404, 405) and "model" not in told.lower():
            raise MissingError(f"{where} for {path}: {told}", _hint_path(self.address, path))
        raise RefusedError(answer.status, told)

    def said(self, text: str) -> str:
        """What a server says, on one short line, without the key or what steers a screen."""
        flat = _CONTROL.sub(" ", self.key.hide(text)).strip()
        return flat if len(flat) <= SHOWN else flat[:SHOWN] + " ..."


def _hint_path(address: Address, path: str) -> str:
    if not address.path.endswith("/v1"):
        return f"most servers answer below /v1: --base-url {address.url}/v1"
    other = "off" if path.startswith("/chat") else "on"
    return f"is this the API's address? or try the other form: --chat {other}"


def _client(address: Address, key: Key, config: ServerConfig) -> Any:  # noqa: ANN401 - httpx
    """A client that goes to one host: no redirects, proxies or .netrc."""
    try:
        import httpx
    except ImportError:
        raise LmsiError("--engine openai needs the package httpx", INSTALL) from None

    class ToOneHost(httpx.Auth):
        """Puts the key on requests to the named server, whatever else the client may ever do."""

        def auth_flow(self, request: httpx.Request) -> Any:  # noqa: ANN401 - a generator
            port = request.url.port or address.port
            if key and (request.url.scheme, request.url.host, port) == address[:3]:
                request.headers["Authorization"] = key.header()
            yield request

    several = config.concurrency + 1
    return httpx.AsyncClient(
        auth=ToOneHost(),
        follow_redirects=False,
        trust_env=False,
        verify=_trusted() if address.scheme == "https" else True,
        timeout=httpx.Timeout(config.timeout, connect=min(CONNECT, config.timeout)),
        limits=httpx.Limits(max_connections=several, max_keepalive_connections=several),
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )


def _trusted() -> Any:  # noqa: ANN401 - an SSL context
    """Authorities as certifi lists them, or those of SSL_CERT_FILE."""
    import ssl

    import certifi

    file = os.environ.get("SSL_CERT_FILE") or certifi.where()
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as e:
        raise LmsiError(f"{file}: no certificates: {e}", "mend SSL_CERT_FILE") from None


def _reason(data: bytes) -> str:
    """The message in an error's body, in the forms that servers write it; else its beginning."""
    try:
        found = json.loads(data)
    except ValueError:
        return "an HTML page" if data.lstrip()[:1] == b"<" else data[:1000].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return found if isinstance(found, str) else json.dumps(found)


def _mended(data: bytes, kind: type[T]) -> T | None:
    r"""Read JSON that holds half a character (``"\ud83d"``), or a number that is none.

    A server that cut a text inside a character would send the same again, so this is no damage;
    the half is replaced as everywhere. Bytes that are no UTF-8 are damage.
    """
    try:
        found = json.loads(data.decode())
        whole = json.dumps(found, ensure_ascii=False, allow_nan=True)
        text = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, msgspec.ValidationError, RecursionError):
        return None
