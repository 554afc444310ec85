"""A faster copy of a model file: the same weights in another type, if this CPU is slow at theirs.

llama.cpp has no good kernels for some types: on a machine with AMX, a file that is mostly Q5_0
writes at less than half the speed of its Q8_0 copy. A CPU with AMX is fastest in Q8_0, one that
multiplies BF16 in BF16, one with int8 dot products in Q8_0, and any other in F16, since unpacking
small types costs it more than reading twice the bytes. llama.cpp's own quantiser makes the copy
(``quantise``, also used by exports). It is used if it is much faster and the same model: on a text
of 512 tokens its next-token distributions are close to the original's. The verdict is kept beside
it:

    {"copy": "1d9614638d18024d-q8_0.gguf", "faster": 2.4, "divergence": 0.0004, "agreeing": 0.99}
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from lmsi_cli.atomic import cache_folder
from lmsi_cli.config import FastCopy
from lmsi_cli.engine.cache_layout import CacheKind, Flash, Need, lay_out
from lmsi_cli.engine.calibrate import measure
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.cpu_check import build_id, recall, remember
from lmsi_cli.engine.llama import LlamaModel, default_threads, library, tried
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.splits import parts_of, tensors

LOG = logging.getLogger(__name__)
SLOW = {"Q5_0", "Q5_1", "Q4_1", "Q2_K", "Q3_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
        "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"}  # fmt: skip
FAST = {"F16", "Q4_0", "Q4_K"}  # fast as they are where a copy has 16 bits
# The type a CPU is fastest in, by the first of these features (llama.cpp's names) that it has.
BY_FEATURE = {"AMX": "Q8_0", "AVX512_BF16": "BF16", "VNNI": "Q8_0", "DOTPROD": "Q8_0",
              "MATMUL_INT8": "Q8_0", "SVE": "Q8_0"}  # fmt: skip
SHARE = {"Q8_0": 0.25, "F16": 0.5, "BF16": 0.5}  # of the weights must be in slow types for a try
FASTER = 1.3  # a copy has to be this many times as fast as the original
DIVERGENCE = 0.01  # nats: mean Kullback-Leibler divergence of the next token's distribution
SMALLEST = 64 << 20  # bytes of a file; smaller ones are fast in any type
BYTES = {"Q8_0": 34 / 32, "F16": 2.0, "BF16": 2.0}  # per weight
LARGEST = 4 << 30  # bytes of a copy
KEPT = 8 << 30  # bytes of all copies; the least recently used goes first
TEXT = Path(__file__).parent / "passage.txt"
LENGTH, CHUNK, WIDTH, DEPTH = 512, 32, 32, 64  # tokens compared, at once; paths timed, their depth
BUFFER = 256 << 20  # bytes of a tensor's rows held at once by the quantiser
_NAME = re.compile(r"LLAMA_FTYPE_(?:MOSTLY|ALL)_(\w+)")
ROUNDS = 2  # of timing both in turn; the best counts, since a busy machine only slows them down


class Verdict(Record, frozen=True, kw_only=True):
    """What is known of a file: its copy's name, and how the two compare.

    ``faster`` is the copy's speed as a multiple of the original's, ``divergence`` is in nats,
    ``agreeing`` the fraction of equal likeliest tokens. Without a name no copy was worth a try.
    """

    copy: str = ""
    faster: float = 1.0
    divergence: float = 0.0
    agreeing: float = 1.0

    @property
    def same(self) -> bool:
        """Whether the copy is the same model."""
        return bool(self.copy) and self.divergence <= DIVERGENCE

    def words(self, used: bool) -> str:
        """The verdict as a line for ``-v``."""
        if not self.copy:
            return "no faster copy: this file's types are fast here, or a copy would be too large"
        return (
            f"a copy in {type_of(self.copy)} is {self.faster:.1f} times as fast; the next token's "
            f"distribution is {self.divergence:.4f} nats off, the likeliest is the same for "
            f"{self.agreeing:.1%} of {LENGTH} tokens: {'used' if used else 'not used'}"
        )


def fastest(model: Path, wish: FastCopy, threads: int = 0) -> Path:
    """The file to draw from: the model's own, or its copy.

    With the wish ``on`` the copy, if it is the same model; with ``auto``, if it is also faster.
    """
    if wish == "off" or len(parts_of(model)) > 1 or model.stat().st_size < SMALLEST:
        return model
    try:
        verdict = recall(verdict_file(model), Verdict) or _judge(model, threads)
        good = verdict.same and (wish == "on" or verdict.faster >= FASTER)
        LOG.info("%s", verdict.words(good))
        return _made(model, verdict.copy) if good else model
    except (OSError, LmsiError) as e:
        LOG.warning("note: no faster copy of %s: %s", model.name, e)
        return model


def measured(model: Path) -> dict[str, str]:
    """The figures of a file's verdict, for run.toml; empty if there is no copy."""
    verdict = recall(verdict_file(model), Verdict)
    if verdict is None or not verdict.copy:
        return {}
    return {
        "fast_copy_speed": f"{verdict.faster:.2f}",
        "fast_copy_divergence": f"{verdict.divergence:.5f}",
        "fast_copy_agreeing": f"{verdict.agreeing:.4f}",
    }


