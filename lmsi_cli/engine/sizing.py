"""From a user's settings and a set of prompts to one cache: what is chosen, what is set by hand.

Knows the settings, a loaded model and the free memory; the arithmetic is in ``layout.py``, the
measuring in ``calibrate.py``.

    choose(model, EngineConfig(parallel=8), need) -> Choice(width=8, unified=False, flash=Flash.ON)
"""

from __future__ import annotations

import logging

import psutil

from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.calibrate import calibrate, recall, worth_it
from lmsi_cli.engine.faults import NoMemoryError
from lmsi_cli.engine.layout import (
    MOST_SEQUENCES,
    Choice,
    Flash,
    Layout,
    Need,
    bytes_of,
    lay_out,
    rule_of_thumb,
    usual_attention,
)
from lmsi_cli.engine.llama import LlamaModel

LOG = logging.getLogger(__name__)
MEMORY_SHARE = 0.7  # of the free memory that the KV cache may take


def choose(model: LlamaModel, config: EngineConfig, need: Need) -> Choice:
    """Width, kind and attention for a job; what the user set by hand stays as set."""
    found = _found(model, config, need)
    # a number of cells means cells that all paths share
    unified = bool(config.ctx) or found.unified if config.kv == "auto" else config.kv == "unified"
    flash = found.flash if unified == found.unified else usual_attention(need, unified)
    if config.flash_attn != "auto":
        flash = Flash[config.flash_attn.upper()]
    return Choice(config.parallel or found.width, unified, flash)


def _found(model: LlamaModel, config: EngineConfig, need: Need) -> Choice:
    """Measure where it is worth it and something is left to choose; else go by the rule."""
    settled = bool(config.parallel and config.kv != "auto") or bool(config.ctx)
    if not settled and not model.gpu_layers:
        found = recall(model, need, config.threads)
        if not found and worth_it(need):
            found = calibrate(model, need, config.threads, lambda x: _fits(model, x))
        if found:
            return found.choice
    return rule_of_thumb(need, gpu=bool(model.gpu_layers))


def sized(
    model: LlamaModel, config: EngineConfig, need: Need, choice: Choice, watched: bool = False
) -> Layout:
    """Lay the cache out; where questions are watched, many are open and wait for a decision.

    Raises:
        NoMemoryError: It would take more of the free memory than it may.
    """
    questions = min(choice.width, MOST_SEQUENCES - 1 - choice.width) if watched else 1
    layout = lay_out(need, choice, questions, cells=config.ctx)
    if not _fits(model, layout):
        wanted, free = bytes_of(layout, model.sizes), psutil.virtual_memory().available
        raise NoMemoryError(
            f"the KV cache needs {wanted / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            hint="lower --ctx, --parallel or --max-tokens, or close other programs",
        )
    return layout


def told(layout: Layout, model: LlamaModel) -> str:
    """The layout in words, for ``-v``."""
    kind = "unified" if layout.unified else "split"
    return (
        f"{layout.width} paths side by side, {kind} KV cache of {layout.cells} cells, fused "
        f"attention {layout.flash.name.lower()}, {bytes_of(layout, model.sizes) / 2**20:.0f} MiB"
    )


def as_settings(layout: Layout) -> dict[str, int | str]:
    """The layout under the names of the settings that would choose it by hand."""
    return {
        "parallel": layout.width,
        "kv": "unified" if layout.unified else "split",
        "flash_attn": layout.flash.name.lower(),
        "cells": layout.cells,
    }


def _fits(model: LlamaModel, layout: Layout) -> bool:
    free: int = psutil.virtual_memory().available
    return bytes_of(layout, model.sizes) <= MEMORY_SHARE * free
