r"""A smaller model out of a finished one: layers are taken out, and what is left is healed.

Every choice of as many layers as shall stay is tried on a little text, and the one with the lowest
loss is kept. Then it reads text of both groups of families. With ``--soft`` a part of its loss is
the distance from what the whole model expects of every token; README.md tells what that was worth.

This file does not know how the base was trained, nor how good the result is.

How to run it; the first is what the released weights of tinymath-small went through::

    python models/tinymath/recipe/prune.py --base models/tinymath/tinymath-f16.gguf \
        --out build/tinymath/small
    python models/tinymath/recipe/prune.py --base build/tinymath/hard-2 --out build/s --smoke

One record, a line of what it says of its choices: ``0 1 7: loss 3.0123``
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from continue_hard import batches, read_plan
from corpus import load_tokenizer, stream
from solutions import HEALING
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from train_loop import (
    Machine,
    Plan,
    Trainer,
    add_machine_options,
    finish,
    is_finished,
    read_machine,
)
from transformers import LlamaForCausalLM

SHIPPED_TOKENIZER = Path(__file__).resolve().parents[1] / "tokenizer.json"
TRIAL_SEED = 6  # of the text that layers are chosen on; no stage trains on it
TRIAL_ROWS = 4
BATCH = 4  # rows of a step


class Healer(Trainer):
    """A trainer whose loss is in part the distance from a teacher.

    ``soft`` is the teacher's share of the loss, 0 to 1; the teacher has the same vocabulary.
    """

    def __init__(
        self, model: LlamaForCausalLM, plan: Plan, machine: Machine, out: Path, soft: float
    ) -> None:
        super().__init__(model, plan, machine, out)
        self.teacher: LlamaForCausalLM | None = None
        self.soft = soft

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """Cross entropy with the next token, and with what the teacher expects there."""
        logits = self.logits(self.model, ids)  # (batch * length, vocabulary)
        hard = cross_entropy(logits, ids[:, 1:].flatten())
        if self.teacher is None or not self.soft:
            return hard
        with torch.no_grad():
            expected = self.logits(self.teacher, ids).softmax(-1)
        return (1 - self.soft) * hard + self.soft * cross_entropy(logits, expected)


def set_layers(model: LlamaForCausalLM, layers: Sequence[torch.nn.Module]) -> None:
    """Let a model have these layers and no others."""
    model.model.layers = torch.nn.ModuleList(layers)
    model.config.num_hidden_layers = len(layers)


@torch.no_grad()
def trial_loss(model: LlamaForCausalLM, ids: torch.Tensor) -> float:
    """Mean loss on (rows, length + 1) ids, in nats a token."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return float(cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()))


def choose_layers(model: LlamaForCausalLM, count: int, ids: torch.Tensor) -> tuple[int, ...]:
    """The ``count`` layers that do best together before any healing; all choices are tried."""
    layers, tried = list(model.model.layers), {}
    for kept in combinations(range(len(layers)), count):
        set_layers(model, [layers[n] for n in kept])
        tried[kept] = trial_loss(model, ids)
    set_layers(model, layers)
    best = sorted(tried, key=lambda kept: tried[kept])
    print(f"all layers: loss {trial_loss(model, ids):.4f}; the best of {len(tried)} choices:")
    for kept in best[:5]:
        print(f"{' '.join(map(str, kept))}: loss {tried[kept]:.4f}", flush=True)
    return best[0]


def trial_ids(tokenizer: Tokenizer, length: int) -> torch.Tensor:
    """The rows of text that layers are chosen on."""
    row = length + 1
    ids = next(stream(tokenizer, TRIAL_SEED, TRIAL_ROWS * row, HEALING)).reshape(TRIAL_ROWS, row)
    return torch.from_numpy(ids.astype(np.int64))


def load_whole(path: Path) -> LlamaForCausalLM:
    """Load a finished model in single precision: a stage's folder, or a GGUF file.

    Raises:
        SystemExit: where there is none.
    """
    if path.suffix == ".gguf" and path.is_file():
        loaded = LlamaForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        del loaded.config.quantization_config  # the file's, and such a model cannot be saved
        model = LlamaForCausalLM(loaded.config)
        model.load_state_dict(loaded.state_dict())
        return model
    if not is_finished(path):
        raise SystemExit(
            f"error: {path}: no finished model\nhint: a stage's folder, or a GGUF file"
        )
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Take layers out of a finished model and heal what is left.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--base", type=Path, required=True, help="a stage's folder, or a GGUF file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--tokenizer", type=Path, default=SHIPPED_TOKENIZER, help="tokenizer.json")
    parser.add_argument("--layers", type=int, default=5, help="how many stay")
    parser.add_argument("--keep", type=int, nargs="+", help="which ones, instead of trying")
    parser.add_argument("--tokens", type=float, default=1.6, help="millions; the schedule's length")
    parser.add_argument("--stop-at", type=float, help="millions after which to stop earlier")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the highest")
    parser.add_argument("--soft", type=float, default=0.0, help="the teacher's share of the loss")
    parser.add_argument("--seed", type=int, default=79, help="of the text")
    parser.add_argument("--smoke", action="store_true", help="20 tiny steps, seconds")
    parser.set_defaults(schedule="decay")
    add_machine_options(parser)
    return parser.parse_args()


def pruned(whole: LlamaForCausalLM, kept: Sequence[int]) -> LlamaForCausalLM:
    """A copy of a model with some of its layers."""
    small = copy.deepcopy(whole)
    set_layers(small, [small.model.layers[n] for n in kept])
    return small


def main() -> None:
    """Choose layers, heal, leave the model."""
    chosen = parse_arguments()
    if is_finished(chosen.out):
        raise SystemExit(f"{chosen.out}: finished already; nothing to do")
    plan, tokenizer = read_plan(chosen, BATCH), load_tokenizer(chosen.tokenizer)
    whole = load_whole(chosen.base).eval()
    count = min(chosen.layers, len(whole.model.layers) - 1)
    kept = chosen.keep or choose_layers(whole, count, trial_ids(tokenizer, plan.length))
    healer = Healer(pruned(whole, kept), plan, read_machine(chosen), chosen.out, chosen.soft)
    healer.teacher = whole.to(healer.machine.device)
    healer.resume()
    healer.run(lambda step: batches(tokenizer, plan, step, HEALING))
    healed = trial_loss(healer.model.cpu().eval(), trial_ids(tokenizer, plan.length))
    print(f"healed: loss {healed:.4f}")
    finish(healer, chosen.out, chosen.tokenizer)


if __name__ == "__main__":
    main()
