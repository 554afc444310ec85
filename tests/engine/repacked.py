"""A small model with random weights of several types, and its logits in a process of its own.

    written(folder / "m.gguf")                          # a type for each matrix, from F32
    exact(folder / "m.gguf", folder / "f32.gguf")       # the very same weights, not rounded again
    logits(folder / "m.gguf", True, [8, 33])            # repacked: {8: (64, VOCABULARY), 33: ...}

As a script: model, 1 to repack, where to put the logits, widths.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

WIDTH, LAYERS, HEADS, VOCABULARY, TOKENS = 512, 2, 8, 320, 64
INNER = 768  # of the feed-forward part: no power of two
MIXED = ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16")  # one matrix after the other


def shapes():
    """(rows, columns) of every matrix."""
    found = {"token_embd": (VOCABULARY, WIDTH), "output": (VOCABULARY, WIDTH)}
    for n in range(LAYERS):
        found |= {f"blk.{n}.attn_{x}": (WIDTH, WIDTH) for x in ("q", "k", "v", "output")}
        found |= {f"blk.{n}.ffn_{x}": (INNER, WIDTH) for x in ("gate", "up")}
        found[f"blk.{n}.ffn_down"] = (WIDTH, INNER)
    return {f"{name}.weight": shape for name, shape in found.items()}


def written(path):
    """Write the model."""
    import gguf

    from lmsi_cli.engine.fast_copy import check_kind, quantise

    types = gguf.GGMLQuantizationType
    rng, whole = np.random.default_rng(0), path.with_suffix(".whole")
    drawn = {n: rng.normal(0, s[1] ** -0.5, s).astype(np.float32) for n, s in shapes().items()}
    _write(whole, drawn)
    own = {name: int(types[MIXED[i % len(MIXED)]]) for i, name in enumerate(drawn)}
    quantise(whole, path, check_kind("Q8_0"), own)
    return path


def exact(path, out):
    """Write a quantised model's weights as the numbers that they stand for."""
    import gguf

    found = {t.name: t for t in gguf.GGUFReader(path).tensors if t.name in shapes()}
    _write(out, {n: gguf.quants.dequantize(t.data, t.tensor_type) for n, t in found.items()})
    return out


def _write(path, matrices):
    import gguf
    from broken_models import finish

    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(2 * TOKENS)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("no_vocab")
    norms = [f"blk.{n}.{x}_norm" for n in range(LAYERS) for x in ("attn", "ffn")]
    for name in (*norms, "output_norm"):
        w.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name, values in matrices.items():
        w.add_tensor(name, np.ascontiguousarray(values, np.float32))
    finish(w, path)


def logits(path, repacked, widths):
    """The logits after each of ``TOKENS`` tokens, by how many are read at a time."""
    out = path.with_suffix(".npz")
    argv = [sys.executable, __file__, path, int(repacked), out, *widths]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return {int(width): found for width, found in np.load(out).items()}


def _loaded(path, repacked):
    from lmsi_cli.engine import llama

    lib = llama.library()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = repacked
    model = lib.llama_model_load_from_file(path.encode(), params)
    assert model
    return lib, model


def _decode(lib, model, width):
    from lmsi_cli.engine.context import Batch

    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 2 * TOKENS, width, width
    settings.n_threads = settings.n_threads_batch = 1
    context = lib.llama_init_from_model(model, settings)
    ids = np.random.default_rng(1).integers(0, VOCABULARY, TOKENS).astype(np.int32)
    rows = []
    for start in range(0, TOKENS, width):
        batch, part = Batch(width), ids[start : start + width]
        batch.fill(part, np.arange(start, start + len(part), dtype=np.int32), 0, 1)
        assert lib.llama_decode(context, batch.raw(lib)) == 0
        found = lib.llama_get_logits(context)
        rows.append(np.ctypeslib.as_array(found, shape=(len(part), VOCABULARY)).copy())
    return np.concatenate(rows)


if __name__ == "__main__":
    opened = _loaded(sys.argv[1], sys.argv[2] == "1")
    np.savez(Path(sys.argv[3]), **{width: _decode(*opened, int(width)) for width in sys.argv[4:]})
