"""The header of a GGUF file, or of a model split into several, read without the weights.

Knows nothing of PyTorch or of what an architecture means. The record:

    GgufMeta(architecture='llama', blocks=8, heads=8, kv_heads=4,
             shapes={'blk.0.attn_q.weight': (512, 512), ...}, rope_factors=None,
             values={'context_length': 1024, ...}, general={'name': 'tinymath', ...})
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.config import REPOSITORY
from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import parts_of, readers, sound

# Tensors about positions; they belong to no layer.
ROPE = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
HUB = re.compile(rf"(?:https://(?:huggingface\.co|hf\.co)/)?({REPOSITORY})/?")


class GgufMeta(NamedTuple):
    """What training and export need to know about a GGUF file.

    ``shapes`` maps a tensor's name to its shape in PyTorch's order, (rows, columns) for a matrix;
    ``rope_factors`` divides the rotary frequencies (Llama 3.1 and later), shape (head_dim / 2,);
    ``values`` are the architecture's own entries, without its name in front, and ``general`` the
    ``general.`` entries likewise, such as the model's name; ``long_rope`` holds the short and the
    long factors, head_dim / 2 each, of a model whose positions were stretched (Phi-3).
    """

    architecture: str
    blocks: int
    heads: int
    kv_heads: int
    shapes: dict[str, tuple[int, ...]]
    rope_factors: NDArray[np.float32] | None
    values: Mapping[str, Any]
    general: Mapping[str, Any]
    long_rope: tuple[list[float], list[float]] | None = None

    @property
    def head_size(self) -> int:
        """Numbers per attention head."""
        return int(self.values.get("attention.key_length", 0)) or self.width // max(1, self.heads)

    @property
    def width(self) -> int:
        """Hidden size: numbers per token between the blocks."""
        return int(self.values.get("embedding_length", 0))

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(shape) for shape in self.shapes.values())


def read_meta(gguf: Path) -> GgufMeta:
    """Read a GGUF file's header, not its weights; LmsiError: it or a part of it is not GGUF."""
    try:
        stats = [part.stat() for part in parts_of(gguf)]
    except OSError as e:
        raise LmsiError(f"{gguf}: not a readable GGUF file: {e}") from None
    with sound(gguf):
        return _read(gguf, tuple((s.st_mtime_ns, s.st_size) for s in stats))


# Reading past a vocabulary of 150,000 tokens takes a second, and training asks several times.
@lru_cache(maxsize=4)
def _read(gguf: Path, _changed: tuple[tuple[int, int], ...]) -> GgufMeta:
    parts = readers(gguf)
    reader, tensors = parts[0], [t for part in parts for t in part.tensors]
    general = _entries(reader, "general.")
    arch = str(general.get("architecture", "unknown"))
    values = _entries(reader, f"{arch}.")
    heads = _one(values.get("attention.head_count", 0))
    found = {t.name: t.data.astype("float32") for t in tensors if t.name in ROPE}
    short, long = (found.get(f"rope_factors_{kind}.weight") for kind in ("short", "long"))
    return GgufMeta(
        architecture=arch,
        blocks=_one(values.get("block_count", 0)),
        heads=heads,
        kv_heads=_one(values.get("attention.head_count_kv", heads)),
        shapes={t.name: tuple(int(n) for n in reversed(t.shape)) for t in tensors},
        rope_factors=found.get("rope_freqs.weight"),
        values=values,
        general=general,
        long_rope=None if short is None or long is None else (short.tolist(), long.tolist()),
    )


def untrainable(why: str, hint: str = "") -> LmsiError:
    """The error for a model that lmsi cannot train."""
    return LmsiError(f"training is not possible: {why}; sampling and voting work", hint)


def repository(general: Mapping[str, Any]) -> str:
    """The model's repository on the Hugging Face hub, OWNER/NAME; empty if the file names none.

    Converters record a fine-tuned model's parent as its base. The parent has other weights, so it
    counts only if it has the file's own name.
    """
    name, parent = (str(general.get(key, "")) for key in ("name", "base_model.0.repo_url"))
    same = _letters(name) == _letters(parent.rstrip("/").rpartition("/")[2])
    told = (
        *(general.get(f"source.{key}") for key in ("repo_url", "huggingface.repository", "url")),
        parent if same else "",
        f"{general.get('organization', '')}/{name}",
        name,
    )
    found = (HUB.fullmatch(text) for text in told if isinstance(text, str))
    return next((match[1] for match in found if match), "")


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum()).removesuffix("gguf")


def _entries(reader: Any, prefix: str) -> dict[str, Any]:  # noqa: ANN401 - untyped library
    """The entries whose keys start with ``prefix``, without that prefix."""
    return {
        key.removeprefix(prefix): reader.get_field(key).contents()
        for key in reader.fields
        if key.startswith(prefix)
    }


def _one(value: Any) -> int:  # noqa: ANN401 - a number, or one number per layer
    return int(max(value)) if isinstance(value, list) else int(value)
