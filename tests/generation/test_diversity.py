"""How varied a set is: figures that can be checked by hand, and alarms that can be heard."""

import math

import pytest
from generation_helpers import SEEDS, invented
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.generation.diversity import alarms, answers, distinct, spread, to_seeds

OWN = [q.question for q in SEEDS]
MADE = [invented(n) for n in range(30)]


def test_distinct_runs_by_hand():
    one, two, three = distinct(["a b a b", "a b c"])
    assert (one, two, three) == (3 / 7, 3 / 5, 1.0)


def test_a_spread_by_hand():
    found = spread(["a b c d", "a b c e", "x y z"], 3)
    assert found.count == 3
    assert (found.words.low, found.words.median, found.words.high) == (3, 4, 4)
    assert found.nearest.median == pytest.approx(1 / 3)
    assert found.grouped_distinct == found.distinct
    assert found.grouped_nearest == pytest.approx(1 / 3)


def test_groups_make_sets_of_different_sizes_comparable():
    """Repeating a vocabulary over and over is no loss of variety within ten questions."""
    few, many = spread(MADE[:10], 10), spread(MADE * 1, 10)
    assert many.distinct[0] < few.distinct[0]
    assert many.grouped_distinct[0] == pytest.approx(few.grouped_distinct[0], abs=0.05)
    assert spread(MADE[:5], 10).grouped_distinct is None


def test_a_single_text_has_no_neighbour():
    assert spread(["a b c"], 1).nearest is None
    assert spread([], 3) is None
    assert to_seeds([], OWN) is None


def test_answers_by_hand():
    found = answers(["4", "4", "7", "9"])
    assert (found.count, found.distinct, found.commonest) == (4, 3, "4")
    assert found.commonest_share == 0.5
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert answers([]) is None


@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.integers(1, 5))
def test_shares_stay_shares(texts, size):
    found = spread(texts, size)
    near = [] if found.nearest is None else [found.nearest.low, found.nearest.high]
    grouped = found.grouped_distinct or ()
    for share in (*found.distinct, *near, *grouped, found.grouped_nearest or 0.0):
        assert 0 <= share <= 1
    assert found.words.low <= found.words.median <= found.words.high


def heard(texts, drafts=100, dropped=None, winners=(), chance=0.0):
    copied = to_seeds(texts, OWN)
    found = alarms(
        drafts, dropped or {}, spread(OWN, 3), spread(texts, 3), copied, answers(winners), chance
    )
    return " | ".join(found)


def test_a_varied_set_raises_no_alarm():
    assert heard(MADE, winners=[str(i) for i in range(30)]) == ""


def test_each_collapse_is_told():
    assert "repeat a seed or another draft" in heard(MADE, dropped={"again": 40, "a seed": 20})
    same = ["Tom has 3 pens and 3 pens and 3 pens, how many?"] * 30
    assert "again and again" in heard(same)
    assert "like a seed: copies" in heard([OWN[0]] * 10 + [OWN[1]] * 10 + [OWN[2]] * 10)
    assert "times as long as the seeds" in heard([f"{t} {t} {t}" for t in MADE])
    assert "have one answer, '8'" in heard(MADE, winners=["8"] * 15 + list("abcdefghijklmno"))


def test_few_answers_are_no_alarm_where_there_are_few_to_choose_from():
    letters = ["A"] * 15 + ["B"] * 15
    assert heard(MADE, winners=letters, chance=0.5) == ""
    assert heard(MADE, winners=letters, chance=0.1) != ""
