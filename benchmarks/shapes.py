"""Random weights in the true shape of a published model, with a real vocabulary, as GGUF files.

Speed depends on a model's shape and quantisation and not on what it has learnt, so nothing has to
be downloaded. The vocabulary comes from a file that llama.cpp's source archive carries. One shape:

    Shape(layers=24, width=896, heads=14, kv_heads=2, ffn=4864, vocabulary=151936)

    python -m benchmarks.shapes qwen2.5-0.5b Q4_K_M --vocab ggml-vocab-qwen2.gguf --out /tmp/models
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from lmsi_cli.engine.llama import library

SPREAD = 0.02  # standard deviation of the weights, as models are initialised
PADDING = gguf.TokenType.UNUSED


class Shape(NamedTuple):
    """Sizes of a Qwen2 model; its output head is tied to its embeddings."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int = 151_936


SHAPES = {
    "qwen2.5-0.5b": Shape(layers=24, width=896, heads=14, kv_heads=2, ffn=4864),
    "qwen2.5-1.5b": Shape(layers=28, width=1536, heads=12, kv_heads=2, ffn=8960),
}
TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15}  # llama.cpp's file types


def write(shape: str, kind: str, vocab: Path, folder: Path) -> Path:
    """Write one model unless it is there; returns its path.

    Args:
        shape: A key of ``SHAPES``.
        kind: A key of ``TYPES``.
        vocab: A GGUF file that holds a tokenizer.
        folder: Where the files go; the 16-bit one is kept for the other types.
    """
    target = folder / f"{shape}-{kind}.gguf"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    if kind == "F16":
        _write_f16(SHAPES[shape], vocab, part)
    else:
        _quantise(write(shape, "F16", vocab, folder), part, TYPES[kind])
    part.rename(target)
    return target


def _write_f16(shape: Shape, vocab: Path, target: Path) -> None:
    writer = gguf.GGUFWriter(target, "qwen2", use_temp_file=True)
    _hyperparameters(writer, shape)
    _vocabulary(writer, gguf.GGUFReader(vocab), shape.vocabulary)
    random = np.random.default_rng(0)
    for name, size in _tensors(shape):
        writer.add_tensor(name, _values(name, size, random))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _hyperparameters(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(32_768)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(TYPES["F16"])


def _vocabulary(writer: gguf.GGUFWriter, source: gguf.GGUFReader, size: int) -> None:
    """Copy a tokenizer and pad its tokens to the model's size."""

    def read(key: str) -> Any:  # noqa: ANN401 - a metadata value
        field = source.get_field(f"tokenizer.ggml.{key}")
        return None if field is None else field.contents()

    tokens, types = read("tokens"), read("token_type")
    spare = range(len(tokens), size)
    writer.add_tokenizer_model(read("model"))
    writer.add_tokenizer_pre(read("pre"))
    writer.add_token_list([*tokens, *(f"[PAD{i}]" for i in spare)])
    writer.add_token_types([*types, *(PADDING for _ in spare)])
    writer.add_token_merges(read("merges"))
    writer.add_eos_token_id(read("eos_token_id"))
    writer.add_add_bos_token(False)


def _tensors(shape: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model with its size, rows first."""
    width, kv = shape.width, shape.width // shape.heads * shape.kv_heads
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (width,),
        "attn_q.weight": (width, width),
        "attn_q.bias": (width,),
        "attn_k.weight": (kv, width),
        "attn_k.bias": (kv,),
        "attn_v.weight": (kv, width),
        "attn_v.bias": (kv,),
        "attn_output.weight": (width, width),
        "ffn_norm.weight": (width,),
        "ffn_gate.weight": (shape.ffn, width),
        "ffn_up.weight": (shape.ffn, width),
        "ffn_down.weight": (width, shape.ffn),
    }
    blocks = [
        (f"blk.{i}.{name}", size) for i in range(shape.layers) for name, size in layer.items()
    ]
    ends = [("token_embd.weight", (shape.vocabulary, width)), ("output_norm.weight", (width,))]
    return [*ends, *blocks]


def _values(name: str, size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Ones for norms, zeros for biases (both 32 bits, as converters write), else noise."""
    if len(size) == 1:
        return np.full(size, float("norm" in name), np.float32)
    return (random.standard_normal(size, np.float32) * SPREAD).astype(np.float16)


def _quantise(source: Path, target: Path, kind: int) -> None:
    llama_cpp = library()  # silenced
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = kind
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(settings)
    )
    if code:
        raise SystemExit(f"{source}: llama.cpp could not quantise it (code {code})")


def main() -> None:
    """Write one model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("type", choices=TYPES)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(write(given.shape, given.type, given.vocab, given.out))


if __name__ == "__main__":
    main()
