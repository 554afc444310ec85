"""The engine for OpenAI-compatible servers: llama-server, vLLM, SGLang, Ollama, cloud services.

Knows one server and one of its models by name, with adapters under their own names; leaves the
meaning of the text to its callers. There is no vocabulary here, so prompts are sent as text or
messages, and the server decides whether one fits the context.

    with ServerEngine("tinymath", ServerConfig(base_url="http://127.0.0.1:8000/v1")) as engine:
        for generated in engine.generate(requests, SamplingConfig(), "The answer is"): ...
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from lmsi_cli.config import SamplingConfig, ServerConfig, Variables
from lmsi_cli.engine.base import Encoded, Engine, Generated, Refusal, Request, Wanted, Watch
from lmsi_cli.engine.server.client import AGAIN, Client, FailedError, MissingError, RefusedError
from lmsi_cli.engine.server.replies import Listed, Models, Reply, ReplyChecks
from lmsi_cli.engine.server.requests import LOGPROBS, Ask, Capabilities, context_in, too_many
from lmsi_cli.engine.server.scheduler import Scheduler
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Prompt

LOG = logging.getLogger(__name__)
LASTING = ("n_params", "n_vocab", "size")  # llama-server's facts about a file; a restart keeps them
ANSWERS_AS = "answers_as"  # in run.toml: the model that the server's replies name


class Loop:
    """An event loop; in a thread of its own where the caller's runs one already: in a notebook."""

    def __init__(self) -> None:
        self._runner, self._thread = asyncio.Runner(), ThreadPoolExecutor(1)
        self._here = asyncio._get_running_loop() is None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - as the work
        """Run some work to its end; Ctrl-C cancels it."""
        if self._here:
            return self._runner.run(work)
        try:
            return self._thread.submit(self._runner.run, work).result()
        except KeyboardInterrupt:
            for task in asyncio.all_tasks(loop := self._runner.get_loop()):
                loop.call_soon_threadsafe(task.cancel)
            raise

    def close(self) -> None:
        """Close the loop, in the thread where it ran."""
        if self._here:
            self._runner.close()
        else:
            self._thread.submit(self._runner.close).result()


