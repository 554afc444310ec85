"""The training loop of both stages: steps, learning rate, checkpoints, the finished model.

This file does not know where the batches come from, nor what the model is for.

How to run it: it is imported, never run; see ``pretrain.py`` and ``continue_hard.py``.

One record, a line of progress on stderr::

    step 20  loss 4.9972  5,120 of 5,120 tokens  1,700 a second
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers import LlamaForCausalLM

Batches = Callable[[int], Iterator["np.ndarray[tuple[int, int], np.dtype[np.uint16]]"]]


@dataclass(frozen=True)
class Plan:
    """What one stage does; it is kept in every checkpoint, and a resumed run must agree with it.

    Attributes:
        tokens: the length of the schedule; the last batch may go over.
        stop_at: tokens after which to stop, at most ``tokens``.
        batch: sequences in a step.
        length: tokens in a sequence.
        learning_rate: the highest.
        schedule: what follows the warm-up.
        warmup: steps.
        weight_decay: AdamW's.
        seed: of the batches; in ``pretrain.py`` of the first weights, too.
    """

    tokens: int
    stop_at: int
    batch: int
    length: int
    learning_rate: float
    schedule: Literal["constant", "decay", "half"]
    warmup: int
    weight_decay: float
    seed: int

    @property
    def step_tokens(self) -> int:
        """Tokens read in one step."""
        return self.batch * self.length


@dataclass(frozen=True)
class Machine:
    """Where the stage runs and how often it saves; nothing here changes what is learned."""

    device: str
    compile: bool
    save_every: int


def learning_rate(plan: Plan, step: int) -> float:
    """The rate of a step, counted from 0.

    ``constant`` stays; ``decay`` falls in a line from the start; ``half`` is constant for half of
    the tokens, then falls. The falling ones end at 2 percent, so that the last steps still count.
    """
    done = step * plan.step_tokens / plan.tokens
    fade = {
        "constant": 1.0,
        "decay": max(0.02, 1 - done),
        "half": min(1.0, (1 - done) / 0.5 + 0.02),
    }[plan.schedule]
    return plan.learning_rate * min(1.0, (step + 1) / plan.warmup) * fade


def choose_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` where PyTorch sees a GPU, else ``cpu``."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """The options that both stages share."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:N")
    parser.add_argument("--compile", action="store_true", help="torch.compile; pays on a GPU")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")


def read_machine(chosen: argparse.Namespace) -> Machine:
    """What ``add_machine_options`` was answered."""
    return Machine(choose_device(chosen.device), chosen.compile, chosen.save_every)


class Trainer:
    """A model with its optimizer and its step count, which checkpoints keep together."""

    def __init__(self, model: LlamaForCausalLM, plan: Plan, machine: Machine, out: Path) -> None:
        self.model = model.to(machine.device).train()
        self.plan, self.machine = plan, machine
        self.checkpoint = out / "checkpoint.pt"
        self.step = 0
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=plan.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=plan.weight_decay,
        )

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one.

        Raises:
            SystemExit: where it was made by another plan.
        """
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, map_location=self.machine.device, weights_only=True)
        if saved["plan"] != asdict(self.plan):
            raise SystemExit(
                f"error: {self.checkpoint}: made with other settings: {saved['plan']}\n"
                "hint: repeat those settings, or choose another --out"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]
        print(f"resumed at step {self.step}", file=sys.stderr)

    def save(self) -> None:
        """Write a checkpoint beside the last one, then rename it over it."""
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_name("checkpoint.pt.tmp")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def run(self, batches: Batches) -> None:
        """Take steps until the plan says stop."""
        if self.machine.compile:
            self.model.compile()
        first, start = self.step, time.monotonic()
        for batch in batches(self.step):
            if self.step * self.plan.step_tokens >= self.plan.stop_at:
                break
            loss = self._take_step(torch.from_numpy(batch.astype(np.int64)))
            self.step += 1
            if self.step % 20 == 0:
                self._tell(loss, (self.step - first) / (time.monotonic() - start))
            if self.step % self.machine.save_every == 0:
                self.save()

    def _take_step(self, ids: torch.Tensor) -> torch.Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.plan, self.step)
        loss = self.loss(ids.to(self.machine.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """The mean loss on (batch, length + 1) ids, in nats a token."""
        return torch.nn.functional.cross_entropy(self.logits(self.model, ids), ids[:, 1:].flatten())

    def logits(self, model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
        """What a model expects after each of the ids but the last: (batch * length, vocabulary)."""
        with torch.autocast(torch.device(self.machine.device).type, torch.bfloat16):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        return logits.float().flatten(0, 1)

    def _tell(self, loss: torch.Tensor, steps_a_second: float) -> None:
        read, rate = self.step * self.plan.step_tokens, steps_a_second * self.plan.step_tokens
        print(
            f"step {self.step}  loss {loss.item():.4f}  "
            f"{read:,} of {self.plan.stop_at:,} tokens  {rate:,.0f} a second",
            file=sys.stderr,
            flush=True,
        )


def is_finished(out: Path) -> bool:
    """Whether a stage has left its model here; the weights are moved in last."""
    return (out / "model.safetensors").exists()


def finish(trainer: Trainer, out: Path, tokenizer: Path) -> None:
    """Leave the finished model: settings and tokenizer first, the weights last.

    The checkpoint goes, since a finished model needs none and it is three times as large.
    """
    part = out / "unfinished"
    trainer.model.save_pretrained(part)
    shutil.copyfile(tokenizer, part / "tokenizer.json")
    plan = json.dumps(asdict(trainer.plan), indent=2, sort_keys=True)
    (part / "plan.json").write_text(plan + "\n", encoding="utf-8")
    for file in sorted(part.iterdir(), key=lambda file: file.name == "model.safetensors"):
        file.replace(out / file.name)
    part.rmdir()
    trainer.checkpoint.unlink(missing_ok=True)
    print(f"{out}: {trainer.step} steps, {trainer.step * trainer.plan.step_tokens} tokens")
