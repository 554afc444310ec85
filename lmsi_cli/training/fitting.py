"""Makes a training run fit the memory that is free, or says which settings would.

Asks ``memory`` what settings need and tries gentler ones in the order of what they cost: smaller
rows and checkpointing change nothing but the speed, shorter examples leave some out, fewer layers
learn less. Knows the limits of this process; loads nothing. What comes of it:

    Settled(config=TrainConfig(row_tokens=512, ...), examples=[...], checkpointing=False,
            footprint=Footprint(...), taken=("--row-tokens 512",))
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import write_atomic
from lmsi_cli.records import Progress, Record
from lmsi_cli.training import data, headroom, memory

NAME = "fitted.json"
# The forecast is right within 15%, and other programs want some of what is free.
SHARE = 0.9
BUDGETS = (1024, 768, 512, 384, 256, 128)
LENGTHS = (0.75, 0.5, 0.25)  # shares of the examples that stay
LAYERS = (0.5, 0.25, 0.0)  # shares of the layers; of the last one only, in the end


class Settled(NamedTuple):
    """Settings and examples that fit, with their forecast, and the flags that made them fit."""

    config: TrainConfig
    examples: Sequence[data.Unit]
    checkpointing: bool
    footprint: memory.Footprint
    taken: tuple[str, ...] = ()


class Choice(NamedTuple):
    """Settings to try: the flags that ask for them, and what they change."""

    flags: tuple[str, ...]
    changes: dict[str, Any]


class Remembered(Record, frozen=True, kw_only=True):
    """What was taken for the settings named ``asked``, so that a resumed run is the same run."""

    asked: str
    changes: dict[str, Any]


def settle(run: memory.Outline, config: TrainConfig, out: Path, progress: Progress) -> Settled:
    """Foretell what a run needs, and see to it that this fits.

    Args:
        run: The model and the examples.
        config: As asked for; with ``fit`` it may be changed.
        out: Folder of the run, where changes of the result are remembered.
        progress: Is told the forecast, and what was changed.

    Raises:
        LmsiError: It does not fit; proposes what does.
    """
    free = headroom.free_bytes() if _on_cpu(config) else sys.maxsize  # a GPU has its own memory
    try:
        first = _try(run, config, Choice((), _recall(out, config)))
    except memory.UnforeseenError:
        progress.say(f"memory: cannot be foretold for architecture '{run.meta.architecture}'")
        return taken_over(config, run.examples)
    found = first if _fits(first, free) else _checkpointed(run, first, free)
    if found is None and config.fit:
        found = next((s for s in _gentler(run, first) if _fits(s, free)), None)
        _remember(out, config, found)
    if found is None:
        raise _too_little(run, first, free)
    progress.say(told(found, len(run.examples)))
    return found


def taken_over(config: TrainConfig, examples: Sequence[data.Unit]) -> Settled:
    """What another process has settled already; nothing is foretold again."""
    nothing = memory.Footprint(process=0, weights=0, adapter=0, row=0, loading=0, proving=0)
    return Settled(config, examples, config.gradient_checkpointing == "on", nothing)


def _on_cpu(config: TrainConfig) -> bool:
    import torch

    auto = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return config.device == "cpu" or (config.device == "auto" and auto)


def told(found: Settled, count: int) -> str:
    """The forecast in a line, with what was changed to fit."""
    parts, gib = found.footprint, 1 << 30
    text = (
        f"memory: {parts.peak / gib:.1f} GiB at most (weights {parts.weights / gib:.1f}, "
        f"adapter {parts.adapter / gib:.1f}, longest row {parts.row / gib:.1f})"
    )
    if found.taken:
        text += f"; to fit: {' '.join(found.taken)}"
    if left := count - len(found.examples):
        text += f", which leaves {left} of {count} examples out"
    return text


def _fits(found: Settled, free: int) -> bool:
    return bool(found.examples) and found.footprint.more <= SHARE * free


def _try(run: memory.Outline, config: TrainConfig, choice: Choice) -> Settled:
    changed = msgspec.structs.replace(config, **choice.changes)
    kept = data.within(run.examples, changed.max_length)
    checkpointing = changed.gradient_checkpointing == "on"
    footprint = memory.forecast(run._replace(examples=kept), changed, checkpointing)
    return Settled(changed, kept, checkpointing, footprint, choice.flags)


def _checkpointed(run: memory.Outline, first: Settled, free: int) -> Settled | None:
    """The same settings with checkpointing, if that is left to us and enough."""
    if first.config.gradient_checkpointing != "auto":
        return None
    found = _try(run, first.config, _with(first.config, checkpointing=True))
    return found if _fits(found, free) else None


def _with(config: TrainConfig, checkpointing: bool, **changes: Any) -> Choice:  # noqa: ANN401
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in changes.items()]
    if checkpointing and config.gradient_checkpointing == "auto":
        changes["gradient_checkpointing"] = "on"
        flags.append("--gradient-checkpointing on")
    return Choice(tuple(flags), changes)


def _gentler(run: memory.Outline, first: Settled) -> Iterator[Settled]:
    """Settings that need less and less, from the least harm on."""
    import numpy as np

    config, blocks = first.config, run.meta.blocks
    budgets = [b for b in BUDGETS if b < config.row_tokens]
    choices = [_with(config, False, row_tokens=b) for b in budgets]
    choices.append(_with(config, True))
    choices += [_with(config, True, row_tokens=b) for b in budgets]
    least = {"row_tokens": budgets[-1]} if budgets else {}
    lengths = np.sort(data.lengths(first.examples))
    for share in LENGTHS:
        longest = max(16, int(lengths[int(share * (len(lengths) - 1))]))
        choices.append(_with(config, True, **least, max_length=longest))
    asked = blocks if config.layers == "all" else int(str(config.layers).removeprefix("last:"))
    for share in LAYERS:
        fewer = max(1, int(share * asked))
        choices.append(_with(config, True, **least, layers=fewer))
    for choice in choices:
        yield _try(run, config, choice)


def _too_little(run: memory.Outline, first: Settled, free: int) -> LmsiError:
    """Name the gentlest settings that fit, and the next that need less still."""
    gib = 1 << 30
    message = (
        f"training needs {first.footprint.more / gib:.1f} GiB more memory, and "
        f"{SHARE * free / gib:.1f} of {free / gib:.1f} GiB free may be taken"
    )
    tried = list(_gentler(run, first))
    fitting = [s for s in tried if _fits(s, free)]
    if not fitting:
        least = min(s.footprint.more for s in tried) / gib
        return LmsiError(
            f"{message}; the smallest settings need {least:.1f}",
            hint="close other programs, or take a smaller model",
        )
    proposals = [f"{' '.join(s.taken)} ({s.footprint.more / gib:.1f} GiB)" for s in _kinds(fitting)]
    return LmsiError(message, hint=f"{'; or '.join(proposals)}; --fit takes the first by itself")


def _kinds(fitting: Sequence[Settled]) -> list[Settled]:
    """The first of every kind of proposal."""
    kinds: dict[tuple[str, ...], Settled] = {}
    for found in fitting:
        kinds.setdefault(tuple(flag.split()[0] for flag in found.taken), found)
    return list(kinds.values())


def _asked(config: TrainConfig) -> str:
    told_ = {k: v for k, v in msgspec.structs.asdict(config).items() if k not in SPEED_ONLY}
    return hashlib.sha256(msgspec.json.encode(told_, order="sorted")).hexdigest()


def _recall(out: Path, config: TrainConfig) -> dict[str, Any]:
    """What an interrupted run of these settings had taken and its result depends on."""
    if not config.fit:
        return {}
    try:
        found = msgspec.json.decode((out / NAME).read_bytes(), type=Remembered)
    except (OSError, msgspec.DecodeError):
        return {}
    return found.changes if found.asked == _asked(config) else {}


def _remember(out: Path, config: TrainConfig, found: Settled | None) -> None:
    if found is None:
        return
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(found.config).items()
        if name not in SPEED_ONLY and value != getattr(config, name)
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / NAME, msgspec.json.encode(Remembered(asked=_asked(config), changes=changes)))
