"""Merge a base and its adapter, into a GGUF file or a folder in the format of ``transformers``.

A GGUF file is merged tensor by tensor, in its own row order, so memory holds the largest adapted
tensor, not the model. Tensors without an adapter keep their bytes, and metadata keeps its values.
An adapter as read:

    Lora(alpha=32.0, pairs={'blk.0.attn_q.weight': (A (16, 512), B (512, 16)), ...})

A folder for ``transformers``, too, gets its base from the GGUF file: weights, configuration and,
where possible, the tokenizer. Nothing here touches the network. The folder:

    config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unicodedata import is_normalized

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import readers, tensors
from lmsi_cli.training.adapter import with_adapter
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.load import numbers, quiet

if TYPE_CHECKING:
    from torch import nn

ALPHA = "adapter.lora.alpha"
WIDE = frozenset({"F32", "BF16"})  # types that would lose range or digits in F16
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "chat_template.jinja", "vocab.json", "merges.txt", "added_tokens.json",
             "tokenizer.model")  # fmt: skip
# What tokenizers differ in: spaces, digits, case, line ends, other scripts, marks, code.
TEXTS = (
    "Hello world",
    " a leading space, and  two   three",
    "Line one\nLine two\r\n\n\nTab\there \n",
    "12345 1,234.50 3/4 100% $42 -7",
    "It's don't WE'LL CamelCase snake_case",
    "naïve café Straße — “quotes” … ½ €",
    "Привет мир, 你好世界 こんにちは 안녕하세요 مرحبا שלום नमस्ते",
    "🙂👍🏽 👩‍👩‍👧",
    "def f(x):\n    return {'a': [1, 2]}  # done",
    "Q: Tom has 3 boxes.\nA: Let's think step by step. 3 * 4 = 12. The answer is 12.",
    "\x07\u200b\ufeff",
)  # fmt: skip
ROUNDING = 1e-5  # of rotary frequencies in fp32, which are powers of a base


class Lora(NamedTuple):
    """An adapter: A (rank, in) and B (out, rank) of each tensor, as float32."""

    alpha: float
    pairs: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    def change(self, name: str, scale: float) -> NDArray[np.float32]:
        """What the adapter adds to a tensor, (out, in).

        The factor is llama.cpp's (``llama_adapter_lora_weight::get_scale``): alpha / rank, or 1
        where alpha is 0. A GGUF adapter's alpha already includes PEFT's other scalings.
        """
        a, b = self.pairs[name]
        factor = scale * (self.alpha / a.shape[0] if self.alpha else 1.0)
        return (b @ a) * a.dtype.type(factor)


def read_lora(adapter: Path) -> Lora:
    """Read a GGUF adapter; LmsiError: it is not one, or holds more than LoRA pairs."""
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

    ``base`` may be the first part of a split model; ``out`` is written in place: the caller
    renames. ``scale`` is as ``llama_set_adapters_lora`` takes it: 0 gives the base with the same
    tensors dequantised. ``wide``: F32 for every adapted tensor.

    LmsiError: the base lacks an adapted tensor or has it in another shape, its type cannot be
    dequantised, or a sum does not fit F16.
    """
    import gguf

    parts, meta = readers(base, whole=True), read_meta(base)
    reader, whole = parts[0], [t for part in parts for t in part.tensors]
    for name, (a, b) in lora.pairs.items():
        if meta.shapes.get(name) != (b.shape[0], a.shape[1]):
            raise LmsiError(
                f"{base}: the adapter's '{name}' of {b.shape[0]} x {a.shape[1]} has no counterpart",
                hint="an adapter fits only the base it was trained on",
            )
    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(out, meta.architecture, endianess=reader.endianess)
    try:
        _copy_metadata(reader, writer)
        writer.data_alignment = reader.alignment
        for t in whole:
            shape, kind, size, number = t.data.shape, t.data.dtype, t.data.nbytes, t.tensor_type
            if t.name in lora.pairs:
                shape, kind = meta.shapes[t.name], np.dtype(_float(t, wide))
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
    """GGML's type number of each tensor, by name."""
    return {t.name: int(t.tensor_type) for t in tensors(model)}


def _copy_metadata(reader: Any, writer: Any) -> None:  # noqa: ANN401 - untyped library
    """Copy every metadata key with its type, except those of a split."""
    from gguf import GGUFValueType, Keys

    own = Keys.General.ARCHITECTURE  # the writer sets it
    for field in reader.fields.values():
        if field.name == own or field.name.startswith(("GGUF.", "split.")):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)


