"""Which transformers model a GGUF file is, and where the two order their rows differently.

One entry per architecture that a test proves (docs/models.md#what-trains). Knows headers, not
weights. transformers' own GGUF reader is not used: it ignores settings of many headers (rotary
scaling, soft caps, partial rotation, biases) and takes the defaults of one checkpoint instead. The
entry of Llama, whose q and k rows llama.cpp stores with the rotary halves interleaved:

    "llama": Family("llama", layout="rotary")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.training.header import GgufMeta, untrainable

Settings = dict[str, Any]


class Family(NamedTuple):
    """How transformers describes one of llama.cpp's architectures.

    ``model_type`` is transformers' name; ``layout`` says which rows the file reorders: none, those
    of q and k by rotary pairs, or those of a fused qkv from groups of heads to three blocks;
    ``shifted`` norms are stored with 1 added; ``more`` adds settings that ``settings`` lacks.

    ``packs``: every layer does plain causal attention through transformers' interface, and gets
    the argument that ``attention.handed`` adds. Others (recurrent state, ALiBi, attention sinks,
    windows, or layers that are not handed it, as in stablelm and nemotron) get one example per row
    and their own code.
    """

    model_type: str
    layout: Literal["plain", "rotary", "grouped"] = "plain"
    shifted: bool = False
    more: Callable[[GgufMeta], Settings] | None = None
    packs: bool = False


def family(meta: GgufMeta) -> Family:
    """The entry of a file's architecture; LmsiError: there is none."""
    found = FAMILIES.get(meta.architecture)
    if found is None:
        name = meta.architecture
        raise untrainable(f"lmsi does not know how to load architecture '{name}' in transformers")
    return found


def settings(meta: GgufMeta) -> Settings:
    """The header as keyword arguments of transformers' configurations.

    Each model's configuration has only some of these; ``load.configuration`` picks them. No window
    but Gemma's is among them: llama.cpp applies none, even if the original model has one.
    """
    v = meta.values
    rms, layer = v.get("attention.layer_norm_rms_epsilon"), v.get("attention.layer_norm_epsilon")
    experts, shared = (
        meta.shapes.get(f"blk.0.ffn_gate_{kind}.weight") for kind in ("exps", "shexp")
    )
    common = {
        "vocab_size": meta.shapes["token_embd.weight"][0],
        "hidden_size": meta.width,
        "intermediate_size": v.get("feed_forward_length"),
        "num_hidden_layers": meta.blocks,
        "num_attention_heads": meta.heads,
        "num_key_value_heads": meta.kv_heads,
        "head_dim": meta.head_size,
        "max_position_embeddings": v.get("context_length"),
        "rms_norm_eps": rms,
        "layer_norm_eps": layer,
        "layer_norm_epsilon": layer,
        "norm_epsilon": layer,
        "norm_eps": layer,
        "tie_word_embeddings": "output.weight" not in meta.shapes,
        "attention_bias": has(meta, "attn_q.bias") or has(meta, "attn_output.bias"),
        "use_bias": has(meta, "attn_q.bias"),
        "mlp_bias": has(meta, "ffn_up.bias"),
        "rope_parameters": rope(meta),
        "n_inner": v.get("feed_forward_length"),
        "multi_query": meta.kv_heads == 1,
        "clip_qkv": v.get("attention.clamp_kqv"),
        "use_qk_norm": has(meta, "attn_q_norm.weight"),
        "use_parallel_residual": v.get("use_parallel_residual"),
        "logit_scale": v.get("logit_scale"),
        "logits_scaling": v.get("logit_scale"),
        "embedding_multiplier": v.get("embedding_scale"),
        "residual_multiplier": v.get("residual_scale"),
        "attention_multiplier": v.get("attention.scale", meta.head_size**-0.5),
        "num_experts": v.get("expert_count"),
        "num_experts_per_tok": v.get("expert_used_count"),
        "moe_intermediate_size": experts and experts[1],
        "shared_expert_intermediate_size": shared and shared[0],
        "norm_topk_prob": meta.architecture == "qwen3moe",
    }
    more = family(meta).more
    return {k: x for k, x in common.items() if x is not None} | (more(meta) if more else {})


def has(meta: GgufMeta, part: str) -> bool:
    """Whether the first block has this tensor."""
    return f"blk.0.{part}" in meta.shapes


YARN = {
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
}


def rope(meta: GgufMeta) -> Settings:
    """Rotary settings in transformers' spelling, without Llama 3's factors: those are a tensor."""
    v = meta.values
    width = int(v.get("rope.dimension_count", meta.head_size))
    rotary: Settings = {
        "rope_theta": float(v.get("rope.freq_base", 10_000.0)),
        "rope_type": "default",
        "partial_rotary_factor": width / max(1, meta.head_size),
    }
    kind, factor = v.get("rope.scaling.type", "none"), v.get("rope.scaling.factor")
    if kind in ("linear", "yarn") and factor:
        rotary |= {"rope_type": kind, "factor": float(factor)}
    if kind == "yarn" and factor:
        # llama.cpp applies these on top of yarn's own scale, transformers in its place.
        for odd in ("yarn_attn_factor", "attn_factor", "yarn_ext_factor", "yarn_log_multiplier"):
            if f"rope.scaling.{odd}" in v:
                raise untrainable(
                    f"the file scales positions by yarn with {odd}, "
                    "which llama.cpp and transformers read differently"
                )
        rotary |= {name: v[key] for name, key in YARN.items() if key in v}
    return rotary


