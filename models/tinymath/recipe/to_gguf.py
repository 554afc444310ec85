"""Export a trained model as one GGUF file, which is all that llama.cpp and lmsi need.

The rows of q and k are reordered on the way. ``transformers`` rotates element *i* of a head
together with element *i + half*; llama.cpp rotates neighbours, *2i* and *2i + 1*. Interleaving the
two halves of each head lets both compute the same attention.

This file does not know training. It takes seconds at any size, so it has no smoke setting.

How to run it::

    python models/tinymath/recipe/to_gguf.py build/tinymath/hard-2 --out build/tinymath/f16.gguf
    python models/tinymath/recipe/to_gguf.py build/tinymath/hard-2 --out q8.gguf --type q8_0

One record, a tensor of the file: ``blk.0.attn_q.weight``, 512 by 512, F16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from solutions import END_OF_TEXT, END_OF_TEXT_ID

Array = npt.NDArray[Any]
Config = dict[str, Any]

Q8_0 = gguf.GGMLQuantizationType.Q8_0


def read_json(path: Path) -> Config:
    """Read one of the files that a training stage leaves.

    Raises:
        SystemExit: where it is missing or no JSON.
    """
    try:
        loaded: Config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"error: {path}: {error}\nhint: give a finished stage's folder") from error
    return loaded


def interleave(rows: Array, heads: int) -> Array:
    """Reorder the rows of each head from (first half, second half) to neighbours.

    Example, one head of four rows: ``[0, 1, 2, 3] -> [0, 2, 1, 3]``.
    """
    half = rows.shape[0] // heads // 2
    split = rows.reshape(heads, 2, half, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def add_architecture(writer: gguf.GGUFWriter, config: Config, name: str) -> None:
    """Write the name and the shape of the model."""
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Config) -> None:
    """Write the vocabulary and the merges; ``smollm`` says that digits stand alone."""
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token == END_OF_TEXT else normal for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(END_OF_TEXT_ID)
    writer.add_eos_token_id(END_OF_TEXT_ID)
    writer.add_add_bos_token(False)


def add_tensors(
    writer: gguf.GGUFWriter, tensors: dict[str, Array], config: Config, kind: str
) -> None:
    """Write the weights under llama.cpp's names: norms in F32, matrices as ``kind``."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in tensors.items():
        values = tensor.astype(np.float32)
        projection = name.split(".")[-2]
        if projection in heads:
            values = interleave(values, heads[projection])
        target = names.get_name(name, try_suffixes=(".weight",))
        if values.ndim == 1:
            writer.add_tensor(target, values)
        elif kind == "q8_0":
            writer.add_tensor(target, gguf.quants.quantize(values, Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(target, values.astype(np.float16))


def export(folder: Path, out: Path, kind: str, name: str) -> None:
    """Write the GGUF beside its target, then rename it."""
    config = read_json(folder / "config.json")
    tokenizer = read_json(folder / "tokenizer.json")
    tensors = load_file(folder / "model.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".tmp")
    writer = gguf.GGUFWriter(part, "llama")
    add_architecture(writer, config, name)
    add_tokenizer(writer, tokenizer)
    add_tensors(writer, tensors, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(out)


def main() -> None:
    """Export, and say how large the file is."""
    parser = argparse.ArgumentParser(
        description="Export a trained model as GGUF.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the folder of a finished model")
    parser.add_argument("--out", type=Path, required=True, help="the GGUF to write")
    parser.add_argument("--type", choices=("f16", "q8_0"), default="f16", help="of the matrices")
    parser.add_argument("--name", default="tinymath", help="what the file calls itself")
    chosen = parser.parse_args()
    export(chosen.folder, chosen.out, chosen.type, chosen.name)
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
