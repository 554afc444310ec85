"""A base and its adapter in one GGUF file: what llama.cpp adds at every step, added once.

Works tensor by tensor, in the file's own row order, so memory holds the largest adapted tensor and
not the model. What the adapter does not touch keeps its bytes, all metadata its values. Knows
neither PyTorch nor llama.cpp. An adapter as it is read:

    Lora(alpha=32.0, pairs={'blk.0.attn_q.weight': (A (16, 512), B (512, 16)), ...})
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import readers, tensors
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.weights import numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA = "adapter.lora.alpha"
WIDE = frozenset({"F32", "BF16"})  # of these, F16 would lose range or digits


class Lora(NamedTuple):
    """An adapter: of each tensor A (rank, in) and B (out, rank), as float32."""

    alpha: float
    pairs: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    def change(self, name: str, scale: float) -> NDArray[np.float32]:
        """What the adapter adds to a tensor, (out, in).

        The factor is llama.cpp's (``llama_adapter_lora_weight::get_scale``): alpha by rank, or 1
        where alpha is 0. PEFT's other scalings are in alpha when the GGUF adapter is written.
        """
        a, b = self.pairs[name]
        factor = scale * (self.alpha / a.shape[0] if self.alpha else 1.0)
        return (b @ a) * a.dtype.type(factor)


def read_lora(adapter: Path) -> Lora:
    """Read a GGUF adapter; LmsiError: it is none, or holds more than pairs of LoRA matrices."""
    reader = readers(adapter)[0]
    alpha = reader.get_field(ALPHA)
    if alpha is None:
        raise LmsiError(f"{adapter}: not a LoRA adapter: it has no {ALPHA}")
    halves: dict[str, dict[str, Any]] = {}
    for tensor in reader.tensors:
        name, _, half = tensor.name.rpartition(".")
        halves.setdefault(name, {})[half] = tensor.data.astype("float32")
    for name, found in halves.items():
        if found.keys() != {"lora_a", "lora_b"} or any(m.ndim != 2 for m in found.values()):
            raise LmsiError(f"{adapter}: '{name}' is no pair of LoRA matrices")
    pairs = {name: (found["lora_a"], found["lora_b"]) for name, found in halves.items()}
    return Lora(float(alpha.contents()), pairs)


def merge(base: Path, lora: Lora, out: Path, scale: float, wide: bool = False) -> None:
    """Write the base with the adapter added; adapted tensors become F16 or F32, others stay.

    ``base`` may be the first part of a model in several; ``out`` is written in place: the caller
    renames. ``scale`` is as ``llama_set_adapters_lora`` takes it: 0 gives the base with the same
    tensors dequantised. ``wide``: F32 for every adapted tensor.

    LmsiError: the base lacks an adapted tensor or has it in another shape, its type cannot be
    dequantised, or a sum does not fit F16.
    """
    import gguf
    import numpy as np

    parts = readers(base, whole=True)
    reader, whole = parts[0], [t for part in parts for t in part.tensors]
    shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in whole}
    for name, (a, b) in lora.pairs.items():
        if shapes.get(name) != (b.shape[0], a.shape[1]):
            raise LmsiError(
                f"{base}: the adapter's '{name}' of {b.shape[0]} x {a.shape[1]} has no counterpart",
                hint="an adapter fits only the base it was trained on",
            )
    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(out, read_meta(base).architecture, endianess=reader.endianess)
    try:
        _copy_metadata(reader, writer)
        for t in whole:
            shape, kind, size, number = t.data.shape, t.data.dtype, t.data.nbytes, t.tensor_type
            if t.name in lora.pairs:
                shape, kind = shapes[t.name], np.dtype(_float(t, wide))
                size = int(np.prod(shape)) * kind.itemsize
                number = types.F32 if kind == np.float32 else types.F16
            writer.add_tensor_info(t.name, shape, kind, size, number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for data in _weights(whole, lora, scale, wide):
            writer.write_tensor_data(data, tensor_endianess=reader.endianess)
    finally:
        writer.close()


def tensor_types(model: Path) -> dict[str, int]:
    """GGML's number of each tensor's type, by name."""
    return {t.name: int(t.tensor_type) for t in tensors(model)}


def _copy_metadata(reader: Any, writer: Any) -> None:  # noqa: ANN401 - untyped library
    """Copy every key with its type, but none of a split."""
    from gguf import GGUFValueType, Keys

    own = Keys.General.ARCHITECTURE  # the writer sets it
    for field in reader.fields.values():
        if field.name == own or field.name.startswith(("GGUF.", "split.")):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)


def _float(tensor: Any, wide: bool) -> Any:  # noqa: ANN401 - untyped library
    import numpy as np

    return np.float32 if wide or tensor.tensor_type.name in WIDE else np.float16


def _weights(whole: list[Any], lora: Lora, scale: float, wide: bool) -> Iterator[NDArray[Any]]:
    import numpy as np

    for tensor in whole:
        if tensor.name not in lora.pairs:
            yield tensor.data
            continue
        merged = numbers(tensor, tensor.data) + lora.change(tensor.name, scale)
        with np.errstate(over="ignore"):
            data = merged.astype(_float(tensor, wide))
        if not np.isfinite(data).all():
            hint = "export with --type F32"
            raise LmsiError(f"'{tensor.name}' holds numbers that F16 cannot", hint)
        yield data