def _float(tensor: Any, wide: bool) -> Any:  # noqa: ANN401 - untyped library
    return np.float32 if wide or tensor.tensor_type.name in WIDE else np.float16


def _weights(whole: list[Any], lora: Lora, scale: float, wide: bool) -> Iterator[NDArray[Any]]:
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


def save_merged(gguf: Path, adapter_dir: Path, out: Path, kind: str) -> None:
    """Write the merged model's weights, as ``kind`` F16, BF16 or F32, and its configuration.

    LmsiError: transformers cannot load the base, a weight does not fit ``kind``, or the
    configuration cannot express the file's rotary factors.
    """
    import torch

    merged = with_adapter(gguf, adapter_dir).merge_and_unload()  # type: ignore[operator]
    dtype = getattr(torch, DTYPES[kind])
    with torch.no_grad():
        merged = merged.to(dtype)
    if not all(bool(torch.isfinite(p).all()) for p in merged.parameters()):
        raise LmsiError(f"a weight does not fit {kind}", hint="export with --type F32")
    merged.config.use_cache, merged.config.dtype = True, dtype
    _scale_positions(merged.config, gguf)
    with quiet():
        merged.save_pretrained(str(out), safe_serialization=True)


def _scale_positions(config: Any, gguf: Path) -> None:  # noqa: ANN401 - transformers is untyped
    """Express the file's rotary factors in the configuration, by Llama 3's rule.

    There a factor f is 1 for fast frequencies and ``factor`` for slow ones. In between, 1 / f rises
    linearly with the turns that a frequency makes in the original context, from ``low_freq_factor``
    turns to ``high_freq_factor``. The factors fix only ratios of the turns and that context, so
    the low one is set to 1, as in all such models. LmsiError: the factors follow another rule.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    factors = read_meta(gguf).rope_factors
    if factors is None:
        return
    plain = float(config.rope_parameters["rope_theta"]) ** -np.arange(0, 1, 1 / len(factors))
    top = float(factors.max())
    between = (factors > 1 + ROUNDING) & (factors < top * (1 - ROUNDING))
    if np.count_nonzero(between) > 1:
        rise = (1 / factors[between].astype(float) - 1 / top) / (1 - 1 / top)
        turns = plain[between] / (2 * np.pi)  # per token
        slope, start = map(float, np.polyfit(turns, rise, 1))
        config.rope_parameters |= {
            "rope_type": "llama3",
            "factor": round(top, 4),
            "low_freq_factor": 1.0,
            "high_freq_factor": round(1 - 1 / min(start, -1e-9), 4),
            "original_max_position_embeddings": round(-slope / min(start, -1e-9)),
        }
        made, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        if np.allclose(made.numpy() * factors, plain, rtol=ROUNDING, atol=0):
            return
    message = f"{gguf}: its rotary factors have no place in a Hugging Face configuration"
    raise LmsiError(message, hint="export a merged GGUF: --to gguf")


def load_merged(folder: Path) -> nn.Module:
    """Load a merged folder in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    return cast("nn.Module", model.eval())


def save_tokenizer(
    gguf: Path, out: Path, texts: Sequence[str], encode: Callable[[str], list[int]]
) -> tuple[bool, str]:
    """Write the file's tokenizer for ``transformers``, unless it would give other ids.

    ``encode`` is the GGUF's own, through llama.cpp; both are compared on ``TEXTS`` and ``texts``.
    Returns whether it is written, and how it compares or why it is missing.
    """
    from transformers import AutoTokenizer

    # transformers composes characters where the original tokenizer does; llama.cpp never does
    asked = [t for t in (*TEXTS, *texts) if is_normalized("NFC", t)]
    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
            made.save_pretrained(str(out))
            read = AutoTokenizer.from_pretrained(out, local_files_only=True)
    except Exception as e:  # noqa: BLE001 - many libraries behind it; none may cost the model
        note = f"transformers cannot make one of this file ({type(e).__name__})"
    else:
        wrong = [t for t in asked if list(read(t)["input_ids"]) != encode(t)]
        if not wrong:
            return True, f"the same ids as llama.cpp's on {len(asked)} texts"
        note = f"transformers' own gives other ids, as for {wrong[0][:40]!r}"
    for name in TOKENIZER:
        (out / name).unlink(missing_ok=True)
    return False, note
