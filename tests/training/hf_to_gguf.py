"""Random models of transformers, and the GGUF files that llama.cpp's converter would make of them.

Written anew from what the converter does (its ``conversion/`` folder), and kept apart from
``lmsi_cli.training.architectures``, which does the opposite: where both had the same mistake,
llama.cpp's logits would tell.
"""

import tomllib
from pathlib import Path

import gguf
import numpy as np
from broken_models import finish

ARCHITECTURES = Path(__file__).with_name("architectures.toml").read_text()
CASES = {
    name: {"arch": arch, "model": arch, "config": {}} | case
    for name, case in tomllib.loads(ARCHITECTURES).items()
    for arch in [name.partition(",")[0]]
}
BYTES = 256
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>"]
WORDS = ["Ġt", "he", "Ġthe", "er", "Ġ2", "an", "Ġan", "Ġis"]


def add_vocabulary(writer, size):
    """A byte-level BPE vocabulary of ``size`` tokens, its merges, and the types of its tokens."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = [*bytes_to_unicode().values(), *WORDS, *SPECIAL]
    types = [1] * (BYTES + len(WORDS)) + [3] * len(SPECIAL) + [5] * (size - len(tokens))
    tokens += [f"[PAD{i}]" for i in range(len(tokens), size)]  # where the matrix is larger
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{w[:-1]} {w[-1]}" for w in WORDS if w[:-1] in tokens])
    writer.add_bos_token_id(BYTES + len(WORDS))
    writer.add_eos_token_id(BYTES + len(WORDS) + 1)


def rotary(w, heads):
    """Llama's halves interleaved, as for the original checkpoints' arithmetic."""
    halves = w.reshape(heads, 2, -1, *w.shape[1:])
    return halves.swapaxes(1, 2).reshape(w.shape)


def fused(w, groups, size):
    """Rows of (queries, key, value) per group to all queries, all keys, all values."""
    parts = w.reshape(groups, -1, size, *w.shape[1:])
    blocks = parts[:, :-2], parts[:, -2], parts[:, -1]
    return np.concatenate([b.reshape(-1, *w.shape[1:]) for b in blocks])


ROTARY = ("llama", "smollm3", "granite", "arcee", "olmo")
FUSED = ("falcon", "bloom", "gptneox")
SHIFTED = ("gemma", "gemma2", "gemma3", "nemotron")


def tensors(model, arch):
    """Name and numbers of each tensor of the file, float32."""
    config = model.config
    heads, kv = config.num_attention_heads, kv_heads(config, arch)
    number = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    for ours, tensor in model.state_dict().items():
        if ours == "lm_head.weight" and config.tie_word_embeddings:
            continue
        w = tensor.float().numpy()
        if arch in ROTARY and ("q_proj" in ours or "k_proj" in ours):
            w = rotary(w, heads if "q_proj" in ours else kv)
        if arch in FUSED and "query_key_value" in ours:
            w = fused(w, heads if arch != "falcon" else kv, config.hidden_size // heads)
        if arch == "gpt2" and w.ndim == 2 and ".c_" in ours:
            w = w.T
        if arch in SHIFTED and ours.endswith("norm.weight"):
            w = w + 1
        for part, x in split_experts(ours, w):
            short = part.partition("transformer.")[2] if arch == "bloom" else part
            name = names.get_name(short, try_suffixes=(".weight", ".bias"))
            assert name, part
            yield name, np.ascontiguousarray(x, np.float32)


def kv_heads(config, arch):
    if arch == "starcoder" or (arch == "falcon" and not config.new_decoder_architecture):
        return 1
    told = (getattr(config, name, None) for name in ("num_key_value_heads", "num_kv_heads"))
    return next((n for n in told if n), config.num_attention_heads)


def split_experts(name, w):
    if name.endswith("experts.gate_up_proj"):
        stem, half = name.removesuffix("gate_up_proj"), w.shape[1] // 2
        return [(f"{stem}gate_proj.weight", w[:, :half]), (f"{stem}up_proj.weight", w[:, half:])]
    return [(f"{name}.weight" if name.endswith("experts.down_proj") else name, w)]


def header(writer, config, arch):
    """What the converter writes of a configuration."""

    def get(*names):
        return next((x for n in names if (x := getattr(config, n, None)) is not None), None)

    hidden, heads = config.hidden_size, config.num_attention_heads
    writer.add_context_length(get("max_position_embeddings") or 256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(config.num_hidden_layers)
    wide = get("intermediate_size", "n_inner", "ffn_hidden_size")
    writer.add_feed_forward_length(wide or 4 * hidden)
    writer.add_head_count(heads)
    writer.add_vocab_size(config.vocab_size)
    if arch != "gpt2":
        writer.add_head_count_kv(kv_heads(config, arch))
    if (size := config.to_dict().get("head_dim")) is not None:
        writer.add_key_length(size)
        writer.add_value_length(size)
    header_rope(writer, config, size or hidden // heads, arch)
    for name, add in EXTRA.items():
        if (value := get(name)) is not None:
            getattr(writer, add)(value)
    if arch == "olmo":  # it has no name for it
        writer.add_layer_norm_eps(1e-5)
    if arch in ("gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window or 0)


EXTRA = {
    "rms_norm_eps": "add_layer_norm_rms_eps",
    "norm_eps": "add_layer_norm_eps",
    "layer_norm_eps": "add_layer_norm_eps",
    "layer_norm_epsilon": "add_layer_norm_eps",
    "norm_epsilon": "add_layer_norm_eps",
    "attn_logit_softcapping": "add_attn_logit_softcapping",
    "final_logit_softcapping": "add_final_logit_softcapping",
    "attention_multiplier": "add_attention_scale",
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "logits_scaling": "add_logit_scale",
    "logit_scale": "add_logit_scale",
    "num_experts": "add_expert_count",
    "num_experts_per_tok": "add_expert_used_count",
    "moe_intermediate_size": "add_expert_feed_forward_length",
    "shared_expert_intermediate_size": "add_expert_shared_feed_forward_length",
    "use_parallel_residual": "add_parallel_residual",
}


def header_rope(writer, config, size, arch):
    told = getattr(config, "rope_parameters", None) or {}
    near, rope = told.get("sliding_attention"), told.get("full_attention", told)
    if not rope:
        return
    if arch not in ("falcon", "stablelm", "phi2", "gptneox"):  # the converter leaves it out
        writer.add_rope_freq_base(rope["rope_theta"])
    if near:
        writer.add_rope_freq_base_swa(near["rope_theta"])
    share = rope.get("partial_rotary_factor", 1.0)
    if arch in ("llama", "phi2", "phi3", "stablelm", "nemotron", "gptneox", *ROTARY):
        writer.add_rope_dimension_count(int(share * size))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if kind in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if kind == "longrope":
        scale = rope["factor"]
        writer.add_rope_scaling_attn_factors(
            float(np.sqrt(1 + np.log(scale) / np.log(rope["original_max_position_embeddings"])))
        )


def rope_tensors(config):
    """Llama 3's factors and Phi-3's two sets of them."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        plain = rope["rope_theta"] ** (-np.arange(0, size, 2) / size)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        yield "rope_freqs.weight", (plain / scaled.numpy()).astype(np.float32)
    if rope.get("rope_type") == "longrope":
        yield "rope_factors_short.weight", np.array(rope["short_factor"], np.float32)
        yield "rope_factors_long.weight", np.array(rope["long_factor"], np.float32)


