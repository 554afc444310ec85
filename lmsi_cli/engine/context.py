"""A KV cache over a loaded model, and the batches that are decoded into it, as numpy arrays.

Knows tokens and sequences, but nothing of questions, paths or votes. A batch of two tokens of two
sequences:

    batch.token [318, 26]  batch.pos [61, 61]  batch.seq [3, 4]  batch.out [1, 1]
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.engine import cpu_check
from lmsi_cli.engine.cache_layout import BATCH, Layout
from lmsi_cli.engine.checks import NoMemoryError
from lmsi_cli.engine.llama import LlamaModel, default_threads, raise_interrupt, tried
from lmsi_cli.errors import LmsiError


class Batch:
    """A llama_batch whose arrays are numpy arrays; capacity in tokens."""

    def __init__(self, capacity: int) -> None:
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.seq = np.zeros(capacity, np.int32)
        self.out = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        self._rows = (self.seq.ctypes.data + 4 * np.arange(capacity)).astype(np.uint64)
        self.size = 0

    def fill(self, tokens: NDArray[np.int32], pos: NDArray[np.int32], seq: Any, out: Any) -> None:  # noqa: ANN401 - scalars or arrays
        """Take tokens in place of others; ``seq`` and ``out`` are one value or one per token."""
        self.size = len(tokens)
        self.token[: self.size], self.pos[: self.size] = tokens, pos
        self.seq[: self.size], self.out[: self.size] = seq, out

    def raw(self, lib: Any) -> Any:  # noqa: ANN401 - ctypes
        """View the arrays as llama.cpp's own struct, without copying."""

        def at(a: NDArray[Any], kind: Any) -> Any:  # noqa: ANN401 - ctypes
            return ctypes.cast(a.ctypes.data, ctypes.POINTER(kind))  # data_as would leave cycles

        return lib.llama_batch(
            n_tokens=self.size,
            embd=None,
            token=at(self.token, ctypes.c_int32),
            pos=at(self.pos, ctypes.c_int32),
            n_seq_id=at(self._one, ctypes.c_int32),
            seq_id=at(self._rows, ctypes.POINTER(ctypes.c_int32)),
            logits=at(self.out, ctypes.c_int8),
        )


class LlamaContext:
    """A KV cache over one model; sequences share cells through ``share``."""

    def __init__(self, model: LlamaModel, layout: Layout, threads: int) -> None:
        self.model, self.lib, self.layout = model, model.lib, layout
        params = self.lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = layout.cells, layout.sequences
        params.kv_unified = layout.unified
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads or default_threads()
        params.flash_attn_type = int(layout.flash)
        params.no_perf = True
        self.raw, why = tried(model.path, self.lib.llama_init_from_model, model.raw, params)
        if not self.raw:
            raise NoMemoryError(
                f"{model.path}: no KV cache of {layout.cells} cells: {why or 'out of memory?'}",
                hint="lower --max-tokens or --set ctx, close programs, or take a smaller model",
            )
        self.memory = self.lib.llama_get_memory(self.raw)
        self.batch = Batch(BATCH)

    def decode(self, tokens: NDArray[np.int32], pos: NDArray[np.int32], seq: Any, out: Any) -> None:  # noqa: ANN401 - as in ``Batch``
        """Decode a batch of tokens into the cache."""
        self.batch.fill(tokens, pos, seq, out)
        cpu_check.check_repacked(self.model.repacked)
        code = self.lib.llama_decode(self.raw, self.batch.raw(self.lib))
        raise_interrupt()
        if code == 1:
            cells = self.lib.llama_n_ctx(self.raw)
            raise LmsiError(
                f"the KV cache of {cells} cells is full", hint="raise --set ctx, or leave it out"
            )
        if code != 0:
            raise LmsiError(
                f"{self.model.path}: llama.cpp failed to decode (code {code})",
                hint="run `lmsi doctor`",
            )

    def read(self, tokens: Sequence[int] | NDArray[np.int32], start: int, sequence: int) -> None:
        """Put tokens into the cache from position ``start`` on; only the last one has logits."""
        for at in range(0, len(tokens), BATCH):
            chunk = np.asarray(tokens[at : at + BATCH], np.int32)
            pos = np.arange(start + at, start + at + len(chunk), dtype=np.int32)
            self.decode(chunk, pos, sequence, pos + 1 == start + len(tokens))

    def logits(self, rows: int) -> NDArray[np.float32]:
        """Logits of the batch's output tokens in order, shape (rows, vocabulary).

        A view of llama.cpp's buffer: it changes with the next decode.
        """
        pointer = self.lib.llama_get_logits(self.raw)
        return np.ctypeslib.as_array(pointer, shape=(rows, self.model.n_vocab))

    def share(self, source: int, target: int) -> None:
        """Let ``target`` see all cells of ``source``, without copying them."""
        self.lib.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def drop(self, sequence: int) -> None:
        """Forget a sequence; cells that nobody else sees become free."""
        self.lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def saved(self, sequence: int) -> Any:  # noqa: ANN401 - a ctypes buffer
        """A sequence's cells, as bytes that ``restore`` takes."""
        size = self.lib.llama_state_seq_get_size(self.raw, sequence)
        state = (ctypes.c_uint8 * size)()
        self.lib.llama_state_seq_get_data(self.raw, state, size, sequence)
        return state

    def restore(self, state: Any, sequence: int) -> None:  # noqa: ANN401 - a ctypes buffer
        """Give a sequence saved cells of its own."""
        if not self.lib.llama_state_seq_set_data(self.raw, state, len(state), sequence):
            raise RuntimeError("llama.cpp did not take its own saved cells")

    def set_adapter(self, adapter: Any, scale: float) -> None:  # noqa: ANN401 - ctypes
        """Apply an adapter from here on, or none."""
        if adapter is None:
            self.lib.llama_set_adapters_lora(self.raw, None, 0, None)
            return
        adapters = (self.lib.llama_adapter_lora_p_ctypes * 1)(adapter)
        self.lib.llama_set_adapters_lora(self.raw, adapters, 1, (ctypes.c_float * 1)(scale))

    def close(self) -> None:
        """Free the cache."""
        if self.raw:
            self.lib.llama_free(self.raw)
            self.raw = None
