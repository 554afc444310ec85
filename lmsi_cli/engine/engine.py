"""The llama.cpp engine: one loaded model that draws paths, with an adapter on or off.

Knows how to size a KV cache for a set of requests; leaves the stepping to the sampler and the
meaning of the text to its callers. See ``base.py`` for the records.

    with LlamaEngine(Path("tinymath-f16.gguf"), EngineConfig()) as engine:
        for generated in engine.generate(requests, SamplingConfig(), "The answer is"): ...
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Generated, ModelInfo, Request
from lmsi_cli.engine.batched import BatchedSampler
from lmsi_cli.engine.calibrate import calibrate, worth_it
from lmsi_cli.engine.layout import (
    Choice,
    Flash,
    Layout,
    Need,
    bytes_of,
    lay_out,
    need_of,
    rule_of_thumb,
)
from lmsi_cli.engine.llama import (
    LlamaContext,
    LlamaModel,
    check_file,
    forget_complaints,
    last_complaint,
)
from lmsi_cli.errors import LmsiError

LOG = logging.getLogger(__name__)
MEMORY_SHARE = 0.7  # of the free memory that the KV cache may take
ONE = Choice(1, True, Flash.OFF)  # for a single sequence


class LlamaEngine:
    """One GGUF file, loaded once."""

    def __init__(self, path: Path, config: EngineConfig) -> None:
        self.path, self.config = path, config
        self.model = LlamaModel(path, gpu_layers=config.gpu_layers)
        self._adapters: dict[str, Any] = {}
        self._contexts: list[LlamaContext] = []  # open ones
        self._active: tuple[Any, float] = (None, 1.0)

    def __enter__(self) -> LlamaEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def info(self) -> ModelInfo:
        """What the file says of itself."""
        return self.model.info

    def encode(self, text: str) -> list[int]:
        """Prompt text to ids, with BOS if the model wants it."""
        return self.model.encode(text)

    def encode_tail(self, text: str) -> list[int]:
        """Continuation text to ids, without BOS."""
        return self.model.encode_tail(text)

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Switch an adapter on (loading it once), or off with ``None``."""
        self._active = (None if path is None else self._adapter(path), scale)

    def _adapter(self, path: str) -> Any:  # noqa: ANN401 - ctypes
        if path not in self._adapters:
            check_file(Path(path))
            forget_complaints()
            raw = self.model.lib.llama_adapter_lora_init(self.model.raw, path.encode())
            if not raw:
                raise LmsiError(
                    f"{path}: no adapter for {self.path}: {last_complaint() or 'no reason given'}",
                    hint="an adapter fits only the base it was trained on; train one for this base",
                )
            self._adapters[path] = raw
        return self._adapters[path]

    def generate(
        self, requests: Sequence[Request], sampling: SamplingConfig, trigger: str
    ) -> Iterator[Generated]:
        """Draw every wanted path; yields each as it ends.

        Raises:
            LmsiError: A prompt and its path do not fit the model's context (names the question),
                or the cache does not fit the memory.
        """
        requests = [r for r in requests if r.wanted]  # the others have no prompt either
        if not requests:
            return
        self._check_lengths(requests, sampling.max_tokens)
        with self._open(self.layout(need_of(requests, sampling.max_tokens))) as context:
            yield from BatchedSampler(context, sampling, trigger).run(requests)

    def layout(self, need: Need) -> Layout:
        """Choose a cache for requests; what the user set by hand stays as set."""
        layout = lay_out(need, self._choice(need), cells=self.config.ctx)
        self._check_memory(layout)
        LOG.info(
            "%d paths side by side, %s KV cache of %d cells, fused attention %s, %.0f MiB",
            layout.width,
            "unified" if layout.unified else "split",
            layout.cells,
            layout.flash.name.lower(),
            bytes_of(layout, self.model.sizes) / 2**20,
        )
        return layout

    def _choice(self, need: Need) -> Choice:
        config = self.config
        by_hand = config.parallel and config.kv != "auto"
        found = rule_of_thumb(need, gpu=bool(config.gpu_layers))
        if not (by_hand or config.ctx or config.gpu_layers) and worth_it(need):
            measured = calibrate(self.model, need, config.threads, self._fits_memory)
            found = measured.choice if measured else found
        split_by_hand = config.kv == "split"  # a number of cells means cells that all paths share
        return Choice(
            config.parallel or found.width,
            not split_by_hand if config.kv != "auto" or config.ctx else found.unified,
            found.flash if config.flash_attn == "auto" else Flash[config.flash_attn.upper()],
        )

    def _check_lengths(self, requests: Sequence[Request], max_tokens: int) -> None:
        room = self.info.context
        for r in requests:
            if len(r.prompt) + max_tokens > room:
                raise LmsiError(
                    f"question {r.question_id!r}{f' ({r.words})' if r.words else ''}: prompt of "
                    f"{len(r.prompt)} tokens and {max_tokens} for the path do not fit the model's "
                    f"context of {room}",
                    hint="shorten or remove the question, or lower --max-tokens",
                )

    @contextmanager
    def _open(self, layout: Layout) -> Iterator[LlamaContext]:
        """Make a cache with the adapter on, freed at the end or with the engine if that is first.

        llama.cpp crashes when a cache is freed after its model, which an unfinished ``generate``
        that somebody still holds would do.
        """
        context = LlamaContext(self.model, layout, self.config.threads)
        self._contexts.append(context)
        context.set_adapter(*self._active)
        try:
            yield context
        finally:
            context.close()
            self._contexts.remove(context)

    def _fits_memory(self, layout: Layout) -> bool:
        free = psutil.virtual_memory().available
        return bytes_of(layout, self.model.sizes) <= MEMORY_SHARE * free

    def _check_memory(self, layout: Layout) -> None:
        if not self._fits_memory(layout):
            need, free = bytes_of(layout, self.model.sizes), psutil.virtual_memory().available
            raise LmsiError(
                f"the KV cache needs {need / 2**30:.1f} GiB for {layout.width} paths side by side, "
                f"{free / 2**30:.1f} GiB are free",
                hint="lower --ctx, --parallel or --max-tokens, or close other programs",
            )

    def last_logits(self, prompts: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """Logits after each prompt's last token, shape (prompts, vocabulary), float32."""
        return np.stack([self._logits_of(p) for p in prompts])

    def _logits_of(self, prompt: Sequence[int]) -> NDArray[np.float32]:
        with self._open(lay_out(Need(0, len(prompt), 1, 1), ONE)) as context:
            batch = context.batch
            for at in range(0, len(prompt), batch.capacity):
                chunk = np.asarray(prompt[at : at + batch.capacity], np.int32)
                out = np.zeros(len(chunk), np.int8)
                out[-1] = at + len(chunk) == len(prompt)
                batch.clear()
                batch.add(chunk, np.arange(at, at + len(chunk), dtype=np.int32), 0, out)
                context.decode()
            last: NDArray[np.float32] = context.logits(1)[0].copy()
            return last

    def close(self) -> None:
        """Give the memory back."""
        for context in self._contexts:
            context.close()
        for adapter in self._adapters.values():
            self.model.lib.llama_adapter_lora_free(adapter)
        self._adapters.clear()
        self.model.close()
