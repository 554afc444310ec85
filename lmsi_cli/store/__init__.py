"""Where the bytes of a run lie: lines or Parquet shards, on this machine or in an object store.

Knows records, files and stores; nothing of what a run is: the names of its files are in
``rundir.py``. ``Shelf`` holds the records of one kind in either format; ``Remote`` keeps a folder
of this machine and a folder of a store alike.

    paths = Shelf(root / "paths.jsonl", root / "paths", Path)
    with paths.appending("parquet") as lines:
        lines.write(path)          # paths/_open-000000.jsonl, later paths/part-000000.parquet
"""

from lmsi_cli.store.places import Place, place_of
from lmsi_cli.store.remote import Remote
from lmsi_cli.store.shards import Shards, shard_appender
from lmsi_cli.store.shelf import Form, Grouped, Shelf

__all__ = [
    "Form",
    "Grouped",
    "Place",
    "Remote",
    "Shards",
    "Shelf",
    "place_of",
    "shard_appender",
]