def verdict_file(model: Path, of: str = "") -> Path:
    """Where a verdict on a file is kept; it holds for this machine and llama.cpp's build."""
    stat = model.stat()
    facts = (str(model.resolve()), stat.st_size, stat.st_mtime_ns, copy_type())
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache_folder() / "copies" / f"{name}-{build_id()}{of}.json"


def _judge(model: Path, threads: int) -> Verdict:
    verdict = Verdict()
    if _worth_a_try(model):
        LOG.warning("note: trying a faster copy of %s, this once", model.name)
        made = _made(model, _name(model, copy_type()))
        with closing(LlamaModel(model)) as original, closing(LlamaModel(made)) as copy:
            rounds = [(_speed(original, threads), _speed(copy, threads)) for _ in range(ROUNDS)]
            its, faster = map(max, zip(*rounds, strict=True))
            apart, agreeing = _compare(original, copy, threads)
        verdict = Verdict(copy=made.name, faster=faster / its, divergence=apart, agreeing=agreeing)
    remember(verdict_file(model), verdict)
    return verdict


def copy_type() -> str:
    """The type that this llama.cpp multiplies fastest on this CPU."""
    features = library().llama_print_system_info().decode()
    return next((type_ for name, type_ in BY_FEATURE.items() if name in features), "F16")


