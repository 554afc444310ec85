"""Training text as token ids: a pool on disk for stage one, an endless stream for stage two.

This file does not know models, batches of which stage, or PyTorch, so that the worker processes
that write the pool start fast.

How to run it: it is imported, never run.

One record, the start of a pool: ``[49, 26, 642, 426, 316, ...]``, unsigned 16-bit ids, documents
separated by the id 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from solutions import END_OF_TEXT_ID, FIRST_STAGE, SECOND_STAGE, Mix, document
from tokenizers import Tokenizer

Ids = npt.NDArray[np.uint16]

SHARD_DOCUMENTS = 7_500
FIRST_SHARD_SEED = 1_000
CHUNK = 500  # documents encoded at once: enough to keep the encoder busy, few enough for memory


class Shard(NamedTuple):
    """A part of the pool that one process writes; the same whichever process it is."""

    seed: int
    documents: int
    tokenizer: str


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        SystemExit: where there is none.
    """
    if not path.is_file():
        raise SystemExit(f"error: {path}: no such file\nhint: run train_tokenizer.py first")
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, documents: list[str]) -> list[int]:
    """The ids of some documents, each followed by the end-of-text id."""
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(documents):
        ids += [*encoding.ids, END_OF_TEXT_ID]
    return ids


def encode_shard(shard: Shard) -> Ids:
    """Write and encode the documents of one shard."""
    tokenizer = Tokenizer.from_str(shard.tokenizer)
    rng = Random(shard.seed)
    parts = []
    for start in range(0, shard.documents, CHUNK):
        size = min(CHUNK, shard.documents - start)
        ids = encode(tokenizer, [document(rng, FIRST_STAGE) for _ in range(size)])
        parts.append(np.asarray(ids, dtype=np.uint16))
    return np.concatenate(parts)


def plan_shards(documents: int, tokenizer: Tokenizer) -> list[Shard]:
    """Divide the pool into shards whose seeds do not depend on the number of processes."""
    text = tokenizer.to_str()
    return [
        Shard(FIRST_SHARD_SEED + i, min(SHARD_DOCUMENTS, documents - start), text)
        for i, start in enumerate(range(0, documents, SHARD_DOCUMENTS))
    ]


def load_pool(folder: Path, tokenizer: Tokenizer, documents: int, workers: int) -> Ids:
    """Open the pool of stage one, writing it first where it is missing.

    Args:
        folder: where the pool is kept, under a name made of its size and its tokenizer.
        tokenizer: what makes the ids.
        documents: how many to write.
        workers: how many processes write them; 1 stays in this one.

    Returns:
        A read-only view of the file, about 370 ids a document.
    """
    mark = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:8]
    path = folder / f"pool-{documents}-{mark}.npy"
    if not path.exists():
        shards = plan_shards(documents, tokenizer)
        if workers == 1:
            parts = [encode_shard(shard) for shard in shards]
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                parts = list(pool.map(encode_shard, shards))
        _save_array(path, np.concatenate(parts))
    loaded: Ids = np.load(path, mmap_mode="r")
    return loaded


def _save_array(path: Path, values: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    with part.open("wb") as file:
        np.save(file, values)
    part.replace(path)


def stream(tokenizer: Tokenizer, seed: int, length: int, mix: Mix = SECOND_STAGE) -> Iterator[Ids]:
    """Yield ``length`` ids at a time from an endless row of documents.

    The draws are those that the released weights saw: 64 documents are written whenever fewer
    ids are waiting than one yield needs.
    """
    rng, waiting = Random(seed), list[int]()
    while True:
        while len(waiting) < length:
            waiting += encode(tokenizer, [document(rng, mix) for _ in range(64)])
        yield np.asarray(waiting[:length], dtype=np.uint16)
        del waiting[:length]
