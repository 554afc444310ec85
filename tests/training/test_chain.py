"""The chain holds for every architecture: GGUF to PyTorch, LoRA in PEFT, and back to llama.cpp."""

import pytest
from hf_to_gguf import build, write
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import TrainExample
from lmsi_cli.training import export, load
from lmsi_cli.training.data import Codec
from lmsi_cli.training.trainer import train
from lmsi_cli.training.verify import gap, torch_logits, verify

pytestmark = pytest.mark.model

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 2.0,
    "original_max_position_embeddings": 128,
    "short_factor": [1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5],
    "long_factor": [float(i) for i in range(1, 9)],
}


def theta(base, **more):
    return {"rope_type": "default", "rope_theta": base, **more}


GEMMA3 = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": theta(1e4),
}
MIXED = ["sliding_attention"] * 5 + ["full_attention"]

# Architecture in llama.cpp, model in transformers, what differs from the common shape.
CASES = {
    "llama, tied": ("llama", "llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", "llama", {"attention_bias": True}),
    "llama, wide heads": ("llama", "llama", {"head_dim": 32}),
    "llama 3 factors": ("llama", "llama", {"rope_parameters": LLAMA3}),
    "llama, linear": ("llama", "llama", {"rope_parameters": theta(1e4, factor=4.0) | {"rope_type": "linear"}}),
    "mistral": ("llama", "mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", "qwen2", {"tie_word_embeddings": True, "rope_parameters": theta(1e6)}),
    "qwen2, yarn": ("qwen2", "qwen2", {"rope_parameters": YARN}),
    "qwen3": ("qwen3", "qwen3", {"head_dim": 32, "rope_parameters": theta(1e6)}),
    "gemma": ("gemma", "gemma", {"head_dim": 32}),
    "gemma2": ("gemma2", "gemma2", {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}),
    "gemma3": ("gemma3", "gemma3_text", {"num_hidden_layers": 6, "layer_types": MIXED, "query_pre_attn_scalar": 16, "sliding_window": 8, "rope_parameters": GEMMA3}),
    "phi2": ("phi2", "phi", {"num_key_value_heads": 4, "rope_parameters": theta(1e4, partial_rotary_factor=0.5)}),
    "phi3": ("phi3", "phi3", {}),
    "phi3, long": ("phi3", "phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 128}),
    "phi3, partial": ("phi3", "phi3", {"rope_parameters": theta(1e4, partial_rotary_factor=0.5), "tie_word_embeddings": True}),
    "smollm3": ("smollm3", "smollm3", {"num_hidden_layers": 4, "rope_parameters": theta(5e6)}),
    "falcon": ("falcon", "falcon", {"multi_query": True, "ffn_hidden_size": 256}),
    "falcon, two norms": ("falcon", "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 256}),
    "stablelm": ("stablelm", "stablelm", {"use_qkv_bias": True, "rope_parameters": theta(1e4, partial_rotary_factor=0.25)}),
    "stablelm, parallel": ("stablelm", "stablelm", {"use_parallel_residual": True, "rope_parameters": theta(1e4, partial_rotary_factor=0.25)}),
    "gpt2": ("gpt2", "gpt2", {"n_inner": 256}),
    "gpt2, untied": ("gpt2", "gpt2", {"n_inner": 256, "tie_word_embeddings": False}),
    "starcoder": ("starcoder", "gpt_bigcode", {"n_inner": 256}),
    "starcoder2": ("starcoder2", "starcoder2", {"rope_parameters": theta(1e5)}),
    "nemotron": ("nemotron", "nemotron", {"rope_parameters": theta(1e4, partial_rotary_factor=0.5)}),
    "granite": ("granite", "granite", {"embedding_multiplier": 3.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5, "logits_scaling": 2.0}),
    "olmo": ("olmo", "olmo", {}),
    "olmo2": ("olmo2", "olmo2", {}),
    "gptneox": ("gptneox", "gpt_neox", {"rope_parameters": theta(1e4, partial_rotary_factor=0.25)}),
    "gptneox, in sequence": ("gptneox", "gpt_neox", {"use_parallel_residual": False, "rope_parameters": theta(1e4, partial_rotary_factor=0.25)}),
    "bloom": ("bloom", "bloom", {}),
    "command-r": ("command-r", "cohere", {"logit_scale": 0.5}),
    "arcee": ("arcee", "arcee", {}),
    "qwen2moe": ("qwen2moe", "qwen2_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}),
    "qwen3moe": ("qwen3moe", "qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}),
}  # fmt: skip
TEXTS = ["Q: What is 2 + 2?\nA:", "the answer is the other", "x" * 40, "Ann has 12 pens."]


def examples():
    return [
        TrainExample(
            prompt=f"Q: {n} + {n}?\nA:",
            completion=f" It is {2 * n}.",
            format="cot-zero",
            question_id=f"q{n}",
            path=0,
        )
        for n in range(6)
    ]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_chain_holds(case, tmp_path):
    from llama_side import opened

    arch, model_type, config = case
    original = build(model_type, **config)
    path = write(tmp_path / "base.gguf", arch, original)
    settings = TrainConfig(rank=4, alpha=16, max_steps=3, batch_size=2, lr=0.05, dtype="fp32")
    with opened(path) as llama:
        codec = Codec(llama.encode, lambda _, text: llama.encode(text))
        ids = [codec.prompt(text) for text in TEXTS]
        wanted = llama.logits(ids, False)
        same = torch_side(original, ids)
        assert gap(wanted, same) < 0.005  # the file is the model: the helper writes it right
        trained = train(examples(), path, settings, tmp_path, codec, Watcher())
    export.to_gguf(tmp_path, path, tmp_path / "adapter.gguf")
    with opened(path, tmp_path / "adapter.gguf") as llama:
        proof = verify(torch_logits(trained.model, "fp32"), llama.logits, ids)
        assert (llama.logits(ids, False) == wanted).all()
    print(f"\n{arch}: base {proof.base_gap:.5%} adapted {proof.adapted_gap:.5%} moved {proof.moved:.1%}")
    assert proof.base_gap < 0.005 and proof.adapted_gap < 0.005 and proof.moved > 0.05


def torch_side(model, prompts):
    import numpy as np
    import torch

    with torch.inference_mode():
        return np.stack([model(torch.tensor([ids])).logits[0, -1].float().numpy() for ids in prompts])
