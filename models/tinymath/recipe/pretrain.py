"""Stage one: train a small Llama from random weights on the known families.

It writes its training text first (a pool of token ids in OUT, reused when you run it again), then
trains, with a checkpoint every so many steps. Stopped, it goes on where it was: batch *n* is drawn
from a seed made of the run's seed and *n*.

This file does not know the harder families, nor how good the model is; measure it as GGUF.

How to run it::

    python models/tinymath/recipe/pretrain.py --out build/tinymath/base --compile
    python models/tinymath/recipe/pretrain.py --out build/smoke/base --smoke

One record, what it leaves in OUT: ``model.safetensors``, ``config.json``, ``tokenizer.json``,
``plan.json`` with ``{"batch": 128, "learning_rate": 0.002, "length": 1024, ...}``, and the pool.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import Ids, load_pool, load_tokenizer
from solutions import END_OF_TEXT_ID
from train_loop import Plan, Trainer, add_machine_options, finish, is_finished, read_machine
from transformers import LlamaConfig, LlamaForCausalLM

SHIPPED_TOKENIZER = Path(__file__).resolve().parents[1] / "tokenizer.json"
CONTEXT = 2_048
SMOKE_DOCUMENTS = 200


@dataclass(frozen=True)
class Size:
    """The shape of the model."""

    width: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int


RELEASED = Size(width=512, layers=8, feed_forward=1536, heads=8, kv_heads=4)
SMOKE = Size(width=64, layers=2, feed_forward=96, heads=4, kv_heads=2)


def make_model(size: Size, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights and a head tied to its embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
    )
    return LlamaForCausalLM(config)


def windows(pool: Ids, plan: Plan, step: int) -> Iterator[Ids]:
    """Yield (batch, length + 1) ids cut from anywhere in the pool, from a given step on."""
    offsets = np.arange(plan.length + 1)
    while True:
        rng = np.random.default_rng((plan.seed, step))
        starts = rng.integers(len(pool) - plan.length, size=plan.batch)
        yield pool[starts[:, None] + offsets]
        step += 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train the model on the known families.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--tokens", type=float, default=334, help="millions to read")
    parser.add_argument("--documents", type=int, default=900_000, help="size of the pool of text")
    parser.add_argument("--batch", type=int, default=128, help="sequences of 1,024 tokens")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the highest")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--tokenizer", type=Path, default=SHIPPED_TOKENIZER, help="tokenizer.json")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that write the pool"
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny model, 20 tiny steps, seconds")
    add_machine_options(parser)
    return parser.parse_args()


def read_plan(chosen: argparse.Namespace) -> Plan:
    """The plan of the command line, or the small one of ``--smoke``."""
    tokens, batch, length, warmup = round(chosen.tokens * 1e6), chosen.batch, 1_024, 200
    if chosen.smoke:
        tokens, batch, length, warmup = 20 * 4 * 64, 4, 64, 4
    return Plan(
        tokens=tokens,
        stop_at=tokens,
        batch=batch,
        length=length,
        learning_rate=chosen.learning_rate,
        schedule="half",
        warmup=warmup,
        weight_decay=0.1,
        seed=chosen.seed,
    )


def main() -> None:
    """Write the pool, train, leave the model."""
    chosen = parse_arguments()
    if is_finished(chosen.out):
        raise SystemExit(f"{chosen.out}: finished already; nothing to do")
    plan = read_plan(chosen)
    tokenizer = load_tokenizer(chosen.tokenizer)
    documents = SMOKE_DOCUMENTS if chosen.smoke else chosen.documents
    workers = 1 if chosen.smoke else chosen.workers
    pool = load_pool(chosen.out, tokenizer, documents, workers)
    torch.set_float32_matmul_precision("high")
    size = SMOKE if chosen.smoke else RELEASED
    model = make_model(size, tokenizer.get_vocab_size(), plan.seed)
    trainer = Trainer(model, plan, read_machine(chosen), chosen.out)
    trainer.resume()
    trainer.run(lambda step: windows(pool, plan, step))
    finish(trainer, chosen.out, chosen.tokenizer)


if __name__ == "__main__":
    main()
