"""What is out longest goes to idle workers as well; who dies over what is blamed for it alone."""

import pytest

from lmsi_cli.cluster.dispatch import Item
from tests.cluster.giving import all_blocks, dispatcher, items_of, keys_of


def joined(d, workers):
    for worker in workers:
        d.join(worker, 0.0)
    return d


def questions_of(blocks):
    return [i.question_id for block in blocks for i in block.items]


def two_at_work(*paths, **sizing):
    """A dispatcher whose questions are all at worker a; b to e are idle."""
    d = joined(dispatcher(items_of(*paths), first=1000, part=0.01, **sizing), "abcde")
    (block,) = all_blocks(d, "a")
    assert len(block.items) == len(paths)
    return d, block


def test_an_idle_worker_gets_the_end_of_what_is_out_longest():
    d, block = two_at_work(2, 2, 2)
    assert d.give("b", 1.9) is None  # it may be done soon
    assert d.result("a", "q2", 0)
    (copy,) = all_blocks(d, "b", 2.0)
    assert copy.number != block.number
    assert [Item("q2", (1,)), Item("q1", (0, 1))] == list(copy.items)[:2]


def test_copies_are_small_where_workers_are_many():
    d = joined(dispatcher(items_of(*[4] * 12), first=1000, part=0.01), "abcdefgh")
    all_blocks(d, "a")
    d.sizing = d.sizing._replace(part=3.0)
    given = [questions_of(all_blocks(d, w, 2.0)) for w in "bcd"]
    assert given == [["q11"], ["q10"], ["q9"]]


def test_a_question_has_three_holders_at_most_and_the_third_only_later():
    d, _ = two_at_work(2)
    assert questions_of(all_blocks(d, "b", 2.0)) == ["q0"]
    assert d.give("c", 3.9) is None
    assert questions_of(all_blocks(d, "c", 4.0)) == ["q0"]
    assert d.give("d", 99.0) is None


def test_a_worker_with_a_block_gets_no_copy():
    d = joined(dispatcher(items_of(2, 2), first=2, part=1.0), "ab")
    assert d.give("a", 0.0) and d.give("b", 0.0)
    assert d.give("a", 50.0) is None and d.give("b", 50.0) is None


def test_nothing_is_copied_while_something_is_left():
    d = joined(dispatcher(items_of(2, 2, 2), first=2), "ab")
    all_blocks(d, "a")
    assert questions_of(all_blocks(d, "b", 9.0)) == ["q2"]


@pytest.mark.parametrize("first", "ab")
def test_a_question_closes_with_its_last_path_whoever_drew_it(first):
    d, block = two_at_work(2)
    (copy,) = all_blocks(d, "b", 2.0)
    other = "b" if first == "a" else "a"
    assert d.result("a", "q0", 0) and not d.result("b", "q0", 0)
    assert d.result(first, "q0", 1) and d.done
    assert not d.result(other, "q0", 1)
    assert d.ended("a", block.number, 5.0) == d.ended("b", copy.number, 5.0) == 0
    assert d.done and d.open_paths == 0


@pytest.mark.parametrize("dead", "ab")
def test_what_another_holds_as_well_is_not_given_again(dead):
    d, _ = two_at_work(2)
    all_blocks(d, "b", 2.0)
    assert d.give("c", 3.0) is None  # the block of a has been looked at, that of b is young
    d.died(dead, 3.0)
    assert not d.done and not d._returned
    assert questions_of(all_blocks(d, "c", 9.0)) == ["q0"]  # as one more copy


def test_when_all_holders_are_dead_it_is_given_again():
    d, _ = two_at_work(2)
    all_blocks(d, "b", 2.0)
    d.result("b", "q0", 1)
    d.died("a", 3.0)
    d.died("b", 3.0)
    (block,) = all_blocks(d, "c", 3.0)
    assert block.items == (Item("q0", (0,)),)
    assert d.give("d", 3.0) is None


def test_a_copy_that_is_refused_closes_the_question():
    d, _ = two_at_work(2)
    all_blocks(d, "b", 2.0)
    assert d.refused("q0") and not d.refused("q0")
    assert d.done
    d.died("a", 3.0)
    assert d.give("c", 3.0) is None


