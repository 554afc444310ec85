"""GGUF files, whole or split as llama.cpp splits them, and what their headers say.

Knows the files' names and the container through the ``gguf`` library; nothing of llama.cpp, and
loads no weights. In a split model the first part has the metadata, and all have tensors.

    parts_of(Path("m-00001-of-00002.gguf"))
    -> (Path("m-00001-of-00002.gguf"), Path("m-00002-of-00002.gguf"))

    read_metadata(Path("tinymath-f16.gguf"))
    -> {"architecture": "llama", "parameters": 25771008, "file_bytes": 51596512,
        "quantisation": "F16", "context": 2048, "layers": 8, "width": 512, "vocabulary": 1165,
        "tokenizer": "gpt2 (smollm)", "chat_template": "none"}
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lmsi_cli.errors import LmsiError

NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")  # llama_split_path, in llama.cpp
LONG = 1024  # entries from which an array is skipped; one with an entry per layer is shorter
LFS_POINTER = b"version https://git-lfs"
Value = int | str


def names_of_parts(name: str) -> tuple[str, ...]:
    """The names of all parts of a model, in order, given any of them; a whole model has one."""
    found = NAME.fullmatch(name)
    if not found or not 1 <= int(found[2]) <= int(found[3]):
        return (name,)
    return tuple(f"{found[1]}-{n:05}-of-{found[3]}.gguf" for n in range(1, int(found[3]) + 1))


def parts_of(model: Path) -> tuple[Path, ...]:
    """The files of a model, in order: all its parts, given the first, or the whole file itself.

    LmsiError: it is a part other than the first, or a part is missing.
    """
    parts = tuple(map(model.with_name, names_of_parts(model.name)))
    if (number := parts.index(model) + 1) > 1:
        hint = f"give the first part, {parts[0]}; the others are found beside it"
        raise LmsiError(f"{model}: part {number} of {len(parts)} of a model", hint)
    if missing := [part for part in parts[1:] if not part.is_file()]:
        first = f"{model.name} is the first of {len(parts)} parts of a model"
        raise LmsiError(f"{missing[0]}: no such file; {first}", "put all parts into one folder")
    return parts


def stem_of(model: Path) -> str:
    """A model's name without the numbers of a part."""
    found = NAME.fullmatch(model.name)
    return found[1] if found else model.stem


def check_file(path: Path) -> None:
    """Refuse what cannot be a GGUF file, or all parts of one, before llama.cpp sees it."""
    if not path.is_file():
        raise LmsiError(f"{path}: no such model file", hint="`lmsi models` lists what is available")
    for part in parts_of(path):
        try:
            with part.open("rb") as f:
                start = f.read(len(LFS_POINTER))
        except OSError as e:
            raise LmsiError(f"{part}: cannot be read: {e.strerror}") from e
        if start == LFS_POINTER:
            raise LmsiError(f"{part}: a pointer of Git LFS, not the model", "run `git lfs pull`")
        if not start.startswith(b"GGUF"):
            raise LmsiError(f"{part}: not a GGUF file", "convert it with llama.cpp's converter")


def readers(model: Path, whole: bool = False) -> list[Any]:
    """Open all parts with gguf's reader.

    With ``whole``, long arrays such as the vocabulary are read, too; otherwise only their length is
    known. LmsiError: as ``parts_of``, a part cannot be read, or the file is no model of its own.
    """
    opened = []
    for part in parts_of(model):
        try:
            with sound(part):
                opened.append(_reader_class(whole)(part))
        except OSError as e:
            raise LmsiError(f"{part}: not a readable GGUF file: {e}") from None
    with sound(model):
        _check_model(opened[0], model)
    return opened


@contextmanager
def sound(model: Path) -> Iterator[None]:
    """Turn what reading a broken header raises into LmsiError."""
    try:
        yield
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, struct.error) as e:
        raise damaged(model, "its header or its tensors are not whole") from e


