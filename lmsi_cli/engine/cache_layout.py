"""How a KV cache is laid out for a set of prompts, and what it costs in memory.

Pure arithmetic: knows tokens, cells and bytes, but neither llama.cpp nor the file. In a *unified*
cache all sequences share one row of cells, a common prefix is held once, and every path has to skip
the cells of all others. In a *split* cache each sequence has its own cells, a shared prompt is
copied to each, and a path reads only its own. One layout:

    Layout(width=64, sequences=66, cells=16896, unified=False, flash=Flash.ON)
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from lmsi_cli.engine.base import Request

PAGE = 256  # llama.cpp rounds a sequence's cells up to this many
BATCH = 512  # tokens of a prompt that are read at once
# Activations that a step holds at its widest point, in rows of the model's width, as llama.cpp
# allocates them for a Llama and a Qwen2 model.
IN_OUTPUT, IN_ATTENTION, IN_FEED_FORWARD = 2, 7, 12
SHORT_PROMPT = 400  # tokens; up to here a copy for every path costs less than skipping others
SHALLOW = 64  # tokens that a path sees at half its length; up to here fused attention is faster
WRITTEN = 4  # a path at half its length has written one in this many of the tokens it may write
MOST_SEQUENCES = 256  # that llama.cpp holds
LARGEST_WIDTH = 240  # the other sequences are for prompts
# llama.cpp's kernels compute rows in fours and eights; leftover rows and single ones are summed in
# another order. In multiples of this a row's logits do not depend on what shares the batch.
ROWS = 8


class Flash(IntEnum):
    """Fused attention, by llama.cpp's own numbers."""

    AUTO = -1
    OFF = 0
    ON = 1


class Need(NamedTuple):
    """What requests need: tokens of the common prefix, longest prompt and longest path; paths."""

    prefix: int
    longest: int
    max_tokens: int
    paths: int


class CacheKind(NamedTuple):
    """What decides the speed: paths side by side, one cache for all or each, fused attention."""

    width: int
    unified: bool
    flash: Flash


class Layout(NamedTuple):
    """A cache: paths side by side, sequences, cells in all, and its kind."""

    width: int
    sequences: int
    cells: int
    unified: bool
    flash: Flash

    @property
    def settings(self) -> dict[str, int | str]:
        """The layout as settings that would choose it by hand; ``cells`` is what ``ctx`` sets."""
        return {
            "parallel": self.width,
            "kv": "unified" if self.unified else "split",
            "flash_attn": self.flash.name.lower(),
            "cells": self.cells,
        }


class Sizes(NamedTuple):
    """The sizes of a model that its cache depends on; ``kv`` is keys and values of one layer."""

    layers: int
    width: int
    heads: int
    kv: int
    vocabulary: int


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest common start that leaves each prompt at least one token."""
    if not prompts:
        return 0
    low, high = min(prompts), max(prompts)  # all others lie between the extremes
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return max(0, min(n, min(map(len, prompts)) - 1))


def need_of(requests: Sequence[Request], max_tokens: int) -> Need:
    """Measure requests, of which at least one is wanted.

    Finished ones also count for the prefix: where a prompt is cut changes the last bits of its
    logits, so a resumed run must cut it where the first call did.
    """
    prompts = [r.prompt for r in requests if r.prompt]
    paths = sum(len(r.wanted) for r in requests)
    return Need(shared_prefix(prompts), max(map(len, prompts)), max_tokens, paths)


def rule_of_thumb(need: Need, gpu: bool) -> CacheKind:
    """Choose without measuring, by what was fastest on two cores (``docs/performance.md``)."""
    if gpu:
        return CacheKind(64, True, Flash.AUTO)
    unified = need.longest > SHORT_PROMPT
    return CacheKind(32 if unified else 64, unified, usual_attention(need, unified))


def usual_attention(need: Need, unified: bool) -> Flash:
    """Choose for a CPU: llama.cpp's fused kernels are slower once a path sees many cells."""
    return Flash.ON if not unified and need.longest + written(need) <= SHALLOW else Flash.OFF


def written(need: Need) -> int:
    """Tokens that a path has typically written at half its length."""
    return max(1, need.max_tokens // WRITTEN)


def lay_out(need: Need, kind: CacheKind, questions: int = 1, cells: int = 0) -> Layout:
    """Size a cache so that every path may be as long as it is allowed to.

    A split cache has a multiple of ``ROWS`` slots, or one. ``questions`` are open at the same time;
    ``cells`` is a size that the user set instead, or 0.
    """
    width = min(kind.width, need.paths, LARGEST_WIDTH)
    if not kind.unified and kind.width > 1:
        width = -(-width // ROWS) * ROWS
    questions = max(1, min(questions, MOST_SEQUENCES - 1 - width))
    sequences = width + 1 + questions
    own = need.longest - need.prefix
    if kind.unified:  # every path may belong to another question
        ample = need.prefix + (width + questions) * own + width * need.max_tokens + PAGE
        cells = _paged(cells or ample)
    else:
        cells = sequences * _paged(cells // sequences or need.longest + need.max_tokens)
    return Layout(width, sequences, cells, kind.unified, kind.flash)


def bytes_of(layout: Layout, sizes: Sizes) -> int:
    """Predict the bytes that llama.cpp takes for a cache and for its steps.

    A step's buffer is as large as its widest point: the logits of a batch, the scores of a batch
    against every cell (none with fused attention), or the feed-forward layer.
    """
    fused = layout.flash == Flash.ON
    cache = 2 * layout.cells * sizes.layers * sizes.kv
    outputs = 4 * layout.width * sizes.vocabulary
    seen = layout.cells if layout.unified else layout.cells // layout.sequences
    mask = (2 if fused else 4) * seen
    scores = 0 if fused else 4 * seen * sizes.heads
    row = 4 * sizes.width
    step = max(
        4 * sizes.vocabulary + IN_OUTPUT * row,
        mask + scores + IN_ATTENTION * row,
        mask + IN_FEED_FORWARD * row,
    )
    return cache + outputs + BATCH * step


def _paged(cells: int) -> int:
    return -(-cells // PAGE) * PAGE
