"""Small dispatchers, and all that they have to give."""

from lmsi_cli.cluster.dispatch import Dispatcher, Item
from lmsi_cli.cluster.sizing import Sizing


def items_of(*paths):
    return [Item(f"q{i}", tuple(range(n))) for i, n in enumerate(paths)]


def dispatcher(items, **sizing):
    return Dispatcher(iter(items), sum(len(i.paths) for i in items), Sizing(**sizing))


def keys_of(items):
    return {(i.question_id, p) for i in items for p in i.paths}


def all_blocks(d, worker, now=0.0):
    found = []
    while (block := d.give(worker, now)) is not None:
        found.append(block)
    return found
