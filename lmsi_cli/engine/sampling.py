"""Drawing tokens: a batch of logits in, one token and its log-probability per row out.

Pure numpy; knows nothing of models, slots or text. Filters act in llama.cpp's order (top-k,
top-p, min-p, temperature last), all rows at once:

    draw(logits (3, 1165), uniforms [0.1, 0.9, 0.4], config) -> tokens [17, 4, 17], logprobs [...]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.config import SamplingConfig

Floats = NDArray[np.floating[Any]]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LARGE = 8192  # tokens; from here on, partitioning whole rows takes a visible part of a step
_FOLDS = 32  # a large row is cut into this many pieces before the search for its top
_IN_CACHE = 2**17  # numbers whose exponentials fit in a core's own cache


def uniforms(seeds: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return number ``step`` of each seed's stream, in [0, 1).

    SplitMix64 (Steele, Lea, Flood 2014) is a counter run through a mixer, so any element of any
    stream costs the same and nothing has to be remembered between steps or across a resume.
    """
    with np.errstate(over="ignore"):
        z = seeds + (steps + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    numbers: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def draw(
    logits: Floats, u: NDArray[np.float64], config: SamplingConfig
) -> tuple[NDArray[np.int64], Floats]:
    """Draw one token per row; temperature 0 takes the likeliest.

    Args:
        logits: (rows, vocabulary) float32, not modified.
        u: (rows,) one uniform number in [0, 1) per row.
        config: The filters.

    Returns:
        Tokens (rows,) and their natural log-probabilities at temperature 1 (rows,).
    """
    rows = np.arange(len(logits))
    if config.temperature == 0:
        tokens = logits.argmax(axis=1)
        largest = logits[rows, tokens]
    else:
        ids, kept = _candidates(logits, config)
        tokens = ids[rows, _pick(kept / config.temperature, u)]
        largest = logits[rows, ids[:, 0]]
    return tokens, logits[rows, tokens] - _logsumexp(logits, largest)


def _candidates(logits: Floats, config: SamplingConfig) -> tuple[NDArray[np.int64], Floats]:
    """Candidate ids and logits, likeliest first; what a filter drops becomes -inf."""
    ids = largest(logits, config.top_k)
    kept = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
    if config.top_p < 1.0:
        p = _softmax(kept)
        # the first token that reaches the mass stays, so at least one candidate remains
        kept[p.cumsum(axis=1) - p >= config.top_p] = -np.inf
    if config.min_p > 0.0:
        kept[kept < kept[:, :1] + np.log(config.min_p)] = -np.inf
    return ids, kept


def largest(logits: Floats, k: int) -> NDArray[np.int64]:
    """Ids of the k largest logits per row, largest first; all of them when k is 0."""
    if not 0 < k < logits.shape[1]:
        return np.argsort(-logits, axis=1, kind="stable")
    ids = _partition(logits, k) if logits.shape[1] < max(_LARGE, _FOLDS * k) else _fold(logits, k)
    ids.sort(axis=1)  # partition order is arbitrary; equal logits must not depend on it
    order = np.argsort(-np.take_along_axis(logits, ids, axis=1), axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)


def _partition(scores: Floats, k: int) -> NDArray[np.int64]:
    """Columns of the k largest per row, in no order."""
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def _fold(logits: Floats, k: int) -> NDArray[np.int64]:
    """Ids of the k largest logits of long rows, in no order.

    Column c of the folded rows is the largest of the tokens c, c + columns, c + 2 columns, ...: the
    k largest tokens lie in the k columns with the largest maxima, or in the rest that does not
    fold evenly. This takes one sequential pass over the row instead of a partition of it.
    """
    rows, size = logits.shape
    columns = size // _FOLDS
    even = columns * _FOLDS
    best = logits[:, :even].reshape(rows, _FOLDS, columns).max(axis=1)
    among = _partition(best, k)[:, :, None] + columns * np.arange(_FOLDS)
    rest = np.broadcast_to(np.arange(even, size), (rows, size - even))
    ids = np.concatenate([among.reshape(rows, -1), rest], axis=1)
    return np.take_along_axis(ids, _partition(np.take_along_axis(logits, ids, axis=1), k), axis=1)


def _pick(scores: Floats, u: NDArray[np.float64]) -> NDArray[np.int64]:
    """Column chosen per row by inverting the cumulative distribution at ``u``."""
    cumulative = _softmax(scores).cumsum(axis=1)
    below = cumulative <= (u * cumulative[:, -1])[:, None]
    # rounding may put the last column's sum on u itself; never step past the last candidate
    columns: NDArray[np.int64] = np.minimum(below.sum(axis=1), np.isfinite(scores).sum(axis=1) - 1)
    return columns


def _softmax(scores: Floats) -> Floats:
    e: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = e / e.sum(axis=1, keepdims=True)
    return shares


def _logsumexp(logits: Floats, largest: Floats) -> Floats:
    """Log of the summed exponentials per row, a few rows at a time so that they stay in cache."""
    few = max(1, _IN_CACHE // logits.shape[1])
    total = np.empty(len(logits), np.float64)
    for i in range(0, len(logits), few):
        shifted = logits[i : i + few] - largest[i : i + few, None]
        total[i : i + few] = np.exp(shifted, out=shifted).sum(axis=1)
    logs: Floats = largest + np.log(total)
    return logs
