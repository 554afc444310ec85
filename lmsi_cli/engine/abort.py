"""llama.cpp's own end: where one of its assertions fails it kills the process, whoever calls it.

Nothing can be raised through its frames. So a line is written in place of its backtrace, and the
process ends as after any other error; what was finished is on the disk already:

    error: m.gguf: llama.cpp gave up: llama-vocab.cpp:2544: GGML_ASSERT(...) failed
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOADED = "the model in use"
HINT = "a damaged or unusual file, or a fault of llama.cpp: download it again, or use another model"
_file: Path | str = LOADED  # whose loading is under way


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Have the line name the file that llama.cpp is just reading."""
    global _file
    _file = path
    try:
        yield
    finally:
        _file = LOADED


def _give_up(said: bytes) -> None:
    reason = re.sub(r"^\S*/", "", said.decode(errors="replace").strip())  # the builder's folders
    line = f"error: {_file}: llama.cpp gave up: {reason}"
    shown = "".join(c if c.isprintable() else "?" for c in line)
    os.write(2, f"\n{shown}\nhint: {HINT}\n".encode())
    os._exit(1)


_callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_give_up)  # dies with its last reference


def catch_aborts(llama_cpp: Any) -> None:  # noqa: ANN401 - an untyped module
    """Put our line in place of the backtrace; a library that is too old for it keeps its own."""
    setter = getattr(llama_cpp.llama_cpp._lib, "ggml_set_abort_callback", None)
    if setter:
        setter(_callback)
