"""All figures against scipy, definitions and brute force: intervals, maj@k, pass@k, comparisons."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
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
from lmsi_cli.stats.paired_tests import holm, mcnemar_power, paired, smallest_visible

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
def test_majority_and_pass_at_k_against_all_subsets(values, case):
    k, n = case
    values = values[:n]
    subsets = list(itertools.combinations(values, k))
    scores, passed = [majority_score(s, "7") for s in subsets], ["7" in s for s in subsets]
    assert majority_at_k(values, "7", k) == pytest.approx(np.mean(scores), abs=1e-11)
    assert pass_at_k(n, values.count("7"), k) == pytest.approx(np.mean(passed))


def test_majority_at_k_is_exact_where_certain_and_sound_beyond_what_floats_can_count():
    # certain scores count as yes or no
    assert {majority_at_k(["7"] * 64, "7", k) for k in range(1, 65)} == {1.0}
    values = ["7"] * 600 + ["8"] * 620
    assert majority_at_k(values, "7", 1) == pytest.approx(600 / 1220, abs=1e-9)
    assert majority_at_k(values, "7", 1220) == 0.0
    assert 0.3 < majority_at_k(values, "7", 101) < 0.5


def test_a_curve_has_powers_of_two_and_all_paths():
    found = [curve_ks(n) for n in (0, 1, 2, 5, 8)]
    assert found == [[], [1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


# -- comparisons, their power, and Holm's correction -----------------------------------------------


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


def test_no_change_is_no_certainty_and_of_few_interval_and_test_tell_the_same():
    """None of 30 changed: up to three in 30 may, and not be seen (the rule of three)."""
    found = paired([1.0] * 30, [1.0] * 30)
    assert (found.difference, found.p_value, found.gained, found.lost) == (0.0, 1.0, 0, 0)
    assert found.low == pytest.approx(-found.high)
    assert 0.06 < found.high < 0.13
    assert found.smallest_visible > 0
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
    seen = Counter((int(gained), int(lost)) for gained, lost, _ in draws)
    clear = sum(
        times for (g, lo), times in seen.items() if g + lo and binomtest(g, g + lo).pvalue < 0.05
    )
    assert clear / 2000 == pytest.approx(mcnemar_power(n, share, up), abs=0.03)
    assert 0.8 <= mcnemar_power(n, share, up) < 0.86


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_by_its_definition(p_values):
    """Of all values up to its own, the largest that is multiplied by how many are not below it."""
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        steps = [min(1, q * sum(r >= q for r in p_values)) for q in p_values if q <= p]
        assert adjusted == pytest.approx(max(steps))
