"""The llama.cpp engine: one loaded model that draws paths, with an adapter on or off.

Knows how to size a KV cache for a set of requests; leaves the stepping to the sampler and the
meaning of the text to its callers. See ``base.py`` for the records.

    with LlamaEngine(Path("tinymath-f16.gguf"), EngineConfig()) as engine:
        for generated in engine.generate(requests, SamplingConfig(), "The answer is"): ...
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lmsi_cli.config import EngineConfig, SamplingConfig, Variables
from lmsi_cli.engine.base import Encoded, Engine, Generated, Request, Watch
from lmsi_cli.engine.batched import BatchedSampler
from lmsi_cli.engine.cache_layout import CacheKind, Flash, Layout, Need, bytes_of, lay_out, need_of
from lmsi_cli.engine.calibrate import MORE_STEPS, Pace, choose, measure, sized
from lmsi_cli.engine.checks import HINT, Mark, NoMemoryError, NotNumbersError, not_numbers, split
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.cpu_check import gpu_layers
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.fast_copy import fastest, measured
from lmsi_cli.engine.llama import LlamaModel, library, tried
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Prompt
from lmsi_cli.splits import check_file

LOG = logging.getLogger(__name__)
ONE = CacheKind(1, True, Flash.OFF)  # for a single sequence


class LlamaEngine(Engine):
    """One GGUF file, loaded once."""

    def __init__(self, path: Path, config: EngineConfig) -> None:
        self.path, self.config = path, config
        self.mark = Mark(path)  # before loading, so that no later change goes unnoticed
        layers = gpu_layers(config.gpu_layers, library())
        wish = "off" if layers else config.fast_copy
        self.file = fastest(path, wish, config.threads)
        self.model = LlamaModel(self.file, gpu_layers=layers)
        self.context = self.model.context
        self.encoder = Encoder(self.model, named=path)
        self._adapters: dict[str, Any] = {}
        self._contexts: list[LlamaContext] = []  # those that are open
        self._active: tuple[Any, float] = (None, 1.0)
        self._adapter_name: str | None = None
        self._layout: Layout | None = None  # of the last cache that paths were drawn in
        self._fits = sys.maxsize  # paths side by side that the memory is known to hold

    @property
    def settled(self) -> dict[str, int | str]:
        """The values that ``auto`` settled on, by setting; empty before the first path."""
        if self._layout is None:
            return {}
        if self.file == self.path:
            return {**self._layout.settings, "fast_copy": "off"}
        return {**self._layout.settings, "fast_copy": "on", **measured(self.path)}

    def pin(self, kind: Mapping[str, int | str]) -> None:
        """Draw all later paths in this kind of cache, however long they are."""
        self.config = msgspec.structs.replace(self.config, **kind)

    def encode(self, text: str) -> list[int]:
        """Prompt text to ids, with BOS if the model wants it."""
        return self.model.encode(text)

    def encode_prompt(self, prompt: Prompt, variables: Variables = ()) -> Encoded:
        """Turn plain text or a conversation into the ids that a path is drawn from."""
        return self.encoder.given(variables).prompt(prompt)

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Switch an adapter on (loading it once), or off with ``None``."""
        if path is not None and path not in self._adapters:
            check_file(Path(path))
            load = self.model.lib.llama_adapter_lora_init
            raw, reason = tried(Path(path), load, self.model.raw, path.encode())
            if not raw:
                raise LmsiError(
                    f"{path}: no adapter for {self.path}: {reason or 'no reason given'}",
                    hint="an adapter fits only the base it was trained on; train one for this base",
                )
            self._adapters[path] = raw
        self._active = (self._adapters.get(path or ""), scale)
        self._adapter_name = path

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> Iterator[Generated]:
        """Draw every wanted path that ``watch`` still needs; yields each as it ends.

        LmsiError: a prompt and its path do not fit the model's context (names the question), not
        even a cache for one path fits the memory, the file has changed since it was loaded, or the
        model computes NaN.
        """
        if not any(r.wanted for r in requests):
            return
        # only a guard: the stages have already left out what does not fit
        if skipped := split(requests, sampling.max_tokens, self.context).skipped:
            raise LmsiError(str(skipped[0]), hint=HINT)
        self.mark.check()
        try:
            for generated in self._draw(requests, sampling, trigger, watch):
                self.mark.check()
                yield generated
        except NotNumbersError as e:
            raise not_numbers(str(e), self.path, self._adapter_name) from None

    def _draw(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None,
    ) -> Iterator[Generated]:
        need = need_of(requests, sampling.max_tokens)
        with closing(self._widest(need, watch is not None)) as context:
            self._layout = context.layout
            mib = bytes_of(context.layout, self.model.sizes) / 2**20
            LOG.info("KV cache: %s, %.0f MiB", context.layout.settings, mib)
            yield from BatchedSampler(context, sampling, trigger, watch).run(requests)

    def pace(self, need: Need) -> tuple[Layout, Pace]:
        """The cache that a job would get, and its speed; LmsiError: it does not fit the memory."""
        kind = choose(self.model, self.config, need)
        layout = sized(self.model, self.config, need, kind)
        kind = kind._replace(width=layout.width)
        rates, read = measure(self.model, need, [kind], self.config.threads, MORE_STEPS)
        return layout, Pace(rates[kind], read)

    def _widest(self, need: Need, watched: bool) -> LlamaContext:
        """Open a cache for the chosen number of paths side by side, or half of it, and so on.

        NoMemoryError: not even one path fits.
        """
        kind = choose(self.model, self.config, need)
        # two for a single path: a width of one stands for rows that are not padded, with other bits
        width = fits = min(kind.width, max(need.paths, 2), self._fits)
        while True:
            try:
                fitting = kind._replace(width=fits)
                context = self._open(sized(self.model, self.config, need, fitting, watched))
            except NoMemoryError as e:
                if fits == 1:
                    raise
                fits, reason = fits // 2, str(e)
                continue
            if fits < width:
                said = "note: %d paths are drawn side by side, not %d: %s"
                LOG.warning(said, fits, width, reason)
                self._fits = fits  # so that it is said only once
            return context

    def _open(self, layout: Layout) -> LlamaContext:
        """Make a cache with the adapter on; ``close`` frees it if the caller has not.

        llama.cpp crashes if a cache is freed after its model, which would happen when somebody
        still holds an unfinished ``generate``.
        """
        context = LlamaContext(self.model, layout, self.config.threads)
        self._contexts = [c for c in self._contexts if c.raw]
        self._contexts.append(context)
        context.set_adapter(*self._active)
        return context

    def last_logits(self, prompts: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """Logits after each prompt's last token, shape (prompts, vocabulary), float32."""
        found = []
        for prompt in prompts:
            with closing(self._open(lay_out(Need(0, len(prompt), 1, 1), ONE))) as context:
                context.read(prompt, 0, 0)
                found.append(context.logits(1)[0].copy())
        return np.stack(found)

    def close(self) -> None:
        """Free the memory."""
        for context in self._contexts:
            context.close()
        for adapter in self._adapters.values():
            self.model.lib.llama_adapter_lora_free(adapter)
        self._adapters.clear()
        self.model.close()
