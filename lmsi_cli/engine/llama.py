"""llama.cpp through its low-level bindings: the library and a loaded model with its tokenizer.

Knows tokens and sequences, but nothing of questions, paths or votes. Whatever is wrong with a
user's file ends in one LmsiError.

When one of its assertions fails, llama.cpp kills the process, and no exception can be raised
through its frames. So one line replaces its backtrace, and the process ends as after any other
error; finished work is already on the disk:

    error: m.gguf: llama.cpp gave up: llama-vocab.cpp:2544: GGML_ASSERT(...) failed
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from lmsi_cli.engine.cache_layout import Sizes
from lmsi_cli.engine.cpu_check import may_repack
from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import check_file, damaged, readers
from lmsi_cli.thinking import TOKENS

OWN_WORDS = r"^\w+: (error loading model: |failed to apply lora adapter: )?"  # before the reason
THINKING = {mark.encode() for mark in TOKENS}
CUT_SHORT = ("failed to read", "file bounds")  # in llama.cpp's complaints about broken files
LOADED = "the model in use"
BROKEN = "a damaged or unusual file, or a fault of llama.cpp: download it again, or use another one"
_log: deque[str] = deque(maxlen=50)  # llama.cpp's last warnings and errors
_interrupts: list[BaseException] = []
_file: Path | str = LOADED  # the file that is being loaded
_callback: Any = None  # ctypes callbacks die with their last reference


def library() -> Any:  # noqa: ANN401 - an untyped module
    """Import llama_cpp, silence it, and keep its complaints for our own messages."""
    global _callback
    import llama_cpp

    if _callback is None:
        _callback = llama_cpp.llama_log_callback(_remember)
        sys.unraisablehook = keep_interrupt
        # a library too old to have this hook keeps its backtrace
        if setter := getattr(llama_cpp.llama_cpp._lib, "ggml_set_abort_callback", None):
            setter(_on_abort)
        llama_cpp.llama_backend_init()
    # each time, since other users of llama_cpp in this process may have set another
    llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))
    return llama_cpp


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)  # type: ignore[untyped-decorator]
def _on_abort(said: bytes) -> None:
    reason = re.sub(r"^\S*/", "", said.decode(errors="replace").strip())  # the builder's folders
    line = f"error: {_file}: llama.cpp gave up: {reason}"
    shown = "".join(c if c.isprintable() else "?" for c in line)
    os.write(2, f"\n{shown}\nhint: {BROKEN}\n".encode())
    os._exit(1)


def _remember(level: int, text: bytes, _data: object) -> None:
    if level >= 3:  # GGML_LOG_LEVEL_WARN
        _log.append(text.decode(errors="replace").strip())


def keep_interrupt(dropped: Any) -> None:  # noqa: ANN401 - sys.UnraisableHookArgs
    """Keep an interrupt that arrived in ``_remember``, where Python can only drop it."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        _interrupts.append(dropped.exc_value or dropped.exc_type())
    else:
        sys.__unraisablehook__(dropped)


def raise_interrupt() -> None:
    """Raise an interrupt that came while llama.cpp wrote its log; called after every long call."""
    if _interrupts:
        first = _interrupts[0]
        _interrupts.clear()
        raise first


def tried(file: Path, call: Callable[..., Any], *given: object) -> tuple[Any, str]:
    """Let llama.cpp work on a file: what it returns, and its first error line, if it wrote one.

    If it aborts meanwhile, the error line names the file.
    """
    global _file
    _file = file
    _log.clear()
    try:
        found = call(*given)
    finally:
        _file = LOADED
    raise_interrupt()
    lines = [line for line in _log if "error" in line.lower() or "fail" in line.lower()]
    return found, re.sub(OWN_WORDS, "", lines[0]) if lines else ""


