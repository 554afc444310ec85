r"""Stage two: teach a trained model the harder families halfway.

Six problems of ten are from the harder families and the others from the known ones, so that it
does not forget them. Halfway is the aim: a model that is always right leaves nothing to vote about.

This file does not know how the base was trained, nor how good the result is.

How to run it; these two are what the released weights went through::

    python models/tinymath/recipe/continue_hard.py --base build/tinymath/base \
        --out build/tinymath/hard-1 --tokens 2 --learning-rate 3e-4 --schedule constant --seed 77
    python models/tinymath/recipe/continue_hard.py --base build/tinymath/hard-1 \
        --out build/tinymath/hard-2 --tokens 1.6 --stop-at 1.59 --learning-rate 4e-4 \
        --schedule decay --seed 78

One record, what it leaves in OUT: ``model.safetensors``, ``config.json``, ``tokenizer.json`` and
``plan.json`` with ``{"batch": 12, "learning_rate": 0.0003, "length": 512, ...}``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from corpus import Ids, load_tokenizer, stream
from solutions import SECOND_STAGE, Mix
from tokenizers import Tokenizer
from train_loop import Plan, Trainer, add_machine_options, finish, is_finished, read_machine
from transformers import LlamaForCausalLM


def batches(tokenizer: Tokenizer, plan: Plan, step: int, mix: Mix = SECOND_STAGE) -> Iterator[Ids]:
    """Yield (batch, length + 1) ids, from a given step on; earlier ones are written and dropped."""
    row = plan.length + 1
    for ids in islice(stream(tokenizer, plan.seed, plan.batch * row, mix), step, None):
        yield ids.reshape(plan.batch, row)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Teach a trained model the harder families halfway.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--base", type=Path, required=True, help="the folder of a finished model")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--tokens", type=float, default=2, help="millions; the schedule's length")
    parser.add_argument("--stop-at", type=float, help="millions after which to stop earlier")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="the highest")
    parser.add_argument(
        "--schedule", choices=("constant", "decay"), default="constant", help="of the rate"
    )
    parser.add_argument("--seed", type=int, default=77, help="of the text")
    parser.add_argument("--smoke", action="store_true", help="20 tiny steps, seconds")
    add_machine_options(parser)
    return parser.parse_args()


def read_plan(chosen: argparse.Namespace, batch: int = 12) -> Plan:
    """The plan of the command line, or the small one of ``--smoke``."""
    tokens, length = round(chosen.tokens * 1e6), 512
    if chosen.smoke:
        tokens, batch, length = 20 * 2 * 64, 2, 64
    stop_at = tokens if chosen.stop_at is None else min(tokens, round(chosen.stop_at * 1e6))
    return Plan(
        tokens=tokens,
        stop_at=stop_at,
        batch=batch,
        length=length,
        learning_rate=chosen.learning_rate,
        schedule=chosen.schedule,
        warmup=20,
        weight_decay=0.05,
        seed=chosen.seed,
    )


def load_base(folder: Path) -> LlamaForCausalLM:
    """Load a finished model in single precision.

    Raises:
        SystemExit: where there is none.
    """
    if not is_finished(folder):
        raise SystemExit(f"error: {folder}: no finished model\nhint: run pretrain.py first")
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def main() -> None:
    """Train, leave the model."""
    chosen = parse_arguments()
    if is_finished(chosen.out):
        raise SystemExit(f"{chosen.out}: finished already; nothing to do")
    plan = read_plan(chosen)
    vocabulary = chosen.base / "tokenizer.json"
    tokenizer = load_tokenizer(vocabulary)
    trainer = Trainer(load_base(chosen.base), plan, read_machine(chosen), chosen.out)
    trainer.resume()
    trainer.run(lambda step: batches(tokenizer, plan, step))
    finish(trainer, chosen.out, vocabulary)


if __name__ == "__main__":
    main()
