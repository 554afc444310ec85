"""One server over HTTP: requests that are tried again, and failures told in one line.

Knows addresses, status codes and JSON; nothing of prompts or paths. Redirects are not followed and
no proxy is taken from the environment, so the key goes to the one host that was named:

    await Client(address, key, config).call("POST", "/completions", {...}, Reply) -> Reply(...)
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from lmsi_cli.config import ServerConfig
from lmsi_cli.engine.server.address import Address
from lmsi_cli.engine.server.api_key import Key
from lmsi_cli.engine.server.retry import Circuit, backoff, retry_after
from lmsi_cli.errors import LmsiError

T = TypeVar("T")
Json = dict[str, Any] | None
TRIES = 3  # of one request, before others have their turn
CONNECT = 15.0  # seconds
MOST_ASKED = 900.0  # seconds; a server that wants a longer rest is better asked another day
MOST_BYTES = 64 << 20  # of a reply; thousands of long paths fit
PASSING = (408, 409, 425, 429)  # and all from 500 on
SHOWN = 200  # characters of what a server says
ERRORS = ("error", "message", "detail")  # where servers put what they complain of
AGAIN = "what was drawn is kept: give the same command again when the server is well"
ASTRAY = "is the server running there, and is that its address, with its /v1?"
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


class RefusedError(Exception):
    """The server understood the request and does not want it; ``told`` is its reason."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told


class MissingError(LmsiError):
    """There is nothing at this path."""


class FailedError(Exception):
    """A failure that may pass, or that others are spared.

    ``status`` is 0 where there was none; ``after``: seconds that the server asks to be left alone.
    With a ``hint`` the address may be wrong, so a server that never answered ends the run with it.
    """

    def __init__(self, why: str, hint: str = "", status: int = 0, after: float = 0.0) -> None:
        super().__init__(why)
        self.hint, self.status, self.after = hint, status, after


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: bytes


