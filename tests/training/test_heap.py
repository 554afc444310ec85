"""Idle memory goes back to the system, and only when it has become much."""

import sys

import pytest

from lmsi_cli.training import heap
from lmsi_cli.training.heap import Trimmer


def test_memory_is_given_back_after_it_has_grown(monkeypatch):
    sizes, given = [100, 110, 119, 121, 80, 90, 97, 60], []
    monkeypatch.setattr(heap, "resident", lambda: sizes.pop(0))
    monkeypatch.setattr(heap, "give_back", lambda: given.append(len(sizes)))
    trimmer = Trimmer()
    for _ in range(8):
        trimmer.after_step()
    assert given == [4, 1]  # at 121, against 100; at 97, against 80


@pytest.mark.skipif(sys.platform != "linux", reason="another C library")
def test_holes_in_the_heap_are_really_returned():
    import torch

    torch.ones(1_000_000)  # freed at once: from now on glibc maps nothing below 4 MB by itself
    pairs = [(torch.ones(250_000), torch.ones(75_000)) for _ in range(100)]  # 1 MB and 0.3
    kept = [small for _, small in pairs]  # so that the heap cannot shrink from its end
    del pairs
    full = heap.resident()
    heap.give_back()
    assert full - heap.resident() > 50e6
    assert len(kept) == 100


def test_the_store_of_products_is_limited_unless_the_user_says(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    heap.prepare()
    assert heap.os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(heap.SHAPES)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    heap.prepare()
    assert heap.os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
