"""A Llama of two tiny layers, examples for it, a short run's settings, and llama.cpp beside it."""

import random

from hf_to_gguf import build

from lmsi_cli.config import EngineConfig, TrainConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.training import adapter, checkpoint
from lmsi_cli.training.adapter import add_lora, trainable
from lmsi_cli.training.data import Codec, TokenExample, share_prefixes
from lmsi_cli.training.loop import TrainingRun
from lmsi_cli.training.verify import Sides, verify


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


# -- llama.cpp beside it ---------------------------------------------------------------------------


class Llama(LlamaEngine):
    """The engine on one core, as the stages use it for a proof; its adapter can be switched on."""

    def __init__(self, gguf, adapter=None):
        super().__init__(gguf, EngineConfig(threads=1, fast_copy="off"))
        self.adapter = adapter and str(adapter)

    def logits(self, prompts, adapted=False):
        """Next-token logits, (prompts, vocabulary)."""
        self.use_adapter(self.adapter if adapted else None)
        return self.last_logits(prompts)


def proven(torch_logits, llama, ids):
    """The proof of a training."""
    ours = Sides(torch_logits(ids, False), torch_logits(ids, True))
    return verify(ours, Sides(llama.logits(ids), llama.logits(ids, True)))