def write(path, arch, model, kind="F32", more=None, alignment=32):
    """Write ``model`` as a GGUF file; matrices as ``kind`` (F32, F16, BF16 or Q8_0).

    ``more`` adds tensors by name; where it has None, tensors with that in their name stay out.
    """
    writer = gguf.GGUFWriter(path, arch)
    header(writer, model.config, arch)
    add_vocabulary(writer, model.config.vocab_size)
    writer.add_custom_alignment(alignment)
    number = gguf.GGMLQuantizationType[kind]
    for name, w in [*tensors(model, arch), *rope_tensors(model.config)]:
        if any(part in name for part, what in (more or {}).items() if what is None):
            continue
        if w.ndim > 1 and "position_embd" not in name:
            writer.add_tensor(name, gguf.quantize(w, number), raw_dtype=number)
        else:
            writer.add_tensor(name, w)
    for name, w in (more or {}).items():
        if w is not None:
            writer.add_tensor(name, w)
    return finish(writer, path)


def build(model_type, seed=0, **config):
    """A random model whose logits differ visibly, with norms and biases that are not trivial."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = AutoConfig.for_model(model_type)
    known = {*plain.to_dict(), *plain.attribute_map, "rope_parameters"}
    common = {**SHAPE, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    told = {
        plain.attribute_map.get(k, k): v
        for k, v in {**common, **config}.items()
        if k in known or k in config
    }
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **told))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.1)
            elif "experts" in name:
                p.normal_(std=0.15)
    return model.eval()


SHAPE = {
    "vocab_size": 272, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256, "initializer_range": 0.15,
}  # fmt: skip
