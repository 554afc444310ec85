"""Intervals, reliability, AUROC, maj@k and pass@k against scipy, definitions and all subsets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lmsi_cli.stats.intervals import (
    auroc,
    curve_ks,
    ece,
    majority_at_k,
    majority_score,
    mean_interval,
    pass_at_k,
    reliability,
    wilson,
)
from lmsi_cli.stats.paired_tests import paired

fractions = st.floats(0, 1).map(lambda x: round(x, 3))
counts_of = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
k_of_n = st.integers(1, 8).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))
said = st.lists(st.sampled_from(["7", "8", "9", "10", None]), min_size=8, max_size=8)
marked = st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=40)


@given(counts_of)
def test_wilson_is_scipys(case):
    successes, n = case
    found, ci = wilson(*case), binomtest(successes, n).proportion_ci(method="wilson")
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((ci.low, ci.high), abs=1e-6)
    assert found.value == successes / n


def test_nothing_is_known_without_questions():
    found = [wilson(0, 0), mean_interval([])]
    assert [(i.value, i.low, i.high, i.n) for i in found] == [(0.0, 0.0, 1.0, 0)] * 2
    nothing = paired([], [])
    assert (nothing.difference, nothing.low, nothing.high) == (0.0, -1.0, 1.0)
    assert (nothing.p_value, nothing.smallest_visible, nothing.n) == (1.0, 1.0, 0)
    assert (reliability([], []), ece(()), auroc([], [])) == ((), 0.0, None)


@given(st.lists(fractions, min_size=1, max_size=50))
def test_a_mean_lies_in_its_interval_and_a_cluster_each_is_no_cluster(values):
    found = mean_interval(values)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.value == pytest.approx(np.mean(values))
    assert found.low < found.high
    assert mean_interval(values, list(range(len(values)))) == found


def test_a_mean_covers_and_goes_by_question_not_by_path():
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.binomial(8, rng.beta(0.5, 1.5, size=40)) / 8) for _ in range(400)]
    assert np.mean([i.low <= 0.25 <= i.high for i in found]) > 0.92
    one, plain = mean_interval([1.0, 0.0] * 50), wilson(50, 100)
    assert (one.low, one.high) == pytest.approx((plain.low, plain.high), abs=0.005)
    certain = mean_interval([1.0] * 10 + [0.0] * 10)  # 8 paths each that agree are 20 trials
    naive = wilson(80, 160)
    assert certain.high - certain.low > 2 * (naive.high - naive.low)


def test_the_clustered_error_is_the_sandwich():
    """Liang and Zeger 1986, of a mean, clusters of unequal size; ours adds four clusters first."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 200, 1000))
    values = (rng.random(200)[labels] > rng.random(1000)).astype(float)
    sums = np.bincount(labels, weights=values - values.mean())
    found = mean_interval(values, labels.tolist())
    assert (found.high - found.low) / 3.92 == pytest.approx(np.linalg.norm(sums) / 1000, rel=0.03)


@given(marked)
def test_every_question_is_in_one_range(rows):
    shares, right = [x / 10 for x, _ in rows], [float(y) for _, y in rows]
    table = reliability(shares, right)
    assert sum(b.n for b in table) == len(rows)
    assert sum(b.n * b.accuracy.value for b in table) == pytest.approx(sum(right))
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in table)
    gap = sum(b.n * abs(b.confidence - b.accuracy.value) for b in table) / len(rows)
    assert ece(table) == pytest.approx(gap)


def test_a_share_of_three_in_five_begins_its_range():
    table = reliability([3 / 5, 0.59, 1.0], [1, 0, 1])
    assert [(b.low, b.n) for b in table] == [(0.5, 1), (0.6, 1), (0.9, 1)]


@given(marked)
def test_auroc_is_the_share_of_pairs_in_order(rows):
    right, wrong = [x for x, y in rows if y], [x for x, y in rows if not y]
    found = auroc([x for x, _ in rows], [y for _, y in rows])
    if not right or not wrong:
        assert found is None
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(rows)


def test_auroc_published():
    """DeLong's variance by its definition, over all pairs (DeLong et al. 1988, equation 5)."""
    rng = np.random.default_rng(0)
    right, wrong = rng.normal(1, 1, 80), rng.normal(0, 1, 60)
    order = np.subtract.outer(right, wrong) > 0
    spread = order.mean(1).var(ddof=1) / 80 + order.mean(0).var(ddof=1) / 60
    found = auroc([*right, *wrong], [True] * 80 + [False] * 60)
    assert found.value == pytest.approx(order.mean())
    assert (found.high - found.low) / 3.92 == pytest.approx(math.sqrt(spread), rel=0.06)
    few = auroc([1, 2, 3, 4], [False, False, True, True])
    assert few.value == 1 and few.low < 0.6  # a perfect order of few is no certainty


@pytest.mark.parametrize(
    ("values", "score"),
    [("778", 1), ("788", 0), ("78", 1 / 2), ("789", 1 / 3), ([None, None, "7"], 1), ("", 0)],
)
def test_a_tie_is_shared_out_and_no_answer_is_no_vote(values, score):
    assert majority_score(list(values), "7") == pytest.approx(score)


@given(said, k_of_n)
def test_majority_at_k_against_all_subsets(values, case):
    k, n = case
    values = values[:n]
    drawn = [majority_score(s, "7") for s in itertools.combinations(values, k)]
    assert majority_at_k(values, "7", k) == pytest.approx(sum(drawn) / len(drawn), abs=1e-11)


def test_majority_at_k_is_exact_where_certain_and_sound_beyond_what_floats_can_count():
    # certain scores count as yes or no
    assert {majority_at_k(["7"] * 64, "7", k) for k in range(1, 65)} == {1.0}
    values = ["7"] * 600 + ["8"] * 620
    assert majority_at_k(values, "7", 1) == pytest.approx(600 / 1220, abs=1e-9)
    assert majority_at_k(values, "7", 1220) == 0.0
    assert 0.3 < majority_at_k(values, "7", 101) < 0.5


@given(st.integers(0, 8), k_of_n)
def test_pass_at_k_against_all_subsets(right, case):
    k, n = case
    values = ([True] * right + [False] * n)[:n]
    subsets = list(itertools.combinations(values, k))
    assert pass_at_k(n, sum(values), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_a_curve_has_powers_of_two_and_all_paths():
    found = [curve_ks(n) for n in (0, 1, 2, 5, 8)]
    assert found == [[], [1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]