class ServerEngine(Engine):
    """One model of one server."""

    context = sys.maxsize  # without token ids, only the server knows what fits

    def __init__(self, model: str, config: ServerConfig, answers_as: str = "") -> None:
        """Reach the server and find the model in its list.

        ``answers_as``: the model that replies named when the run was begun; empty: not known.
        LmsiError: no address, a missing or refused key, no server there, or no such model.
        """
        self.base, self.model, self.config = model, model, config
        self.named = {model: answers_as} if answers_as else {}
        self.can = Capabilities(config.per_request)
        self.client = Client(config)
        self.url, self.checks = self.client.url, ReplyChecks(self.client.said)
        self._refused: list[Refusal] = []
        self._shortest = 0  # tokens of the shortest prompt that was looked at; 0: not known
        self.loop = Loop()
        try:
            self.listed: list[Listed] | None = self.loop.run(self._list())
            self.stated = self._find(model)
        except BaseException:  # even Ctrl-C: the caller cannot close what it never got
            self.close()
            raise
        self.known_context = self.stated.context if self.stated else None

    @property
    def identity(self) -> dict[str, Any]:
        """What ties a run to this server and model: names, and facts that outlive a restart."""
        fields: dict[str, Any] = {"server": self.url.host, "model": self.base}
        if self.stated is not None:
            meta = self.stated.meta or {}
            facts = {k: meta[k] for k in LASTING if k in meta}
            facts |= {"root": self.stated.root} if self.stated.root else {}
            fields["model_stated"] = self.stated.id
            fields |= {"model_facts": json.dumps(facts, sort_keys=True)} if facts else {}
        return fields

    @property
    def settled(self) -> dict[str, int | str]:
        """What the server was found to do, and the model that its replies name."""
        named = self.named.get(self.base, "")
        return {**self.can.settings(), **({ANSWERS_AS: named} if named else {})}

    def pin(self, kind: Mapping[str, int | str]) -> None:
        """Do nothing: there is no cache to choose here."""

    def refusals(self) -> list[Refusal]:
        """Questions that could not be finished since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def encode_prompt(self, prompt: Prompt, variables: Variables = ()) -> Encoded:
        """Return no ids: the server keeps the vocabulary."""
        return Encoded([])

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Switch to the model under which the server offers base and adapter together, or back.

        LmsiError: the server does not list it.
        """
        if path is not None:
            self._find(path)
        self.model = path or self.base

    def first_body(self, request: Request, sampling: SamplingConfig) -> dict[str, Any]:
        """The request that would be sent for the first path, for a person to read."""
        ask = Ask(self.model, request, request.wanted[:1], sampling, sampling.max_tokens)
        return {"POST": f"{self.url}{ask.path}", **self.can.body(ask)}

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> Iterator[Generated]:
        """Draw every wanted path that ``watch`` still needs; yields each as it arrives.

        LmsiError: the server is gone, wants another key, answers with another model, or refuses all
        requests. Single questions that fail become ``refusals``.
        """
        wanted = [r for r in requests if r.wanted]
        if not wanted:
            return
        ask = partial(self._draw, sampling=sampling)
        together = sampling.temperature > 0  # servers refuse several greedy paths: all are equal
        scheduler = Scheduler(wanted, ask, self.can, self.config.concurrency, watch, together)
        try:
            self.loop.run(self._look(wanted, sampling))
            while (ended := self.loop.run(scheduler.step(trigger))) is not None:
                yield from ended
                scheduler.settle({g.question_id for g in ended})
        except FailedError as e:
            raise self._gone(e) from None
        finally:
            self.loop.run(scheduler.stop())
            self._refused += scheduler.refusals.values()

    def close(self) -> None:
        """Close the connections, and log the final warnings about the replies."""
        self.loop.run(self.client.close())
        self.loop.close()
        self.checks.close()

    # -- asking ----------------------------------------------------------------------------

    async def _look(self, requests: Sequence[Request], sampling: SamplingConfig) -> None:
        """Ask for one token after the shortest prompt, to learn what the server accepts.

        If several paths are wanted, it asks for two, and counts the choices in the reply.
        LmsiError: not even the shortest prompt leaves room for ``--max-tokens``.
        """
        several = sampling.temperature > 0 and max(len(r.wanted) for r in requests) > 1
        asks = [Ask(self.model, r, r.wanted[:1] * (1 + several), sampling, 1) for r in requests]
        if not self.can.proven:
            with suppress(RefusedError, FailedError):  # the scheduler meets it again and reports it
                first = await self._first(min(asks, key=lambda ask: ask.letters))
                self._shortest = first.prompt_tokens
        if error := too_many(self.known_context, self._shortest, sampling.max_tokens):
            raise error

    async def _first(self, ask: Ask) -> Reply:
        """Get the first reply; some servers just fail if asked for log-probabilities."""
        try:
            return await self._send(ask, tries=2)
        except FailedError as e:
            if e.status < 500:
                raise
            reply = await self._send(ask, tries=1, without=LOGPROBS)
            self.can.drop(LOGPROBS, str(e))
            return reply

    async def _draw(
        self, request: Request, wanted: tuple[Wanted, ...], sampling: SamplingConfig
    ) -> Reply:
        """Ask for paths of one prompt."""
        ask = Ask(self.model, request, wanted, sampling, sampling.max_tokens)
        try:
            reply = await self._send(ask)
        except RefusedError as e:
            raise await self._blame(ask, e) from None
        self.checks.look(ask.letters, reply)
        return reply

    async def _blame(self, ask: Ask, refused: RefusedError) -> Exception:
        """Find out if the prompt or ``--max-tokens`` is too long, by asking for 1 token."""
        reason = refused.reason
        if not refused.too_long:
            return refused
        try:
            prompt = (await self._send(ask._replace(wanted=ask.wanted[:1], tokens=1))).prompt_tokens
        except RefusedError:
            return RefusedError(refused.status, f"its prompt is too long: {reason}")
        except FailedError:
            return refused
        self.known_context = self.known_context or context_in(reason, prompt, ask.tokens)
        reason = f"beside its prompt --max-tokens {ask.tokens} is too much: {reason}"
        unfit = too_many(self.known_context, self._shortest, ask.tokens)
        return unfit or RefusedError(refused.status, reason)

    async def _send(
        self, ask: Ask, tries: int | None = None, without: Set[str] = frozenset()
    ) -> Reply:
        """Send a request, rewritten as long as there is a remedy for the server's refusal."""
        while True:
            ask = ask._replace(wanted=ask.wanted[: self.can.most])
            body = self.can.body(ask, without)
            try:
                reply = await self.client.call(ask.path, body, Reply, tries)
                break
            except RefusedError as e:
                if not self.can.remedy(e, ask, body):
                    raise
        self.can.answered(ask, reply)
        named = self.client.said(reply.model or "")
        before = self.named.setdefault(ask.model, named)
        if named and before and named != before:
            raise LmsiError(
                f"{self.url}: the server answers with another model, {named}; "
                f"it was {before} before",
                hint="one run folder holds the paths of one model: ask the old one, or use "
                "another folder",
            )
        return reply

    # -- the server ------------------------------------------------------------------------

    async def _list(self) -> list[Listed] | None:
        """The server's models, or None if it does not list them; waits while it is loading."""
        try:
            kind: Any = Models | list[Listed]  # Together sends the bare list
            found = await self.client.call("/models", None, kind)
            return found if isinstance(found, list) else found.data or []
        except FailedError as e:
            raise self._gone(e) from None
        except (MissingError, RefusedError):
            LOG.warning("note: %s does not list its models", self.url)
            return None

    def _gone(self, last: FailedError) -> LmsiError:
        problem = f"the server fails again and again, the last time with: {last}"
        return LmsiError(f"{self.url}: {problem}", AGAIN)

    def _find(self, model: str) -> Listed | None:
        """A model in the server's list; Ollama lets its tag ``:latest`` be left out."""
        if self.listed is None:
            return None
        found = next((m for m in self.listed if m.id in (model, f"{model}:latest")), None)
        if found is None:
            names = ", ".join(self.client.said(m.id) for m in self.listed) or "none"
            problem = f"the server has no model {model!r}; it has: {names}"
            raise LmsiError(f"{self.url}: {problem}", hint="choose one with --model NAME")
        return found