def _stablelm(meta: GgufMeta) -> Settings:
    return {
        "use_qkv_bias": has(meta, "attn_q.bias"),
        "use_parallel_residual": not has(meta, "ffn_norm.weight"),
        "qk_layernorm": has(meta, "attn_q_norm.weight"),
    }


def _falcon(meta: GgufMeta) -> Settings:
    two_norms = has(meta, "attn_norm_2.weight")
    new = two_norms or meta.kv_heads not in (1, meta.heads)
    return {
        "num_kv_heads": meta.kv_heads,
        "new_decoder_architecture": new,
        "num_ln_in_parallel_attn": (2 if two_norms else 1) if new else None,
        "multi_query": meta.kv_heads == 1,
        "ffn_hidden_size": meta.values.get("feed_forward_length"),
        "bias": has(meta, "ffn_up.bias"),
        "alibi": False,
    }


def _phi3(meta: GgufMeta) -> Settings:
    v = meta.values
    rotary = rope(meta)
    if meta.long_rope is not None:
        rotary["rope_type"] = "longrope"
        rotary["short_factor"], rotary["long_factor"] = meta.long_rope
        rotary["attention_factor"] = float(v.get("rope.scaling.attn_factor", 1.0))
    original = int(v.get("rope.scaling.original_context_length", v["context_length"]))
    return {"rope_parameters": rotary, "original_max_position_embeddings": original}


def _scalar(meta: GgufMeta, large: int) -> int:
    """What Gemma divides its scores by, squared; 27B is known by its blocks, as in llama.cpp."""
    return meta.width // meta.heads if meta.blocks == large else meta.head_size


def _windows(meta: GgufMeta, every: int) -> Settings:
    """Every ``every``-th layer sees all tokens, the others a window."""
    window = int(meta.values.get("attention.sliding_window", 0))
    pattern = meta.values.get("attention.sliding_window_pattern", every)
    if isinstance(pattern, list):
        local = [bool(x) for x in pattern]
    else:
        local = [bool(window) and (i + 1) % int(pattern) > 0 for i in range(meta.blocks)]
    return {
        "sliding_window": window or None,
        "layer_types": ["sliding_attention" if x else "full_attention" for x in local],
    }


def _gemma2(meta: GgufMeta) -> Settings:
    v = meta.values
    return {
        **_windows(meta._replace(values={"attention.sliding_window": 4096, **v}), every=2),
        "attn_logit_softcapping": v.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": v.get("final_logit_softcapping", 30.0),
        "query_pre_attn_scalar": _scalar(meta, 46),
    }


def _gemma3(meta: GgufMeta) -> Settings:
    v = meta.values
    near = {"rope_type": "default", "rope_theta": float(v.get("rope.freq_base_swa", 10_000.0))}
    return {
        **_windows(meta, every=6),
        "rope_parameters": {"full_attention": rope(meta), "sliding_attention": near},
        "final_logit_softcapping": v.get("final_logit_softcapping"),
        "query_pre_attn_scalar": _scalar(meta, 62),
    }


FAMILIES = {
    "arcee": Family("arcee", layout="rotary", packs=True),
    "bloom": Family("bloom", layout="grouped"),
    "command-r": Family("cohere", packs=True),
    "falcon": Family("falcon", layout="grouped", more=_falcon),
    "gemma": Family("gemma", shifted=True, packs=True),
    "gemma2": Family("gemma2", shifted=True, more=_gemma2),
    "gemma3": Family("gemma3_text", shifted=True, more=_gemma3),
    "gpt2": Family("gpt2"),
    "gptneox": Family("gpt_neox", layout="grouped"),
    "granite": Family("granite", layout="rotary", packs=True),
    "llama": Family("llama", layout="rotary", packs=True),
    "nemotron": Family("nemotron", shifted=True),
    "olmo": Family("olmo", layout="rotary", packs=True),
    "olmo2": Family("olmo2", packs=True),
    "phi2": Family("phi", packs=True),
    "phi3": Family("phi3", more=_phi3, packs=True),
    "qwen2": Family("qwen2", packs=True),
    "qwen2moe": Family("qwen2_moe", packs=True),
    "qwen3": Family("qwen3", packs=True),
    "qwen3moe": Family("qwen3_moe", packs=True),
    "smollm3": Family("smollm3", layout="rotary", packs=True),
    "stablelm": Family("stablelm", more=_stablelm),
    "starcoder": Family("gpt_bigcode"),
    "starcoder2": Family("starcoder2", packs=True),
}
PACKING = {kind.model_type for kind in FAMILIES.values() if kind.packs}


def order(name: str, meta: GgufMeta) -> NDArray[np.intp] | None:
    """Where transformers has the rows of a tensor of the file, a weight or a bias.

    Row ``i`` of the file is row ``order[i]`` there; None if both have the same order.
    """
    part = name.split(".")[2] if name.startswith("blk.") else ""
    layout, rows = family(meta).layout, meta.shapes[name][0]
    heads = {"attn_q": meta.heads, "attn_k": meta.kv_heads}.get(part, 0)
    if layout == "rotary" and heads:
        return np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).ravel()
    if layout == "grouped" and part == "attn_qkv":
        # From queries, one key and one value per group of heads to all queries, keys and values.
        groups = np.arange(rows).reshape(meta.kv_heads, -1, meta.head_size)
        blocks = groups[:, :-2], groups[:, -2], groups[:, -1]
        return np.concatenate([block.ravel() for block in blocks])
    return None
