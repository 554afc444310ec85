"""The llama.cpp engine: one loaded model that draws paths, with an adapter on or off.

Knows how to size a KV cache for a set of requests; leaves the stepping to the sampler and the
meaning of the text to its callers. See ``base.py`` for the records.

    with LlamaEngine(Path("tinymath-f16.gguf"), EngineConfig()) as engine:
        for generated in engine.generate(requests, SamplingConfig(), "The answer is"): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Encoded, Generated, ModelInfo, Request
from lmsi_cli.engine.batched import BatchedSampler, shared_prefix
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.llama import (
    LlamaContext,
    LlamaModel,
    check_file,
    forget_complaints,
    last_complaint,
)
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Prompt

AUTO_WIDTH = 32  # measured best on two cores for the embedded model; wider pays in attention
PAGE = 256  # llama.cpp rounds the cache up to this many cells
MEMORY_SHARE = 0.7  # of the free memory that the KV cache may take


class LlamaEngine:
    """One GGUF file, loaded once."""

    def __init__(self, path: Path, config: EngineConfig) -> None:
        self.path, self.config = path, config
        self.model = LlamaModel(path, gpu_layers=config.gpu_layers)
        self.encoder = Encoder(self.model)
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

    def encode_prompt(self, prompt: Prompt) -> Encoded:
        """Plain text or a conversation to the ids that a path is drawn from."""
        return self.encoder.prompt(prompt)

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
        width = min(self.config.parallel or AUTO_WIDTH, sum(len(r.wanted) for r in requests))
        with self._open(*self._cells(requests, width, sampling.max_tokens)) as context:
            yield from BatchedSampler(context, width, sampling, trigger).run(requests)

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

    def _cells(self, requests: Sequence[Request], width: int, max_tokens: int) -> tuple[int, int]:
        """Size a cache: its cells, and its sequences."""
        prefix = shared_prefix([r.prompt for r in requests])
        longest = max(len(r.prompt) for r in requests) - prefix
        # every path may sit on a question of its own, and the next questions are read ahead
        cells = prefix + width * (2 * longest + max_tokens) + PAGE
        cells = self.config.ctx or -(-cells // PAGE) * PAGE
        self._check_memory(cells)
        return cells, 2 * width + 1

    @contextmanager
    def _open(self, cells: int, sequences: int) -> Iterator[LlamaContext]:
        """Make a cache with the adapter on, freed at the end or with the engine if that is first.

        llama.cpp crashes when a cache is freed after its model, which an unfinished ``generate``
        that somebody still holds would do.
        """
        context = LlamaContext(self.model, cells, sequences, self.config.threads)
        self._contexts.append(context)
        context.set_adapter(*self._active)
        try:
            yield context
        finally:
            context.close()
            self._contexts.remove(context)

    def _check_memory(self, cells: int) -> None:
        need, free = cells * self._bytes_per_cell(), psutil.virtual_memory().available
        if need > MEMORY_SHARE * free:
            raise LmsiError(
                f"the KV cache needs {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
                hint="lower --ctx, --parallel or --max-tokens, or close other programs",
            )

    def _bytes_per_cell(self) -> int:
        """Bytes of keys and values in 16 bits for one token over all layers."""
        lib, raw = self.model.lib, self.model.raw
        width = lib.llama_model_n_embd(raw) // max(1, lib.llama_model_n_head(raw))
        heads, layers = lib.llama_model_n_head_kv(raw), lib.llama_model_n_layer(raw)
        return int(2 * 2 * layers * heads * width)

    def last_logits(self, prompts: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """Logits after each prompt's last token, shape (prompts, vocabulary), float32."""
        return np.stack([self._logits_of(p) for p in prompts])

    def _logits_of(self, prompt: Sequence[int]) -> NDArray[np.float32]:
        with self._open(len(prompt) + PAGE, 1) as context:
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