def test_a_decision_on_paths_that_are_kept_ends_a_question_for_all():
    d, _ = two_at_work(4)
    (copy,) = all_blocks(d, "b", 2.0)
    assert d.result("b", "q0", 0) and d.result("b", "q0", 1)
    assert d.ended("b", copy.number, 3.0) == 1
    assert d.done and not d.result("a", "q0", 2)


def test_a_decision_on_a_path_that_was_dropped_is_not_the_last():
    """The kept path may say something else than the one that decided."""
    d, block = two_at_work(4)
    (copy,) = all_blocks(d, "b", 2.0)
    assert d.result("a", "q0", 0) and not d.result("b", "q0", 0)
    assert d.result("b", "q0", 1)
    assert d.ended("b", copy.number, 3.0) == 0
    assert not d.done
    (again,) = all_blocks(d, "b", 5.0)  # a stands still: it goes out once more
    assert again.items == (Item("q0", (2, 3)),)
    assert d.result("a", "q0", 2)
    assert d.ended("a", block.number, 6.0) == 1  # all of a's paths are kept
    assert d.done


# -- deaths ------------------------------------------------------------------------------


def test_only_the_block_in_work_is_blamed():
    d = joined(dispatcher(items_of(*[2] * 8), first=4), "ab")
    work, waits = all_blocks(d, "a")
    d.died("a", 1.0)
    deaths = {i.question_id: d._opened.marks(i.question_id).deaths for i in work.items}
    assert set(deaths.values()) == {1}
    assert all(d._opened.marks(i.question_id).deaths == 0 for i in waits.items)


def test_a_block_that_waits_through_deaths_is_never_set_apart():
    """Every worker dies over what it has in work; what waits comes back whole, then alone."""
    d = dispatcher(items_of(*[1] * 40), first=1, deaths=3)
    kept, deaths = set(), 0
    while not d.done:
        worker = f"w{deaths}"
        d.join(worker, 0.0)
        blocks = all_blocks(d, worker)
        if blocks[0].items[0].question_id == "q0":
            deaths += 1
            d.died(worker, 1.0)
            continue
        while blocks:
            block = blocks.pop(0)
            if questions_of([block]) == ["q0"]:
                break
            kept |= {i.question_id for i in block.items if d.result(worker, i.question_id, 0)}
            d.ended(worker, block.number, 1.0)
            blocks += all_blocks(d, worker)
        deaths += 1
        d.died(worker, 1.0)
    assert [i.question_id for i in d.set_apart] == ["q0"]
    assert len(kept) == 39


def test_what_waited_through_two_deaths_is_drawn_alone():
    """It may have been begun early, and be the cause; alone at a worker it would be found."""
    d = joined(dispatcher(items_of(*[1] * 9), first=1), "abcde")
    assert questions_of(all_blocks(d, "a")) == ["q0", "q1"]
    d.died("a", 1.0)
    assert questions_of(all_blocks(d, "b")) == ["q0", "q1"]  # one death each may be chance
    d.died("b", 2.0)
    assert questions_of(all_blocks(d, "c")) == ["q0"]  # two deaths
    assert questions_of(all_blocks(d, "d")) == ["q1"]  # two beside it
    assert questions_of(all_blocks(d, "e")) == ["q2", "q3"]
    assert [d._opened.marks(q).deaths for q in ("q0", "q1")] == [2, 0]


@pytest.mark.parametrize("early", [False, True])
def test_a_deadly_question_is_set_apart_and_the_others_are_drawn(early):
    """Also one that is begun early and kills its worker while the block before it is in work."""
    items = items_of(*[2] * 60)
    d, kept, deaths = dispatcher(items, first=16), set(), 0
    d.join("w0", 0.0)
    while not d.done:
        worker, died = f"w{deaths}", False
        held = []
        while blocks := [*held, *all_blocks(d, worker)]:
            block, *held = blocks
            last = block.items[-1].question_id
            begun = questions_of([block]) + (questions_of(held[:1])[:1] if early else [])
            for item in block.items:
                if item.question_id == "q13" or (item.question_id == last and "q13" in begun):
                    died = True
                    break
                kept |= {(item[0], p) for p in item.paths if d.result(worker, item[0], p)}
            if died:
                break
            d.ended(worker, block.number, 1.0)
        if died:
            d.died(worker, 1.0)
            deaths += 1
            d.join(f"w{deaths}", 1.0)
    assert d.set_apart == [Item("q13", (0, 1))]
    assert kept == keys_of(items) - keys_of(d.set_apart)
    assert deaths <= 8
