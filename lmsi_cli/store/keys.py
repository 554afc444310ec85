"""Which paths a run holds; of a folder of shards only three columns are read.

Tens of millions of rows take seconds so, where records take minutes. Knows the columns of
``records.Path`` that make a key; a row group becomes bits by question:

    question_id  path  predicted_answer
    q7           0     "42"
    q7           5     null              ->  add_bits("q7", 0b100001, parsed=1)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lmsi_cli.drawn import Drawn
from lmsi_cli.lines import read_records
from lmsi_cli.records import Path
from lmsi_cli.store.schema import GROUP, arrow, read_batches
from lmsi_cli.store.shards import Shards
from lmsi_cli.store.shelf import Shelf

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["question_id", "path", "predicted_answer"]
BITS = 63  # path numbers below this fit numpy's whole numbers; others go one by one


def drawn_of(paths: Shelf[Path], each: Callable[[Path], None] | None = None) -> Drawn:
    """The keys of a run, whatever its format.

    Args:
        paths: Of the run.
        each: Is told of every path, where more than its key is wanted; reads whole records.

    Raises:
        LmsiError: A file is broken or holds other records; there are two formats.
    """
    if each is None and paths.form() == "parquet":
        return drawn_in(paths.shards)
    drawn = Drawn()
    for path in paths.read():
        drawn.add(path.question_id, path.path, path.predicted_answer is not None)
        if each is not None:
            each(path)
    return drawn


def drawn_in(shards: Shards[Path]) -> Drawn:
    """The keys of all shards and of a journal that is open.

    Raises:
        LmsiError: A shard is broken or holds other records, or a line of the journal is no path.
    """
    drawn, journals = Drawn(), shards.journals()
    for shard in shards.shards():
        for batch in read_batches(shard, Path, GROUP, COLUMNS):
            _add(batch, drawn)
    for journal in journals:
        for path in read_records(journal, Path):
            drawn.add(path.question_id, path.path, path.predicted_answer is not None)
    return drawn


def _add(batch: pa.RecordBatch, drawn: Drawn) -> None:
    if not batch.num_rows:
        return
    paths = batch["path"].to_numpy()
    parsed = _parsed(batch)
    if paths.min() < 0 or paths.max() >= BITS:
        for row in zip(batch["question_id"].to_pylist(), paths.tolist(), parsed, strict=True):
            drawn.add(*row)
        return
    codes, names = _coded(batch["question_id"])
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    bits = np.bitwise_or.reduceat(np.int64(1) << paths[order], starts)
    answers = np.add.reduceat(parsed[order].astype(np.int64), starts)
    for name, some, count in zip(names, bits.tolist(), answers.tolist(), strict=True):
        drawn.add_bits(name, some, count)


def _parsed(batch: pa.RecordBatch) -> Any:  # noqa: ANN401 - of numpy, whose types pyarrow lacks
    valid = arrow().compute.is_valid(batch["predicted_answer"])
    return valid.to_numpy(zero_copy_only=False)


def _coded(column: pa.Array) -> tuple[Any, list[str]]:
    """Numbers in the place of question ids, and the ids by their number."""
    coded = column.dictionary_encode()
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()