def default_threads() -> int:
    """Physical cores this process may use: hyper-threads only compete for the same units."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed or 1))


class LlamaModel:
    """One loaded GGUF file and its tokenizer."""

    def __init__(self, path: Path, gpu_layers: int = 0, vocab_only: bool = False) -> None:
        check_file(path)
        self.path, self.lib, self.gpu_layers = path, library(), gpu_layers
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = gpu_layers, vocab_only
        self.repacked = not vocab_only and may_repack()
        params.use_extra_bufts = vocab_only or self.repacked
        load = self.lib.llama_model_load_from_file
        self.raw, reason = tried(path, load, str(path).encode(), params)
        if not self.raw:
            raise _cannot_load(path, reason or "no reason given")
        self.vocab = self.lib.llama_model_get_vocab(self.raw)
        self.n_vocab: int = self.lib.llama_vocab_n_tokens(self.vocab)
        self._pieces: dict[int, bytes] = {}
        self.architecture = self.meta("general.architecture") or "unknown"
        self.parameters: int = self.lib.llama_model_n_params(self.raw)
        self.bytes: int = self.lib.llama_model_size(self.raw)
        self.context: int = self.lib.llama_model_n_ctx_train(self.raw)
        if not vocab_only and (other := self._other_use()):
            self.close()
            raise LmsiError(f"{path}: {other}", hint="use a model made for text generation")

    def _other_use(self) -> str:
        """Why the model cannot write text from left to right; empty if it can."""
        arch = self.architecture
        pooled = self.meta(f"{arch}.pooling_type") not in (None, "0")
        causal = self.meta(f"{arch}.attention.causal") != "false"
        if pooled or not causal or not self.lib.llama_model_has_decoder(self.raw):
            return "this is an embedding model; it cannot write text"
        if self.lib.llama_model_has_encoder(self.raw):
            return "this model has an encoder; lmsi can use only models that go on with a text"
        if self.lib.llama_vocab_type(self.vocab) == self.lib.LLAMA_VOCAB_TYPE_NONE:
            return "this file has no tokenizer"
        return ""

    def meta(self, key: str) -> str | None:
        """A metadata value as text, or None."""
        buffer = ctypes.create_string_buffer(4096)
        size = self.lib.llama_model_meta_val_str(self.raw, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if size >= 0 else None

    @property
    def sizes(self) -> Sizes:
        """What the cache's memory depends on; ``kv`` counts the numbers of all heads of a layer."""
        lib, raw = self.lib, self.raw
        width, heads = lib.llama_model_n_embd(raw), max(1, lib.llama_model_n_head(raw))
        arch = self.architecture
        kv = [self.meta(f"{arch}.attention.{x}_length") or width // heads for x in ("key", "value")]
        return Sizes(
            layers=lib.llama_model_n_layer(raw),
            width=width,
            heads=heads,
            kv=lib.llama_model_n_head_kv(raw) * sum(map(int, kv)),
            vocabulary=self.n_vocab,
        )

    @property
    def eos(self) -> int | None:
        """The end-of-text token, if there is one."""
        token = int(self.lib.llama_vocab_eos(self.vocab))
        return token if token >= 0 else None

    def encode(self, text: str) -> list[int]:
        """Prompt text to ids, with BOS if the model wants it; never with EOS, which ends a text."""
        ids = self.tokenize(text)
        wanted = bool(self.lib.llama_vocab_get_add_bos(self.vocab))
        return [int(self.lib.llama_vocab_bos(self.vocab)), *ids] if wanted else ids

    def encode_tail(self, text: str) -> list[int]:
        """Continuation text to ids, without BOS.

        SentencePiece vocabularies put a space before any text. A continuation brings its own, and
        two would be a different token from the one that the model writes after a prompt.
        """
        return self.tokenize(text.removeprefix(" ") if self.adds_space() else text)

    def adds_space(self) -> bool:
        """Whether this vocabulary puts a space before any text that starts or follows a mark."""
        spm = self.lib.llama_vocab_type(self.vocab) == self.lib.LLAMA_VOCAB_TYPE_SPM
        return spm and self.meta("tokenizer.ggml.add_space_prefix") != "false"

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        """Text to ids; unless ``special``, control tokens are read as plain text."""
        data = text.encode()
        room = len(data) + 8
        ids = (ctypes.c_int32 * room)()
        n = self.lib.llama_tokenize(self.vocab, data, len(data), ids, room, False, special)
        if n < 0:
            raise RuntimeError(f"llama_tokenize wants {-n} tokens for {len(data)} bytes")
        return list(ids[:n])

    def piece(self, token: int) -> bytes:
        """The bytes a token writes; control tokens, except a thinking block's, write nothing."""
        if token not in self._pieces:
            spelt = self.spelling(token)
            shown = spelt in THINKING or not self.is_control(token)
            self._pieces[token] = spelt if shown else b""
        return self._pieces[token]

    def spelling(self, token: int) -> bytes:
        """The bytes of a token, control tokens included."""
        size = -self.lib.llama_token_to_piece(self.vocab, token, None, 0, 0, True)
        buffer = ctypes.create_string_buffer(size)
        self.lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, True)
        return buffer.raw

    def is_control(self, token: int) -> bool:
        """Whether a token stands for no text: a mark that only a template or the model may set."""
        hidden = self.lib.LLAMA_TOKEN_ATTR_CONTROL | self.lib.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(self.lib.llama_vocab_get_attr(self.vocab, token) & hidden)

    def ends(self, token: int) -> bool:
        """Whether the token ends a text or a turn."""
        return bool(self.lib.llama_vocab_is_eog(self.vocab, token))

    def close(self) -> None:
        """Free the weights."""
        if self.raw:
            self.lib.llama_model_free(self.raw)
            self.raw = None


def _cannot_load(path: Path, reason: str) -> LmsiError:
    if any(words in reason for words in CUT_SHORT):
        return damaged(path, reason)
    readers(path)  # raises a clearer error for a file that is no whole model
    return LmsiError(
        f"{path}: llama.cpp cannot load it: {reason}",
        hint="upgrade llama-cpp-python, or use another model",
    )


def vocabulary(path: Path) -> closing[LlamaModel]:
    """Load only the tokenizer of a GGUF file, for a ``with``: a few megabytes."""
    return closing(LlamaModel(path, vocab_only=True))
