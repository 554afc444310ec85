"""llama.cpp's own quantiser: a GGUF file in, the same model in another type out.

Knows files and types; nothing of adapters. Types go by llama.cpp's names:

    kinds() == {"F32": 0, "F16": 1, "Q4_0": 2, ..., "Q4_K_M": 15, ...}
"""

from __future__ import annotations

import re
from pathlib import Path

from lmsi_cli.engine.llama import (
    default_threads,
    forget_complaints,
    last_complaint,
    library,
    raise_interrupt,
)
from lmsi_cli.errors import LmsiError

_NAME = re.compile(r"LLAMA_FTYPE_(?:MOSTLY|ALL)_(\w+)")
BUFFER = 256 << 20  # bytes of a tensor's rows held at once


def kinds() -> dict[str, int]:
    """Every file type that this llama.cpp can write, by name."""
    lib = library()
    found = {m[1]: int(getattr(lib, m[0])) for m in map(_NAME.fullmatch, dir(lib)) if m}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def kind_name(number: int) -> str | None:
    """The name of a file type as ``general.file_type`` states it."""
    return next((name for name, its in kinds().items() if its == number), None)


def check_kind(name: str) -> int:
    """The number of a file type, whose name may be in small letters.

    Raises:
        LmsiError: llama.cpp has no such type; lists those it has.
    """
    known = kinds()
    if name.upper() not in known:
        raise LmsiError(
            f"type '{name}' is none of llama.cpp's", hint=f"it writes {', '.join(known)}"
        )
    return known[name.upper()]


def quantise(
    source: Path, out: Path, kind: int, own: dict[str, int] | None = None, threads: int = 0
) -> None:
    """Write ``source`` in another type; tensors that are of it already are copied as they are.

    Args:
        source: A GGUF file of any types.
        out: Written in place: the caller renames.
        kind: From ``check_kind``.
        own: Types of single tensors (GGML's numbers), instead of the mixture that llama.cpp
            chooses for ``kind``; heeded where ``kind`` is a quantised type.
        threads: 0 takes the physical cores.

    Raises:
        LmsiError: llama.cpp refuses, or the disk is full; with its reason.
    """
    import ctypes

    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    params.nthread, params.max_buf_size = threads or default_threads(), BUFFER
    table = (lib.llama_model_tensor_override * (len(own or {}) + 1))()  # the last one is empty
    for row, (name, type_) in zip(table, (own or {}).items(), strict=False):
        row.pattern, row.type = f"^{re.escape(name)}$".encode(), type_
    if own:
        params.tt_overrides = ctypes.cast(table, type(params.tt_overrides))
    forget_complaints()
    code = lib.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    raise_interrupt()
    reason = last_complaint() or "no reason given"
    if code and "importance matrix" in reason:
        problem = "an importance matrix (imatrix), which lmsi does not make"
        hint = "use another --type, as Q4_K_M or Q8_0"
        raise LmsiError(f"llama.cpp quantises to this type only with {problem}", hint)
    if code:
        raise LmsiError(f"{source}: llama.cpp cannot quantise it: {' '.join(reason.split())}")
