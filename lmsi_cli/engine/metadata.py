"""What a GGUF file says of itself, read without loading its weights.

Knows the GGUF container through the ``gguf`` library; nothing of llama.cpp.

    {"architecture": "llama", "parameters": 25771008, "file_bytes": 51596512, "quantisation": "F16",
     "context": 2048, "layers": 8, "width": 512, "vocabulary": 1165, "tokenizer": "gpt2 (smollm)",
     "chat_template": "none", "adapter": "no"}
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lmsi_cli.engine.llama import check_file
from lmsi_cli.splits import readers, size_of, sound

Value = int | str


def read_metadata(path: Path) -> dict[str, Value]:
    """Read the facts of a GGUF file, or of all parts of a model.

    Raises:
        LmsiError: It is missing, no GGUF, truncated, or only a part of a model.
    """
    check_file(path)
    with sound(path):
        return _facts(path, readers(path))


def _facts(path: Path, parts: list[Any]) -> dict[str, Value]:
    reader, tensors = parts[0], [t for part in parts for t in part.tensors]

    def get(key: str, default: Value = "not stated") -> Value:
        field = reader.get_field(key)
        value = default if field is None else field.contents()
        return value if isinstance(value, int | str) else str(value)

    sizes: Counter[str] = Counter()
    for t in tensors:
        sizes[t.tensor_type.name] += int(t.n_elements)
    shares = [(name, n / max(1, sizes.total())) for name, n in sizes.most_common()]
    arch = get("general.architecture")
    template = str(get("tokenizer.chat_template", ""))
    words = reader.get_field("tokenizer.ggml.tokens")
    return {
        "name": get("general.name"),
        "architecture": arch,
        "parameters": sizes.total(),
        "file_bytes": size_of(path),
        **({"parts": len(parts)} if len(parts) > 1 else {}),
        "quantisation": ", ".join(f"{name} {n:.0%}" for name, n in shares[:3] if n > 0.005),
        "context": get(f"{arch}.context_length"),
        "layers": get(f"{arch}.block_count"),
        "width": get(f"{arch}.embedding_length"),
        "heads": get(f"{arch}.attention.head_count"),
        "kv_heads": get(f"{arch}.attention.head_count_kv"),
        "vocabulary": len(words.data) if words else "not stated",
        "tokenizer": f"{get('tokenizer.ggml.model')} ({get('tokenizer.ggml.pre')})",
        "chat_template": template.splitlines()[0][:60] + " ..." if template else "none",
        "licence": get("general.license"),
    }