@cache
def _reader_class(whole: bool) -> Any:  # noqa: ANN401 - made here since gguf is imported late
    """A reader that stops at the file's end, where gguf's own finds 2^60 empty numbers.

    Unless ``whole``, it skips long arrays, because 150,000 words take 15 s.
    """
    import numpy as np
    from gguf import GGUFReader, GGUFValueType

    class Reader(GGUFReader):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, **order: Any) -> Any:  # noqa: ANN401
            found = super()._get(offset, dtype, count, **order)
            if len(found) < count:
                raise ValueError("the file ends before")
            return found

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:  # noqa: ANN401
            kind, count = 0, 0
            if raw_type == GGUFValueType.ARRAY and self.byte_order == "I":
                kind, count = struct.unpack_from("<IQ", self.data, orig_offs)
            if whole or count < LONG:
                return super()._get_field_parts(orig_offs, raw_type)
            end = orig_offs + struct.calcsize("<IQ")
            if kind == GGUFValueType.STRING:
                for _ in range(count):
                    end += 8 + struct.unpack_from("<Q", self.data, end)[0]
            else:
                number = self.gguf_scalar_to_np[GGUFValueType(kind)]
                end += count * np.dtype(number).itemsize
            if end > len(self.data):  # before using a count that may be a lie
                raise ValueError("an array ends behind the file")
            return end - orig_offs, [], range(count), [GGUFValueType.ARRAY]

    return Reader


def damaged(path: Path, why: object) -> LmsiError:
    """The error for a file that begins like a GGUF file but does not go on like one."""
    return LmsiError(
        f"{path}: this GGUF file of {path.stat().st_size:,} bytes is cut short or damaged: {why}",
        hint="download or copy it again",
    )


def tensors(model: Path) -> list[Any]:
    """The tensors of all parts, as gguf's reader gives them; LmsiError as ``readers``."""
    return [tensor for reader in readers(model) for tensor in reader.tensors]


def _value(reader: Any, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any value
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _check_model(reader: Any, model: Path) -> None:  # noqa: ANN401 - untyped library
    kinds = _value(reader, "general.type"), _value(reader, "general.architecture")
    if "mmproj" in kinds or kinds[1] == "clip":
        raise LmsiError(
            f"{model}: the part of a model that reads images or sound (mmproj), not the model",
            hint="give the file of the model itself, without mmproj in its name",
        )
    count = int(_value(reader, "split.count") or 1)
    if count > 1 and not NAME.fullmatch(model.name):
        hint = f"give the parts their names back, NAME-00001-of-{count:05}.gguf and so on"
        raise LmsiError(
            f"{model}: one of {count} parts of a model, under a name that hides the others",
            hint=f"{hint}, or join them with `llama-gguf-split --merge`",
        )


def read_metadata(path: Path) -> dict[str, Value]:
    """Read the facts of a GGUF file, or of all parts of a model.

    LmsiError: it is missing, no GGUF, truncated, or only a part of a model.
    """
    check_file(path)
    with sound(path):
        return _facts(path, readers(path))


def _facts(path: Path, parts: list[Any]) -> dict[str, Value]:
    def get(key: str, default: Value = "not stated") -> Value:
        value = _value(parts[0], key, default)
        return value if isinstance(value, int | str) else str(value)

    sizes: Counter[str] = Counter()
    for t in (t for part in parts for t in part.tensors):
        sizes[t.tensor_type.name] += int(t.n_elements)
    shares = [(name, n / max(1, sizes.total())) for name, n in sizes.most_common()]
    arch = get("general.architecture")
    template = str(get("tokenizer.chat_template", ""))
    words = parts[0].get_field("tokenizer.ggml.tokens")
    return {
        "name": get("general.name"),
        "architecture": arch,
        "parameters": sizes.total(),
        "file_bytes": sum(part.stat().st_size for part in parts_of(path)),
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
