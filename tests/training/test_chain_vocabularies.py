"""The chain over the vocabularies of real models, which come with llama.cpp's source.

Set LMSI_LLAMA_CPP_SOURCE to a folder of that source (the one that holds ``models/``).
"""

import os
from pathlib import Path

import gguf
import pytest
from hf_to_gguf import build, write
from test_chain import TEXTS, pairs
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import adapter
from lmsi_cli.training.data import Codec
from lmsi_cli.training.trainer import train
from lmsi_cli.training.verify import torch_logits, verify

VARIABLE = "LMSI_LLAMA_CPP_SOURCE"
MODELS = Path(os.environ.get(VARIABLE, "")) / "models"
pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.vocabularies,
    pytest.mark.skipif(
        not os.environ.get(VARIABLE),
        reason=f"set {VARIABLE} to a folder with llama.cpp's source, for its vocabularies",
    ),
]
# Vocabulary, architecture in llama.cpp, model in transformers.
PAIRS = [
    ("llama-spm", "llama", "llama"),
    ("llama-bpe", "llama", "llama"),
    ("deepseek-llm", "llama", "llama"),
    ("qwen2", "qwen2", "qwen2"),
    ("phi-3", "phi3", "phi3"),
    ("falcon", "falcon", "falcon"),
    ("gpt-2", "gpt2", "gpt2"),
    ("starcoder", "starcoder2", "starcoder2"),
    ("command-r", "command-r", "cohere"),
]


@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case[0])
def test_the_chain_holds_with_the_words_of_a_real_model(case, tmp_path):
    from llama_side import opened

    name, arch, model_type = case
    words = MODELS / f"ggml-vocab-{name}.gguf"
    tokens = len(gguf.GGUFReader(words).get_field("tokenizer.ggml.tokens").data)
    more = {"n_inner": 256} if arch == "gpt2" else {}
    more |= {"ffn_hidden_size": 256} if arch == "falcon" else {}
    model = build(model_type, vocab_size=tokens, tie_word_embeddings=True, **more)
    path = write(tmp_path / "base.gguf", arch, model, kind="F16", source=words)
    settings = TrainConfig(rank=4, alpha=16, max_steps=2, batch_size=2, lr=0.02, dtype="fp32")
    with opened(path) as llama:
        codec = Codec(llama.encode, lambda _, text: llama.encode(text))
        ids = [codec.prompt(text) for text in TEXTS]
        trained = train(pairs(), path, settings, tmp_path, codec, Watcher())
    adapter.to_gguf(tmp_path, path, tmp_path / "adapter.gguf")
    with opened(path, tmp_path / "adapter.gguf") as llama:
        proof = verify(torch_logits(trained.model, "fp32"), llama.logits, ids)
    print(f"{name}: base {proof.base_gap:.3%}, adapted {proof.adapted_gap:.3%}")  # pytest -s
    assert proof.base_gap < 0.003 and proof.adapted_gap < 0.003
