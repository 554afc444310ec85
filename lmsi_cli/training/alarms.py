"""When training destroys the model: what to look at, from where on it is alarming, and whose fault.

Pure functions of readings, so that a resumed run comes to the same end; only ``culprits`` runs the
model. Knows nothing of the loop or of files. What it says:

    alarm(reading, base) == "answers to different questions are the same (evenness 0.12, base 0.97)"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import data, devices, load
from lmsi_cli.training.step import row_loss
from lmsi_cli.training.validation import Reading

if TYPE_CHECKING:
    from torch import nn

# Nats per completion token. Measured on tinymath at rank 16, 30 steps: up to a rate of 0.01, ten
# times the default, the loss rises by at most 0.2 and the divergence to 0.9, and both come back;
# from 0.03 on they are 3.4 and 10.9 at least, and never do.
WORSE = 0.5
FAR = 2.0
# Of the base's evenness. Junk can be even: at these rates it is 1.0. This is for the other way to
# collapse, the same answer to every question.
SAME = 0.5
NAN = "the adapted model computes NaN"
PATIENCE = "no lower loss on held-out questions"


class DestroyedError(LmsiError):
    """Training ended before there was any sound adapter."""


def alarming(stopped: str) -> str:
    """Why training ended early, if that is an alarm; empty if it was only out of patience."""
    return "" if PATIENCE in stopped else stopped


def alarm(reading: Reading, base: Reading) -> str:
    """Why this reading is no longer that of a working model; empty if it is.

    Args:
        reading: After some steps.
        base: At step 0, drawn answers included.
    """
    if reading.loss > base.loss + WORSE:
        return (
            f"kept paths are less likely than to the base "
            f"(loss {reading.loss:.3g}, base {base.loss:.3g})"
        )
    if reading.divergence > FAR and reading.loss >= base.loss:
        return (
            f"the model is far from the base ({reading.divergence:.3g} nats a token) "
            f"and no better at kept paths"
        )
    before, now = base.evenness, reading.evenness
    if before is not None and now is not None and now < SAME * before:
        return (
            f"answers to different questions are the same (evenness {now:.2f}, base {before:.2f})"
        )
    return ""


def strange(base: Reading, vocabulary: int) -> str:
    """A warning where the base finds the completions too unlikely to have written them; or empty.

    Half of what a uniform guess would lose: kept paths lie far below, text for another tokenizer
    or of another language above.

    Args:
        base: At step 0.
        vocabulary: Tokens that the model knows.
    """
    if base.loss < math.log(vocabulary) / 2:
        return ""
    return (
        f"these examples do not look like this model's own: {base.loss:.1f} nats a token, "
        f"a blind guess has {math.log(vocabulary):.1f}; were they made with another model?"
    )


def judge(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> str:
    """Why to stop after the last of these readings; empty: go on.

    Args:
        readings: In order, the base first.
        config: Whether alarms count, and how patient it is.
        unseen: Whether they were taken on held-out questions; only then is a higher loss a reason.
    """
    if len(readings) < 2:
        return ""
    last = readings[-1]
    if config.alarms and (why := alarm(last, readings[0])):
        return f"step {last.step}: {why}"
    lowest = min(readings, key=lambda r: r.loss)
    since = sum(r.step > lowest.step for r in readings)
    if unseen and config.patience and since >= config.patience:
        return f"step {last.step}: {PATIENCE} since step {lowest.step}"
    return ""


def best(readings: Sequence[Reading], config: TrainConfig, unseen: bool) -> Reading | None:
    """The reading whose adapter is taken: the lowest loss without an alarm; None: none is sound.

    Args:
        readings: In order, the base first.
        config: Whether alarms count.
        unseen: Whether they were taken on held-out questions; else the last one is taken.
    """
    sound = [r for r in readings[1:] if not (config.alarms and alarm(r, readings[0]))]
    if not sound:
        return None
    return min(sound, key=lambda r: r.loss) if unseen else sound[-1]


def culprits(
    model: nn.Module, batch: Sequence[data.TokenExample], dtype: load.Dtype
) -> list[data.TokenExample]:
    """The examples of a step whose own loss is not a number, each computed alone."""
    import torch

    def broken(example: data.TokenExample) -> bool:
        with torch.no_grad():
            [row] = data.pack([example], 0)
            placed = devices.put(data.to_batch(row), devices.of(model))
            return not math.isfinite(float(row_loss(model, placed, dtype)))

    return [e for e in batch if broken(e)]


def blame(
    step: int, batch: Sequence[data.TokenExample], broken: Sequence[data.TokenExample]
) -> str:
    """Say at which example the loss of a step is not a number, or that it is at all of them."""
    if not broken:
        names = ", ".join(e.name for e in batch)
        return f"step {step}: the gradient is not a number; examples: {names}"
    if len(broken) == len(batch) > 1:
        return f"step {step}: the loss is not a number, at every example: the adapter is destroyed"
    names = ", ".join(e.name for e in broken)
    return f"step {step}: the loss is not a number at {names}"
