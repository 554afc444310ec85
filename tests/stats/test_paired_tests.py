"""Comparisons, their power, and Holm's correction: against scipy and brute force."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from lmsi_cli.stats.paired_tests import holm, mcnemar_power, paired, smallest_visible

fractions = st.floats(0, 1).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(fractions, fractions), max_size=30)
yes_no = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)
thirds = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=25
)  # a change in thirds, and the cluster of its question


def split(rows):
    return [a for a, _ in rows], [b for _, b in rows]


@given(yes_no)
def test_yes_no_comparisons_are_exact_mcnemar(rows):
    gained, lost = sum(a < b for a, b in rows), sum(a > b for a, b in rows)
    found = paired(*split(rows))
    exact = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p_value == pytest.approx(exact)
    assert (found.gained, found.lost) == (gained, lost)
    assert (found.p_value < 0.05) <= (found.low > -0.02 or found.high < 0.02)


@given(thirds, st.booleans())
@settings(max_examples=40)
def test_sign_flips_against_all_sign_patterns(rows, clustered):
    """Every question flips alone, or whole clusters do."""
    rows = rows if clustered else rows[:8]
    labels = [g for _, g in rows] if clustered else list(range(len(rows)))
    changes = [c for c, _ in rows]
    sums = [
        sum(c for c, g in zip(changes, labels, strict=True) if g == label) for label in set(labels)
    ]
    flips = [abs(np.dot(s, sums)) for s in itertools.product([-1, 1], repeat=len(sums))]
    exact = np.mean([f >= abs(sum(sums)) - 1e-9 for f in flips])
    before, after = [max(0, -c) / 3 for c in changes], [max(0, c) / 3 for c in changes]
    assert paired(before, after, groups=labels).p_value == pytest.approx(exact)


@given(pairs, st.integers(0, 5))
@settings(max_examples=40)
def test_paired_is_antisymmetric(rows, seed):
    before, after = split(rows)
    there, back = paired(before, after, seed), paired(after, before, seed)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert there.p_value == back.p_value
    assert 0 < there.p_value <= 1


def test_the_bootstrap_is_near_the_normal_interval():
    rng = np.random.default_rng(0)
    before, after = rng.random(200) * 0.5, rng.random(200)
    change = after - before
    half = 1.96 * change.std(ddof=1) / math.sqrt(200)
    normal = change.mean() - half, change.mean() + half
    found = paired(before, after)
    assert (found.low, found.high) == pytest.approx(normal, abs=0.005)
    assert found.p_value == pytest.approx(1 / 10_001)
    assert found == paired(before, after)


def test_no_change_is_no_certainty():
    """None of 30 changed: up to three in 30 may, and not be seen (the rule of three)."""
    found = paired([1.0] * 30, [1.0] * 30)
    assert (found.difference, found.p_value, found.gained, found.lost) == (0.0, 1.0, 0, 0)
    assert found.low == pytest.approx(-found.high)
    assert 0.06 < found.high < 0.13
    assert found.smallest_visible > 0


def test_interval_and_test_tell_the_same_of_few_changes():
    for gained, clear in ((5, False), (6, True)):
        found = paired([0.0] * 30, [1.0] * gained + [0.0] * (30 - gained))
        assert (found.p_value < 0.05, found.low > 0) == (clear, clear)
    found = paired([0.0] * 5, [1.0] * 5)  # too few to show anything
    assert (found.smallest_visible, found.p_value) == (1.0, 0.0625)


def test_questions_that_are_copies_count_once():
    labels = np.repeat(range(20), 5).tolist()
    before, after = [0.0] * 20, [1.0] * 8 + [0.0] * 12
    one = paired(before, after)
    five = paired(np.repeat(before, 5).tolist(), np.repeat(after, 5).tolist(), groups=labels)
    assert (five.low, five.high) == pytest.approx((one.low, one.high))
    assert five.p_value == pytest.approx(one.p_value)
    assert five.smallest_visible == one.smallest_visible
    assert five.gained == 40
    assert paired(before, after, groups=list(range(20))) == one


@pytest.mark.parametrize(("n", "moved"), [(30, 0.0), (30, 0.2), (100, 0.05), (300, 0.2)])
def test_the_smallest_visible_difference_is_seen_in_four_of_five(n, moved):
    up = smallest_visible(n, moved)
    share, rng = max(moved, up), np.random.default_rng(0)
    draws = rng.multinomial(n, [(share + up) / 2, (share - up) / 2, 1 - share], size=2000)
    pairs = Counter((int(gained), int(lost)) for gained, lost, _ in draws)
    seen = sum(
        times for (g, lo), times in pairs.items() if g + lo and binomtest(g, g + lo).pvalue < 0.05
    )
    assert seen / 2000 == pytest.approx(mcnemar_power(n, share, up), abs=0.03)
    assert 0.8 <= mcnemar_power(n, share, up) < 0.86


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_by_its_definition(p_values):
    """Of all values up to its own, the largest that is multiplied by how many are not below it."""
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        steps = [min(1, q * sum(r >= q for r in p_values)) for q in p_values if q <= p]
        assert adjusted == pytest.approx(max(steps))