def _worth_a_try(model: Path) -> bool:
    found, type_ = tensors(model), copy_type()
    names = {t.tensor_type.name for t in found}
    fast = names - SLOW if type_ == "Q8_0" else {type_, *FAST}
    slow = [t for t in found if t.tensor_type.name not in fast]
    room = min(LARGEST, psutil.virtual_memory().available // 2)
    whole, part = (sum(int(t.n_elements) for t in some) for some in (found, slow))
    return part >= SHARE[type_] * whole and whole * BYTES[type_] <= room


def _name(model: Path, type_: str) -> str:
    return f"{sha256_file(model)[:16]}-{type_.lower()}.gguf"


def type_of(name: str) -> str:
    """The type of a copy, from its file's name."""
    return name.removesuffix(".gguf").rpartition("-")[2].upper()


def readable(model: Path) -> Path:
    """A copy for a program that reads neither the original's types nor BF16."""
    return _made(model, _name(model, "F16" if copy_type() == "F16" else "Q8_0"))


def _made(model: Path, name: str) -> Path:
    """The copy, made if it is missing; written to this process's own file until complete."""
    copy = cache_folder() / "copies" / name
    if copy.exists():
        os.utime(copy)  # marks it as just used
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    sweep(copy.parent, KEPT - 2 * model.stat().st_size)
    fresh = copy.with_suffix(f".{os.getpid()}.tmp")
    try:
        quantise(model, fresh, check_kind(type_of(name)))
        fresh.replace(copy)
    finally:
        fresh.unlink(missing_ok=True)
    return copy


def sweep(folder: Path, kept: int) -> None:
    """Delete the least recently used copies beyond ``kept`` bytes or half the free disk."""
    room = min(kept, shutil.disk_usage(folder).free // 2)
    for copy in sorted(folder.glob("*.gguf"), key=lambda f: f.stat().st_mtime, reverse=True):
        room -= copy.stat().st_size
        if room < 0:
            copy.unlink(missing_ok=True)


def _speed(model: LlamaModel, threads: int) -> float:
    """Tokens per second with the better kind of attention."""
    need = Need(0, DEPTH, DEPTH, WIDTH)
    kinds = [CacheKind(WIDTH, False, flash) for flash in (Flash.OFF, Flash.ON)]
    return max(measure(model, need, [kind], threads)[0][kind] for kind in kinds)


def _compare(original: LlamaModel, other: LlamaModel, threads: int) -> tuple[float, float]:
    """The mean divergence in nats and the fraction of equal likeliest tokens, on one text."""
    from scipy.special import log_softmax

    tokens = original.encode(TEXT.read_text())[:LENGTH]
    apart, same = list[float](), list[bool]()
    both = (logits_along(model, tokens, threads) for model in (original, other))
    for a, b in zip(*both, strict=True):
        p, q = (log_softmax(logits.astype(np.float64), axis=1) for logits in (a, b))
        apart += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        same += (a.argmax(axis=1) == b.argmax(axis=1)).tolist()
    return float(np.mean(apart)), float(np.mean(same))


def logits_along(
    model: LlamaModel, tokens: Sequence[int], threads: int, adapter: tuple[Any, float] = (None, 1)
) -> Iterator[NDArray[np.float32]]:
    """Logits after each token, ``CHUNK`` tokens at a time: shape (tokens, vocabulary)."""
    layout = lay_out(Need(0, len(tokens), 1, CHUNK), CacheKind(CHUNK, True, Flash.OFF))
    with closing(LlamaContext(model, layout, threads)) as context:
        context.set_adapter(*adapter)
        for at in range(0, len(tokens), CHUNK):
            chunk = np.asarray(tokens[at : at + CHUNK], np.int32)
            context.decode(chunk, np.arange(at, at + len(chunk), dtype=np.int32), 0, 1)
            yield context.logits(len(chunk))


def kinds() -> dict[str, int]:
    """Every file type that this llama.cpp can write, by name."""
    lib = library()
    found = {m[1]: int(getattr(lib, m[0])) for m in map(_NAME.fullmatch, dir(lib)) if m}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def kind_name(number: int) -> str | None:
    """The name of a file type as ``general.file_type`` states it."""
    return next((name for name, its in kinds().items() if its == number), None)


def check_kind(name: str) -> int:
    """The number of a file type, whose name may be in lower case; LmsiError: there is none."""
    known = kinds()
    if name.upper() not in known:
        raise LmsiError(
            f"type '{name}' is none of llama.cpp's", hint=f"it writes {', '.join(known)}"
        )
    return known[name.upper()]


def quantise(source: Path, out: Path, kind: int, own: dict[str, int] | None = None) -> None:
    """Write ``source`` in another type; tensors that already have it are copied as they are.

    Writes ``out`` in place: the caller renames. ``own`` has types of single tensors (GGML's
    numbers) instead of the mixture that llama.cpp chooses for ``kind``; only a quantised ``kind``
    heeds them. LmsiError: llama.cpp refuses, or the disk is full; with its reason.
    """
    import ctypes

    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    params.nthread, params.max_buf_size = default_threads(), BUFFER
    table = (lib.llama_model_tensor_override * (len(own or {}) + 1))()  # the last one is empty
    for row, (name, type_) in zip(table, (own or {}).items(), strict=False):
        row.pattern, row.type = f"^{re.escape(name)}$".encode(), type_
    if own:
        params.tt_overrides = ctypes.cast(table, type(params.tt_overrides))
    files = str(source).encode(), str(out).encode()
    code, reason = tried(source, lib.llama_model_quantize, *files, ctypes.byref(params))
    if code and "importance matrix" in reason:
        problem = "an importance matrix (imatrix), which lmsi does not make"
        hint = "use another --type, as Q4_K_M or Q8_0"
        raise LmsiError(f"llama.cpp quantises to this type only with {problem}", hint)
    if code:
        reason = " ".join(reason.split()) or "no reason given"
        raise LmsiError(f"{source}: llama.cpp cannot quantise it: {reason}")