class Client:
    """A connection pool to one server, for use in one event loop."""

    def __init__(self, address: Address, key: Key, config: ServerConfig) -> None:
        self.address, self.key, self.config = address, key, config
        self.circuit = Circuit(config.retries)
        self._heard = self._reached = False  # whether anything came, whether a reply did
        self._resume = 0.0  # monotonic time before which nobody calls
        several = config.concurrency + 1
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # no proxies, no .netrc
            verify=_authorities() if address.scheme == "https" else True,
            timeout=httpx.Timeout(None, connect=min(CONNECT, config.timeout)),
            limits=httpx.Limits(max_connections=several, max_keepalive_connections=several),
            headers=JSON | ({"Authorization": key.header()} if key else {}),
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def call(
        self, method: str, path: str, body: Json, kind: type[T], tries: int = TRIES
    ) -> T:
        """Send a request until it is answered.

        Args:
            method: ``GET`` or ``POST``.
            path: Behind the base address.
            body: Sent as JSON; None: nothing.
            kind: What the reply must be; fields that it does not name are passed over.
            tries: How often it is sent at most.

        Raises:
            LmsiError: No request can succeed as things are.
            RefusedError: Status 400 and the like, which the caller may know a remedy for.
            FailedError: How it failed last.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(FailedError),
            stop=stop_after_attempt(tries),
            wait=self._wait,
            reraise=True,
        )
        return await retrying(self._attempt, method, path, body, kind)

    def _wait(self, state: RetryCallState) -> float:
        """A request that is new to a server in trouble does not begin with the shortest wait."""
        return backoff(max(state.attempt_number, self.circuit.in_a_row), random.random())

    async def _attempt(self, method: str, path: str, body: Json, kind: type[T]) -> T:
        left = self._resume - time.monotonic()
        if left > 0:  # the server asked everybody to wait; not all come back at once
            await asyncio.sleep(left + random.random() * min(1.0, left / 10))
        begun = time.monotonic()
        try:
            reply = self._read(await self._exchange(method, path, body), path, kind)
        except FailedError as e:
            self._count(e, begun)
            raise
        self.circuit.succeeded()
        self._reached = True
        return reply

    def _count(self, failure: FailedError, begun: float) -> None:
        """Count a failure; LmsiError if it was one too many."""
        now, url, after = time.monotonic(), self.address.url, failure.after
        if failure.hint and not self._reached:
            raise LmsiError(f"{url}: {failure}", failure.hint)
        if self.circuit.failed(begun, now):
            times = f"{self.circuit.in_a_row} failures in a row, the last: "
            raise LmsiError(f"{url}: {times}{failure}", AGAIN)
        if after > MOST_ASKED:
            told = f"it asks to be left alone for {after / 60:.0f} minutes"
            raise LmsiError(f"{url}: {told} ({failure})", AGAIN)
        self._resume = max(self._resume, now + after)

    async def _exchange(self, method: str, path: str, body: Json) -> _Answer:
        """One request and its reply, which is read up to a limit, however it is packed."""
        content, data = None if body is None else msgspec.json.encode(body), bytearray()
        try:
            async with (
                asyncio.timeout(self.config.timeout),
                self._http.stream(method, self.address.url + path, content=content) as reply,
            ):
                async for part in reply.aiter_bytes():
                    data += part
                    if len(data) > MOST_BYTES:
                        raise httpx.DecodingError(f"over {MOST_BYTES >> 20} MiB")
        except TimeoutError:
            told = f"no whole reply within {self.config.timeout:g} seconds (--timeout)"
            raise FailedError(told) from None
        except httpx.TransportError as e:
            raise self._unreached(self.said(str(e)) or type(e).__name__) from None
        except (httpx.InvalidURL, UnicodeError) as e:  # a host that no name can be
            told = f"{self.address.url}: no address: {self.said(str(e))}"
            raise LmsiError(told, ASTRAY) from None
        except httpx.HTTPError as e:  # a body that does not unpack
            raise FailedError(f"a damaged reply: {self.said(str(e))}") from None
        self._heard = True
        return _Answer(reply.status_code, reply.headers, bytes(data))

    def _unreached(self, told: str) -> Exception:
        """A certificate that is not trusted will not be so in a minute."""
        if any(word in told for word in ("CERTIFICATE_VERIFY_FAILED", "SSL", "TLS")):
            return LmsiError(
                f"{self.address.url}: no secure connection: {told}",
                "name the authority's certificate with SSL_CERT_FILE=FILE, or mend the address",
            )
        return FailedError(f"the connection failed: {told}", "" if self._heard else ASTRAY)

    def _read(self, answer: _Answer, path: str, kind: type[T]) -> T:
        """Decode a reply, or raise what it is instead of one."""
        found = _parsed(answer.data)
        if not 200 <= answer.status < 300:
            raise self._complaint(answer, found, path)
        try:
            return msgspec.convert(found, kind)
        except msgspec.ValidationError as e:
            why = f"a reply that cannot be read: {self.said(str(e))}"
        if isinstance(found, dict) and any(found.get(name) for name in ERRORS):
            raise self._complaint(answer, found, path)
        if _is_page(answer.data):
            raise FailedError("HTML instead of JSON", self._elsewhere())
        raise FailedError(why)

    def _complaint(self, answer: _Answer, found: Any, path: str) -> Exception:  # noqa: ANN401 - JSON
        """Sort what is not a reply: final, refused, or passing."""
        told = self.said(_reason(answer.data, found))
        status, where = answer.status, f"{self.address.url}: HTTP {answer.status}"
        if status < 300:  # LM Studio tells a wrong path so
            return FailedError(f"HTTP {status} with an error: {told}", self._elsewhere())
        if status < 400:
            to = self.said(answer.headers.get("location", "another place"))
            hint = "give that address if it is right"
            return LmsiError(f"{where}: sent on to {to}, which is not followed", hint)
        if status in (401, 403):
            state = "refuses the key" if self.key else "wants a key"
            hint = "set LMSI_API_KEY, or --api-key-file FILE"
            return LmsiError(f"{where}: the server {state}: {told}", hint)
        if status in PASSING or status >= 500:
            after = retry_after(answer.headers)
            return FailedError(f"HTTP {status}: {told}", status=status, after=after)
        if status in (404, 405) and "model" not in told.lower():
            other = "off" if path.startswith("/chat") else "on"
            form = f"is this the API's address? or try the other form: --chat {other}"
            return MissingError(f"{where} for {path}: {told}", self._elsewhere(form))
        return RefusedError(status, told)

    def _elsewhere(self, hint: str = ASTRAY) -> str:
        """A hint for an address at which there is something else."""
        if self.address.path.endswith("/v1"):
            return hint
        return f"most servers answer below /v1: --base-url {self.address.url}/v1"

    def said(self, text: str) -> str:
        """What a server says, on one short line, without the key or what steers a screen."""
        flat = _CONTROL.sub(" ", self.key.hide(text)).strip()
        return flat if len(flat) <= SHOWN else flat[:SHOWN] + " ..."


def _authorities() -> ssl.SSLContext:
    """Authorities as certifi lists them, or those of SSL_CERT_FILE."""
    try:
        return httpx.create_ssl_context()
    except OSError as e:
        raise LmsiError(f"SSL_CERT_FILE: no certificates: {e}", "mend it, or unset it") from None


def _parsed(data: bytes) -> Any:  # noqa: ANN401 - JSON
    r"""Read JSON, or None.

    Half a character (``"\ud83d"``) is replaced, for a server that cut a text inside one would send
    the same again, and a number that is none is left. Bytes that are no UTF-8 are damage.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        whole = json.dumps(json.loads(data.decode()), ensure_ascii=False)
        return json.loads(whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        return None


def _is_page(data: bytes) -> bool:
    return data.lstrip()[:1] == b"<"


def _reason(data: bytes, found: Any) -> str:  # noqa: ANN401 - JSON
    """The message in an error's body, in the forms that servers write it; else its beginning."""
    if found is None:
        return "an HTML page" if _is_page(data) else data[:1000].decode(errors="replace")
    for name in ERRORS:
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return found if isinstance(found, str) else json.dumps(found)
