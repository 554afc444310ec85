"""One server over HTTP: its address, its key, and requests that are retried.

Knows addresses, status codes and JSON; nothing of prompts or paths. Redirects are not followed and
no proxy is taken from the environment, so the key goes only to the host that was named. No flag or
setting holds a key, since both are written to disk. Whatever a server says goes through ``said``,
because it may repeat what it was sent:

    await Client(config).call("/completions", {...}, Reply) -> Reply(...)
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import tenacity

from lmsi_cli.config import ServerConfig
from lmsi_cli.errors import LmsiError

LOG = logging.getLogger(__name__)
T = TypeVar("T")
Json = dict[str, Any] | None
FORM = "give it as --base-url http://HOST:PORT/v1"
OWN, OPENAI, OPENAI_HOST = "LMSI_API_KEY", "OPENAI_API_KEY", "api.openai.com"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
LONGEST_KEY = 8192  # bytes; nobody's key is longer, but a wrong file may be
LONGEST_REPLY = 64 << 20  # bytes; eight paths of 32,000 tokens with their log-probabilities
FIRST, LONGEST = 0.5, 30.0  # seconds to wait after a failure: doubled each time, with jitter
CONNECT = 15.0  # seconds
MOST_ASKED = 900.0  # seconds; if a server asks for a longer wait, the run ends
PASSING = (408, 409, 425, 429)  # statuses that may pass, as all from 500 on
SHOWN = 200  # characters of what a server says
ERRORS = ("error", "message", "detail")  # where servers put their complaints
AGAIN = "what was drawn is kept: give the same command again when the server is well"
ASTRAY = "is the server running there, and is that its address, with its /v1?"
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|exceed_context|exceeds? the (available )?context"
    r"|maximum context|longer than the (model's )?(maximum|context)"
    r"|max_(completion_|new_)?tokens\W.{0,60}(too large|must be <=|at most|exceed)",
    re.IGNORECASE,
)


class RefusedError(Exception):
    """The server understood the request and rejects it; ``reason`` says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.too_long = _TOO_LONG.search(reason) is not None  # prompt, path, or both together


class MissingError(LmsiError):
    """The server has nothing at this URL."""


class FailedError(Exception):
    """A failure that may pass, or that other requests may not meet.

    ``status`` is 0 if there was none; ``after``: seconds that the server asks to be left alone. A
    ``hint`` says that the address may be wrong; it ends the run if the server has never answered.
    """

    def __init__(self, why: str, hint: str = "", status: int = 0, after: float = 0.0) -> None:
        super().__init__(why)
        self.hint, self.status, self.after = hint, status, after


def read_address(text: str) -> httpx.URL:
    """Read a base URL. It is written to the run folder, so a password in it is refused.

    LmsiError: it is not an http(s) address, or holds a password, a query or a fragment.
    """
    if not text:
        raise LmsiError("--engine openai needs the server's address", FORM)
    try:
        url = httpx.URL(text.rstrip("/"))
    except (httpx.InvalidURL, UnicodeError):
        raise LmsiError("--base-url: this is no address", FORM) from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) >= 1 << 16:
        raise LmsiError("--base-url: expected an http:// or https:// address", FORM)
    if url.userinfo:
        problem = "--base-url: a name or password in the address would be written to the run folder"
        raise LmsiError(problem, "give the key as LMSI_API_KEY or --set api_key_file=FILE")
    if "?" in text or "#" in text:
        raise LmsiError("--base-url: an address with ? or # cannot be built on", FORM)
    return url


def find_key(file: str, url: httpx.URL, environ: Mapping[str, str] = os.environ) -> str:
    """Read the key for a server from the file if there is one, else from the environment.

    Empty if there is none. ``OPENAI_API_KEY`` is sent to OpenAI only: many people have it set, and
    no other server may see it. LmsiError: the file cannot be read or others can read it, or what it
    holds is no key.
    """
    theirs = url.host == OPENAI_HOST and url.scheme == "https"
    where = file or next((n for n in (OWN, OPENAI)[: 1 + theirs] if n in environ), "")
    if not where:
        return ""
    secret = (_read_key(Path(file)) if file else environ[where]).strip()
    if not (secret.isascii() and secret.isprintable() and secret) or " " in secret:
        raise LmsiError(f"{where}: this holds no key", "a key is one word, on one line")
    return secret


