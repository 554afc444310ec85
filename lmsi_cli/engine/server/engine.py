"""The engine for OpenAI-compatible servers: llama-server, vLLM, SGLang, Ollama, cloud services.

Knows one server and one model of it by name, with adapters under names of their own; leaves the
meaning of the text to its callers. There is no vocabulary here, so prompts travel as they were
written, and whether one fits the context is the server's to say.

    with ServerEngine("tinymath", SampleConfig(base_url="http://127.0.0.1:8000/v1")) as engine:
        for generated in engine.generate(requests, SamplingConfig(), "The answer is"): ...
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from lmsi_cli.config import SamplingConfig, ServerConfig, Variables
from lmsi_cli.engine.base import Encoded, Generated, ModelInfo, Refusal, Request, Watch
from lmsi_cli.engine.server.address import Address
from lmsi_cli.engine.server.calls import Caller, GaveUpError, MissingError, RefusedError
from lmsi_cli.engine.server.drawing import Bounds, Drawing
from lmsi_cli.engine.server.finding import Offers, find
from lmsi_cli.engine.server.key import find_key
from lmsi_cli.engine.server.wire import Ask, Listed, Models, Reply, body_of
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Prompt

LOG = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 3  # questions that may serve to find out what the server offers
LASTING = ("n_params", "n_vocab", "size")  # what llama-server tells of a file, as long as it is one
ANSWERS_AS = "answers_as"  # in run.toml: the model that the server's replies name
STAGES = "choose another --prompt, or sample without --engine openai"
OTHER = "one run folder holds the paths of one model: ask the old one, or use another folder"


class ServerEngine:
    """One model of one server."""

    def __init__(self, model: str, config: ServerConfig, answers_as: str = "") -> None:
        """Reach the server and find the model in its list.

        Args:
            model: Its name on the server.
            config: Where the server is and how it is asked.
            answers_as: The name that replies bore when the run was begun; empty: not known.

        Raises:
            LmsiError: No address, no key where one is wanted, no server there, or no such model.
        """
        self.address = Address.parse(config.base_url)
        self.key = find_key(config.api_key_file, self.address)
        self.base, self.model, self.config = model, model, config
        self.named = {model: answers_as} if answers_as else {}
        self.offers: dict[str, Offers] = {}
        self._refused: list[Refusal] = []
        if self.key and self.address.open:
            LOG.warning("note: the key goes to %s unencrypted; https hides it", self.address.origin)
        self.caller = Caller(self.address, self.key, config)
        self.loop = asyncio.new_event_loop()
        try:
            self.listed = self._run(self._list())
            self.stated = self._find(model)
        except BaseException:  # Ctrl-C, too: nobody else can close what was not returned
            self.close()
            raise

    def __enter__(self) -> ServerEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def info(self) -> ModelInfo:
        """What the server says of the model: little."""
        context = self.stated.max_model_len if self.stated else None
        return ModelInfo("openai", self.base, 0, 0, 0, context or sys.maxsize)

    @property
    def identity(self) -> dict[str, Any]:
        """What ties a run to this server and model: names, and facts that outlive a restart."""
        told: dict[str, Any] = {"server": self.address.host, "model": self.base}
        if self.stated is not None:
            meta = self.stated.meta or {}
            facts = {k: meta[k] for k in LASTING if k in meta}
            facts |= {"root": self.stated.root} if self.stated.root else {}
            told["model_stated"] = self.stated.id
            told |= {"model_facts": json.dumps(facts, sort_keys=True)} if facts else {}
        return told

    @property
    def settled(self) -> dict[str, int | str]:
        """What the server was found to do; the last form of prompt that was asked."""
        told = next(reversed(self.offers.values())).told() if self.offers else {}
        named = self.named.get(self.base, "")
        return {**told, **({ANSWERS_AS: named} if named else {})}

    def refusals(self) -> list[Refusal]:
        """Questions that could not be finished since this was last asked."""
        refused, self._refused = self._refused, []
        return refused

    def encode_prompt(self, prompt: Prompt, variables: Variables = ()) -> Encoded:
        """No ids: the vocabulary is the server's."""
        return Encoded([])

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Ask another model of the server, under which it offers base and adapter together.

        Raises:
            LmsiError: The server does not list it.
        """
        if path is not None:
            self._find(path)
        self.model = path or self.base

    def first_body(self, request: Request, sampling: SamplingConfig) -> dict[str, Any]:
        """What would be sent for the first path, for a person to look at."""
        ask = self._ask(request, 1, request.wanted[0].seed, sampling)
        return {"POST": self.address.url + ask.path, **body_of(ask, set())}

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> Iterator[Generated]:
        """Draw every wanted path that ``watch`` does not make needless; yields each as it comes.

        Raises:
            LmsiError: The server is gone, wants another key, answers with another model, or does
                not take the requests at all. Single questions that fail are ``refusals``.
        """
        wanted = [r for r in requests if r.wanted]
        if not wanted:
            return
        if any(r.follow for r in wanted):
            raise LmsiError("two stages in one cache need llama.cpp, not a server", STAGES)
        drawing = self._drawing(wanted, sampling)
        drawing.watch = watch
        try:
            self._run(self._prepare(wanted, sampling))
            while (ended := self._run(drawing.step(trigger))) is not None:
                yield from ended
                drawing.settle({g.question_id for g in ended})
        finally:
            self._run(drawing.stop())
            self._refused += drawing.refusals.values()

    def close(self) -> None:
        """Give the connections back."""
        if not self.loop.is_closed():
            self._run(self.caller.close())
            self.loop.close()

    # -- asking ----------------------------------------------------------------------------

    def _drawing(self, wanted: Sequence[Request], sampling: SamplingConfig) -> Drawing:
        return Drawing(
            wanted,
            lambda request, n, seed: self._ask(request, n, seed, sampling),
            self._offers(wanted[0].asked),
            self._send,
            Bounds(self.config.concurrency, self.config.retries),
        )

    def _offers(self, prompt: Prompt) -> Offers:
        form = "plain" if isinstance(prompt, str) else "chat"
        return self.offers.setdefault(form, Offers(self.config.per_request))

    def _ask(self, request: Request, n: int, seed: int, sampling: SamplingConfig) -> Ask:
        return Ask(self.model, request.asked, n, seed, sampling, request.variables)

    async def _prepare(self, wanted: Sequence[Request], sampling: SamplingConfig) -> None:
        """Find out what has to be known first; a first question that is refused tells nothing."""
        offers, most = self._offers(wanted[0].asked), max(len(r.wanted) for r in wanted)
        for request in wanted[:ATTEMPTS]:
            ask = self._ask(request, 1, request.wanted[0].seed, sampling)
            with suppress(RefusedError, GaveUpError):  # the drawing meets it again, and says so
                await find(offers, ask, most, self._send)
                return

    async def _send(self, ask: Ask) -> Reply:
        """Send a request, written anew while there is a remedy for what the server dislikes."""
        offers = self._offers(ask.prompt)
        while True:
            ask = ask._replace(n=min(ask.n, offers.most or ask.n))
            body = body_of(ask, offers.dropped, offers.limit)
            try:
                reply = await self.caller.call("POST", ask.path, body, Reply)
            except RefusedError as e:
                if not offers.remedy(e, ask, body):
                    raise
                continue
            offers.answered(reply)
            self._check_named(ask.model, reply.model)
            return reply

    def _check_named(self, asked: str, named: str | None) -> None:
        """Refuse replies of another model than the first one's."""
        named = self.caller.said(named or "")
        before = self.named.setdefault(asked, named)
        if named and before and named != before:
            raise LmsiError(
                f"{self.address.url}: the server answers with another model, {named}; "
                f"it was {before} before",
                hint=OTHER,
            )

    # -- the server ------------------------------------------------------------------------

    async def _list(self) -> list[Listed] | None:
        """The server's models, or None if it does not tell; one that still loads is waited for."""
        while True:
            try:
                told = await self.caller.call("GET", "/models", None, Models, first=True)
                return told.data or []
            except GaveUpError:
                continue  # until the circuit opens
            except (MissingError, RefusedError):
                LOG.warning("note: %s does not list its models", self.address.url)
                return None

    def _find(self, model: str) -> Listed | None:
        """A model in the server's list; Ollama lets its tag ``:latest`` be left out."""
        if self.listed is None:
            return None
        found = next((m for m in self.listed if m.id in (model, f"{model}:latest")), None)
        if found is None:
            names = ", ".join(self.caller.said(m.id) for m in self.listed) or "none"
            raise LmsiError(
                f"{self.address.url}: the server has no model {model!r}; it has: {names}",
                hint="choose one with --model NAME",
            )
        return found

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until done; interrupted, the work is cancelled and not left hanging."""
        task = self.loop.create_task(work)
        try:
            return self.loop.run_until_complete(task)
        except BaseException:  # Ctrl-C, which comes from outside the task
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    self.loop.run_until_complete(task)
            raise
