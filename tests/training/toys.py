"""A Llama of two tiny layers, examples for it, and a short run's settings."""

import random

from hf_to_gguf import build

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import adapter, checkpoint
from lmsi_cli.training.adapter import add_lora, trainable
from lmsi_cli.training.data import Codec, TokenExample, share_prefixes
from lmsi_cli.training.loop import TrainingRun


def toy_model(config):
    """A random Llama (vocabulary 64) with an adapter whose B is zero, as training has it."""
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8}
    # at the usual spread of 0.02 a frozen head is never sure of anything
    model = build("llama", initializer_range=0.2, **shape)
    return add_lora(model.requires_grad_(False), config, "tiny.gguf")


def toy_examples():
    """Nine examples: two formats with shared prefixes of 20 and 30 ids, and one without."""
    rng = random.Random(0)

    def ids(n):
        return [rng.randrange(64) for _ in range(n)]

    heads = [ids(20), ids(30), []]
    pairs = [
        TokenExample(heads[i % 3] + ids(4 + i), ids(3 + i % 5), name=f"q{i}") for i in range(9)
    ]
    return share_prefixes(pairs, [str(i % 3) for i in range(9)])


# A token a character, between a token that begins and one that ends.
CODEC = Codec(lambda text: [1, *map(ord, text)], lambda _, text: [*map(ord, text), 2])


def job(examples, out, watched=(), unseen=False, **config):
    """Twelve steps of four examples on the toy model, unless ``config`` says otherwise."""
    usual = {"lr": 0.02, "max_steps": 12, "batch_size": 4, "rank": 4, "row_tokens": 1536}
    settings = TrainConfig(**{**usual, **config})
    header = checkpoint.begun(examples, settings, "", adapter.fingerprint(settings))
    return TrainingRun(examples, settings, "fp32", out, header, watched, unseen)


def losses(outcome):
    return [line.loss for line in outcome.log]


def moved(model, spread=0.2, seed=0):
    """Let the adapter act, as after some steps: with B zero, A would have no gradient."""
    import torch

    torch.manual_seed(seed)
    for p in trainable(model).values():
        torch.nn.init.normal_(p, std=spread)
    return model


def gradient(model):
    """The gradient of all that is trained, as one vector."""
    import torch

    return torch.cat([p.grad.flatten() for p in trainable(model).values()])
