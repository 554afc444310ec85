"""Blocks out, paths back, each once: one thing after the other. Chance is in test_chance.py."""

import pytest

from lmsi_cli.cluster.dispatch import Dispatcher, Item
from lmsi_cli.cluster.sizing import Pace, Sizing, Speed
from tests.cluster.giving import all_blocks, dispatcher, items_of, keys_of


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


def test_a_speed_needs_a_second_of_work_and_some_paths():
    speed = Speed()
    speed.begin(10.0)
    speed.came = 64
    speed.measure(10.001)
    assert speed.rate is None  # not 64,000 paths a second
    speed.came += 64
    speed.measure(14.0)
    assert speed.rate == 32.0
    speed.came = 3
    speed.measure(16.0)
    assert speed.rate == 32.0  # three paths say little
    speed.begin(100.0)  # it had nothing to do until then
    speed.came += 29
    speed.measure(100.0)
    assert speed.rate == 24.0  # half of what was known, half of 32 paths in two seconds


def test_two_blocks_that_end_in_one_report_do_not_make_the_rest_one_block():
    d = dispatcher(items_of(*[8] * 1000), first=64)
    for worker in "ab":
        d.join(worker, 0.0)
    blocks = all_blocks(d, "a", 0.0)
    for seconds, block in zip((3.2, 3.2001), blocks, strict=True):
        for item in block.items:
            assert all(d.result("a", item.question_id, p) for p in item.paths)
        d.ended("a", block.number, seconds)
    assert d.give("a", 3.3).paths < 8000 / 4


def test_the_pace_of_all_follows_each_worker():
    pace = Pace()
    assert pace.of(3) is None
    pace.change(None, 10.0)
    pace.change(None, 30.0)
    assert pace.of(3) == 60.0
    pace.change(30.0, 20.0)
    pace.change(10.0, None)
    assert pace.of(3) == 60.0 and pace.of(0) is None


def test_what_is_known_of_a_question_is_a_number_and_goes_with_it():
    d = dispatcher(items_of(*[40] * 30), first=1000, part=1.0)
    d.join("a", 0.0)
    for block in all_blocks(d, "a"):
        for item in block.items:
            for p in item.paths:
                d.result("a", item.question_id, p)
        d.ended("a", block.number, 1.0)
    assert d.holds("a") is False and not any(vars(d._opened).values())
