"""Keys read by columns are those that reading every record gives."""

import random

import pytest
from shard_paths import sampled

from lmsi_cli.drawn import Drawn
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path
from lmsi_cli.store.keys import drawn_in
from lmsi_cli.store.shards import Shards, shard_appender

pytest.importorskip("pyarrow")


def slowly(shards):
    drawn = Drawn()
    for p in shards.read():
        drawn.add(p.question_id, p.path, p.predicted_answer is not None)
    return drawn


def told(drawn):
    lacking = {q: list(drawn.lacks(q, 80)) for q in drawn.questions}
    return drawn.paths, drawn.parsed, lacking


def cut_short(folder, records, rows):
    """Shards, and a journal that a killed writer has left."""
    shards = Shards(folder, Path)
    with pytest.raises(KeyboardInterrupt), shard_appender(shards, rows) as lines:
        for record in records:
            lines.write(record)
        raise KeyboardInterrupt
    return shards


@pytest.mark.parametrize("most", [32, 80])  # above 62 there are no whole numbers of numpy
def test_columns_give_the_keys_that_records_give(tmp_path, most):
    rng = random.Random(5)
    keys = [(f"q{rng.randrange(40)}", n) for n in range(most) for _ in range(6)]
    records = [sampled(n, question=q) for q, n in dict.fromkeys(rng.sample(keys, len(keys)))]
    shards = cut_short(tmp_path / "paths", records, 50)
    assert shards.journals() and len(shards.shards()) > 1
    assert told(drawn_in(shards)) == told(slowly(shards))
    assert drawn_in(shards).paths == len(records)


def test_nothing_there_is_nothing_drawn(tmp_path):
    assert drawn_in(Shards(tmp_path / "none", Path)).paths == 0


def test_a_broken_shard_is_told(tmp_path):
    shards = cut_short(tmp_path / "paths", [sampled(n) for n in range(9)], 4)
    shard = shards.shards()[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(LmsiError, match="not a whole Parquet file"):
        drawn_in(shards)
