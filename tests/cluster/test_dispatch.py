"""Whatever the order of results, deaths and duplicates: every path is kept once, or named."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsi_cli.cluster.dispatch import Dispatcher, Item, Sizing


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


def test_a_question_lies_whole_in_one_block():
    items = items_of(*[3] * 50)
    d = dispatcher(items, first=8)
    d.join("a", 0.0)
    given_ = []
    while not d.done:
        for block in all_blocks(d, "a"):
            given_ += block.items
            for item in block.items:
                assert all(d.result("a", item.question_id, p) for p in item.paths)
            d.ended("a", block.number, 1.0)
    assert given_ == items


def test_a_worker_has_two_blocks_at_most():
    d = dispatcher(items_of(*[4] * 100), first=4)
    d.join("a", 0.0)
    assert len(all_blocks(d, "a")) == 2
    assert d.give("a", 1.0) is None


def test_items_are_read_only_as_they_are_given():
    read = []

    def lazily():
        for item in items_of(*[2] * 1000):
            read.append(item)
            yield item

    d = Dispatcher(lazily(), 2000, Sizing(first=4))
    d.join("a", 0.0)
    all_blocks(d, "a")
    assert len(read) == 5  # two blocks of two questions, and the next one


def run_steadily(rates, questions=400, paths=8):
    """Let workers of these speeds (paths a second) draw; their blocks and when each was done."""
    d = dispatcher(items_of(*[paths] * questions))
    free = dict.fromkeys(rates, 0.0)
    held = {w: [] for w in rates}
    sizes = {w: [] for w in rates}
    for worker in rates:
        d.join(worker, 0.0)
    while not d.done:
        for worker in rates:
            held[worker] += all_blocks(d, worker, free[worker])
        busy = {w: free[w] + held[w][0].paths / rates[w] for w in rates if held[w]}
        worker = min(busy, key=busy.get)
        block, free[worker] = held[worker].pop(0), busy[worker]
        for item in block.items:
            for p in item.paths:
                d.result(worker, item.question_id, p)
        d.ended(worker, block.number, free[worker])
        sizes[worker].append(block.paths)
    return sizes, free


def test_blocks_are_large_first_and_small_at_the_end():
    sizes, _ = run_steadily({"a": 8.0, "b": 8.0})
    measured = sizes["a"][2:]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 10 * measured[-1]


def test_a_slow_worker_holds_nobody_up():
    sizes, ends = run_steadily({"a": 40.0, "b": 40.0, "slow": 4.0})
    assert sum(sizes["slow"]) < sum(sizes["a"]) / 5
    assert max(ends.values()) - min(ends.values()) < 0.15 * max(ends.values())


def test_a_dead_workers_paths_are_given_again_less_those_that_came():
    d = dispatcher(items_of(3, 2))
    for worker in "ab":
        d.join(worker, 0.0)
    all_blocks(d, "a")
    assert d.result("a", "q0", 1)
    d.died("a", 1.0)
    again = [i for block in all_blocks(d, "b") for i in block.items]
    assert keys_of(again) == {("q0", 0), ("q0", 2), ("q1", 0), ("q1", 1)}


def test_a_path_that_comes_late_from_a_dead_worker_counts_once():
    d = dispatcher(items_of(2))
    for worker in "ab":
        d.join(worker, 0.0)
    all_blocks(d, "a")
    d.died("a", 1.0)
    assert d.result("a", "q0", 0)
    (block,) = all_blocks(d, "b")
    assert block.items == (Item("q0", (1,)),)
    assert d.result("a", "q0", 1)
    assert not d.result("b", "q0", 1)
    d.ended("b", block.number, 2.0)
    assert d.done and d.open_paths == 0


def test_what_nobody_asked_for_is_dropped():
    d = dispatcher(items_of(1))
    d.join("a", 0.0)
    all_blocks(d, "a")
    assert not d.result("a", "q0", 7)
    assert not d.result("a", "other", 0)


def test_paths_that_an_ended_block_lacks_are_not_wanted():
    d = dispatcher(items_of(5))
    d.join("a", 0.0)
    (block,) = all_blocks(d, "a")
    d.result("a", "q0", 0)
    d.ended("a", block.number, 1.0)
    assert d.done and d.open_paths == 0


def test_a_refused_question_is_not_given_again():
    d = dispatcher(items_of(5))
    for worker in "ab":
        d.join(worker, 0.0)
    all_blocks(d, "a")
    assert d.refused("q0")
    assert not d.refused("q0")
    d.died("a", 1.0)
    assert all_blocks(d, "b") == []
    assert d.done and d.open_paths == 0


def test_a_deadly_question_is_set_apart_and_the_others_are_drawn():
    items = items_of(*[2] * 60)
    d, kept, deaths = dispatcher(items), set(), 0
    d.join("w0", 0.0)
    while not d.done:
        worker = f"w{deaths}"
        for block in all_blocks(d, worker):
            for item in block.items:
                if item.question_id == "q13":
                    d.died(worker, 1.0)
                    deaths += 1
                    d.join(f"w{deaths}", 1.0)
                    break
                kept |= {
                    (item.question_id, p) for p in item.paths if d.result(worker, *item[:1], p)
                }
            else:
                d.ended(worker, block.number, 1.0)
                continue
            break
    assert d.set_apart == [Item("q13", (0, 1))]
    assert kept == keys_of(items) - keys_of(d.set_apart)
    assert deaths <= 6


def test_deaths_without_a_path_are_hopeless_at_some_time():
    d = dispatcher(items_of(*[2] * 1000))
    for n in range(100):
        d.join(f"w{n}", 0.0)
        all_blocks(d, f"w{n}")
        d.died(f"w{n}", 0.0)
        if d.hopeless:
            break
    assert 5 < n < 50


@pytest.mark.parametrize("stranger", ["died", "ended"])
def test_a_worker_that_is_gone_can_be_told_of_again(stranger):
    d = dispatcher(items_of(1))
    d.join("a", 0.0)
    d.died("a", 0.0)
    d.died("a", 0.0) if stranger == "died" else d.ended("a", 0, 0.0)
    assert not d.done


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    first=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    mortality=st.floats(0, 0.1),
    echo=st.floats(0, 0.5),
)
def test_everything_once(  # noqa: C901 - a simulation
    counts, first, seed, mortality, echo
):
    """Paths in any order, late and twice, workers that die with some of them under way."""
    chance, items = random.Random(seed), items_of(*counts)
    d = dispatcher(items, first=first)
    kept, said, work, now = [], [], {}, 0.0

    def hire():
        worker = f"w{hire.count}"
        hire.count += 1
        d.join(worker, now)
        work[worker] = {}

    def hear(worker, key):
        if d.result(worker, *key):
            kept.append(key)

    hire.count = 0
    for _ in range(3):
        hire()
    while not d.done:
        now += chance.random()
        worker = chance.choice(list(work))
        for block in all_blocks(d, worker, now):
            keys = [(i.question_id, p) for i in block.items for p in i.paths]
            chance.shuffle(keys)
            work[worker][block.number] = keys
        if chance.random() < mortality:
            said += [(worker, k) for keys in work.pop(worker).values() for k in keys[:2]]
            d.died(worker, now)
            hire()
        elif work[worker]:
            number, keys = chance.choice(list(work[worker].items()))
            if keys:
                said.append((worker, keys[-1]))
                hear(worker, keys.pop())
            else:
                del work[worker][number]
                d.ended(worker, number, now)
        if said and chance.random() < echo:
            hear(*chance.choice(said))
        assert d.open_paths >= 0
    apart = keys_of(d.set_apart)
    assert len(kept) == len(set(kept))
    assert set(kept) | apart == keys_of(items)
    assert not set(kept) & apart
    assert d.open_paths == 0 and not d._left and not d._returned
