"""What the training tests share: a Llama of two tiny layers and examples for it."""

import random

import msgspec
import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import TrainExample
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.training.data import TokenExample, share_prefixes


@pytest.fixture
def tiny():
    """Build a random Llama (vocabulary 64) with an adapter whose B is zero, as training has it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lmsi_cli.training.adapter import add_lora

    def build(**config):
        torch.manual_seed(0)
        shape = LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,  # at the usual 0.02 a frozen head is never sure of anything
        )
        model = LlamaForCausalLM(shape).requires_grad_(False)
        return add_lora(model, TrainConfig(rank=4, **config), "tiny.gguf")

    return build


@pytest.fixture
def examples():
    """Nine examples: two formats with shared prefixes of 20 and 30 ids, and one without."""
    rng = random.Random(0)

    def ids(n):
        return [rng.randrange(64) for _ in range(n)]

    heads = [ids(20), ids(30), []]
    pairs = [
        TokenExample(heads[i % 3] + ids(4 + i), ids(3 + i % 5), name=f"q{i}") for i in range(9)
    ]
    return share_prefixes(pairs, [str(i % 3) for i in range(9)])


@pytest.fixture
def run(gguf, tmp_path):
    """A voted run folder of six short examples."""
    folder = RunDir(tmp_path / "run")
    folder.create()
    told = {"model": str(gguf), "model_sha256": sha256_file(gguf), "chat": "off"}
    folder.save_settings("sample", {**told, "task": "auto", "task_name": "number"})
    folder.questions.write_text('{"id":"x","question":"How many legs have 3 dogs?"}\n')
    pairs = [
        TrainExample(
            prompt=f"Q: Ann has {n} pens and buys {n}. How many pens?\nA:",
            completion=f" {n} + {n} = {2 * n}. The answer is {2 * n}.",
            format="cot-zero",
            question_id=f"q{n}",
            path=0,
        )
        for n in range(2, 8)
    ]
    folder.train.write_bytes(msgspec.json.Encoder().encode_lines(pairs))
    return folder