def _read_key(file: Path) -> str:
    """Read a key file that only its owner may read; on Windows the mode says nothing."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if os.name != "nt" and mode & OTHERS:
                message = f"{file}: others may read this key (its mode is {mode:04o})"
                raise LmsiError(message, f"chmod 600 {file}")
            return opened.read(LONGEST_KEY).decode("ascii", "replace")
    except OSError as e:
        message = f"{file}: cannot be read: {e.strerror}"
        raise LmsiError(message, "--set api_key_file=FILE") from None


class Client:
    """A connection pool to one server, for use in one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        """Read address and key; LmsiError if either is unusable. Sends no request."""
        self.url, self.config = read_address(config.base_url), config
        self._key = find_key(config.api_key_file, self.url)
        self._answered = False  # whether the server has ever said something in JSON
        here = self.url.host in ("localhost", "127.0.0.1", "::1")
        if self._key and self.url.scheme == "http" and not here:
            LOG.warning("note: the key goes to %s unencrypted; https hides it", self.url)
        several = config.concurrency + 1
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # no proxies, no .netrc
            verify=_authorities() if self.url.scheme == "https" else True,
            timeout=httpx.Timeout(None, connect=min(CONNECT, config.timeout)),
            limits=httpx.Limits(max_connections=several, max_keepalive_connections=several),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, path: str, body: Json, kind: type[T], tries: int | None = None) -> T:
        """Send a request, and retry until it is answered; fields that ``kind`` lacks are ignored.

        A GET if there is no body. It is sent ``tries`` times at most, by default once plus the
        configured retries. LmsiError: no request can succeed as things are. RefusedError: status
        400 and the like, which the caller may know a remedy for. FailedError: every try failed.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(FailedError),
            stop=tenacity.stop_after_attempt(tries or self.config.retries + 1),
            wait=_wait,
            reraise=True,
        )
        return await retrying(self._attempt, path, body, kind)

    async def _attempt(self, path: str, body: Json, kind: type[T]) -> T:
        try:
            return self._read(*await self._exchange(path, body), path, kind)
        except FailedError as e:
            if e.hint and not self._answered:
                raise LmsiError(f"{self.url}: {e}", e.hint) from None
            if e.after > MOST_ASKED:
                message = f"it asks to be left alone for {e.after / 60:.0f} minutes ({e})"
                raise LmsiError(f"{self.url}: {message}", AGAIN) from None
            raise

    async def _exchange(self, path: str, body: Json) -> tuple[httpx.Response, bytes]:
        """Send one request, and return its whole reply, decompressed."""
        method, data = "POST" if body else "GET", bytearray()
        request = self._http.stream(method, f"{self.url}{path}", json=body)
        try:
            async with asyncio.timeout(self.config.timeout), request as answer:
                async for part in answer.aiter_bytes():
                    data += part
                    if len(data) > LONGEST_REPLY:
                        message = f"{self.url}: a reply of over {LONGEST_REPLY >> 20} MiB"
                        raise LmsiError(message, "fewer paths at once: --set per_request=1")
                return answer, bytes(data)
        except TimeoutError:
            message = f"no whole reply within {self.config.timeout:g} seconds (--set timeout)"
            raise FailedError(message) from None
        except httpx.TransportError as e:
            reason = self.said(str(e)) or type(e).__name__
            if any(word in reason for word in ("CERTIFICATE_VERIFY_FAILED", "SSL", "TLS")):
                hint = "name its authority's certificate: SSL_CERT_FILE=FILE, or mend the address"
                raise LmsiError(f"{self.url}: no secure connection: {reason}", hint) from None
            raise FailedError(f"the connection failed: {reason}", ASTRAY) from None
        except httpx.HTTPError as e:  # a body that cannot be decompressed
            raise FailedError(f"a damaged reply: {self.said(str(e))}") from None

    def _read(self, answer: httpx.Response, data: bytes, path: str, kind: type[T]) -> T:
        """Decode a reply, or raise the error that it is instead."""
        found, page = _parsed(data), data.lstrip()[:1] == b"<"
        reason = self.said("an HTML page" if page else _reason(data, found))
        if not answer.is_success:
            self._answered = self._answered or found is not None
            raise self._complaint(answer, reason, path)
        try:
            reply = msgspec.convert(found, kind)
        except msgspec.ValidationError as e:
            if page:
                raise FailedError("HTML instead of JSON", self._elsewhere()) from None
            if isinstance(found, dict) and any(map(found.get, ERRORS)):  # LM Studio's wrong path
                why = f"HTTP {answer.status_code} with an error: {reason}"
                raise FailedError(why, self._elsewhere()) from None
            raise FailedError(f"a reply that cannot be read: {self.said(str(e))}") from None
        self._answered = True
        return reply

    def _complaint(self, answer: httpx.Response, reason: str, path: str) -> Exception:
        """Turn an error status into an exception: final, refused, or one that may pass."""
        status = answer.status_code
        where = f"{self.url}: HTTP {status}"
        if status < 400:
            to = self.said(answer.headers.get("location", "another place"))
            hint = "give that address if it is right"
            return LmsiError(f"{where}: sent on to {to}, which is not followed", hint)
        if status in (401, 403):
            state = "refuses the key" if self._key else "wants a key"
            hint = "set LMSI_API_KEY, or --set api_key_file=FILE"
            return LmsiError(f"{where}: the server {state}: {reason}", hint)
        if status in PASSING or status >= 500:
            asked = answer.headers.get("retry-after", "")  # a date, which is rare, is ignored
            after = float(asked) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]*)?", asked) else 0.0
            return FailedError(f"HTTP {status}: {reason}", status=status, after=after)
        if status in (404, 405) and "model" not in reason.lower():
            other = "off" if path.startswith("/chat") else "on"
            form = f"is this the API's address? or try the other form: --chat {other}"
            return MissingError(f"{where} for {path}: {reason}", self._elsewhere(form))
        return RefusedError(status, reason)

    def _elsewhere(self, hint: str = ASTRAY) -> str:
        """A hint for when something else answers at the address."""
        if self.url.path.endswith("/v1"):
            return hint
        return f"most servers answer below /v1: --base-url {self.url}/v1"

    def said(self, text: str) -> str:
        """Put a server's words on one short line, without the key or control characters."""
        hidden = text.replace(self._key, "[key]") if self._key else text
        flat = _CONTROL.sub(" ", hidden).strip()
        return flat if len(flat) <= SHOWN else flat[:SHOWN] + " ..."


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: as the server asks, but at least a wait that grows."""
    asked = getattr(state.outcome and state.outcome.exception(), "after", 0.0)
    grown = tenacity.wait_exponential(multiplier=FIRST, max=LONGEST)(state)
    return max(asked, grown * random.uniform(0.5, 1))


def _authorities() -> ssl.SSLContext:
    """Certificate authorities from certifi, or from SSL_CERT_FILE."""
    try:
        return httpx.create_ssl_context()
    except OSError as e:
        raise LmsiError(f"SSL_CERT_FILE: no certificates: {e}", "mend it, or unset it") from None


def _parsed(data: bytes) -> Any:  # noqa: ANN401 - JSON
    r"""Read JSON, or None.

    Half a character (``"\ud83d"``) is replaced, because a server that cut a text inside one would
    send the same again. NaN and infinity are kept. Bytes that are not UTF-8 give None.
    """
    try:
        whole = json.dumps(json.loads(data.decode()), ensure_ascii=False)
        return json.loads(whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        return None


def _reason(data: bytes, found: Any) -> str:  # noqa: ANN401 - JSON
    """The message in an error's body, wherever servers put it; else the body's beginning."""
    if found is None:
        return data[:1000].decode(errors="replace")
    for name in ERRORS:
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return found if isinstance(found, str) else json.dumps(found)
