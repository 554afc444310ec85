"""The child process of ``cpu_check.py``: decode a tiny quantised model, or die of it.

python -m lmsi_cli.engine.cpu_check_child FOLDER 1    # 1: with repacked weights
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from lmsi_cli.engine import llama
from lmsi_cli.engine.context import Batch

WIDTH, HEADS, TOKENS = 256, 4, 64  # of the tiny model: the smallest that fills an AMX tile


def write_tiny_model(path: Path) -> None:
    """Write a one-layer Llama with random weights in Q8_0 and Q4_0, the types AMX code takes."""
    rng, kinds = np.random.default_rng(0), gguf.GGMLQuantizationType
    w: Any = gguf.GGUFWriter(path, "llama")
    w.add_context_length(64)
    w.add_embedding_length(WIDTH)
    w.add_block_count(1)
    w.add_feed_forward_length(WIDTH)
    w.add_head_count(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(TOKENS)
    w.add_tokenizer_model("no_vocab")
    blocks = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (TOKENS, WIDTH), "output": (TOKENS, WIDTH)}
    shapes |= {f"blk.0.{name}": (WIDTH, WIDTH) for name in blocks}
    for name, shape in shapes.items():
        kind = kinds.Q4_0 if "ffn" in name else kinds.Q8_0
        values = rng.normal(0, 0.02, shape).astype(np.float32)
        w.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        w.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def decode(path: Path, extra_buffers: bool) -> None:
    """Load a model and decode 32 tokens at once and one alone; exits with a message on failure."""
    lib = llama.library()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        sys.exit(f"cannot load the probe: {llama.last_complaint()}")
    context_params = lib.llama_context_default_params()
    context_params.n_ctx, context_params.n_threads = 64, 2
    context = lib.llama_init_from_model(model, context_params)
    batch = Batch(64)
    for size, at in ((32, 0), (1, 32)):
        batch.clear()
        ids = np.arange(size, dtype=np.int32)
        batch.add(ids, ids + at, 0, 1)
        if lib.llama_decode(context, batch.raw(lib)) != 0:
            sys.exit("the probe's decode failed")


if __name__ == "__main__":
    tiny = Path(sys.argv[1]) / "probe.gguf"
    write_tiny_model(tiny)
    decode(tiny, extra_buffers=sys.argv[2] == "1")
