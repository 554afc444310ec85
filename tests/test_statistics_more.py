"""Clusters, votes over subsets, power, several tests and seeds, confidence: against references."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from lmsi_cli.stats import (
    MOVED_SHARE,
    auroc,
    brier,
    clopper_pearson,
    curve_ks,
    ece,
    holm,
    inversion,
    majority_at_k,
    majority_score,
    mcnemar,
    mean_interval,
    paired,
    pass_at_k,
    reliability,
    replicates,
    risk_coverage,
    smallest_visible,
    wilson,
)
from lmsi_cli.stats.planning import mcnemar_power

answers = st.lists(st.sampled_from(["7", "8", "9", "10", None]), min_size=1, max_size=8)
marked = st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=40)
yes_no = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


def split(rows):
    return [a for a, _ in rows], [b for _, b in rows]


@pytest.mark.parametrize(
    ("ours", "method"), [(wilson, "wilson"), (clopper_pearson, "beta")], ids=["wilson", "exact"]
)
@given(case=st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_shares_against_statsmodels(ours, method, case):
    found = ours(*case)
    low, high = proportion_confint(*case, alpha=0.05, method=method)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_clopper_pearson_published():
    """Newcombe 1998 (Stat. Med. 17:857), table I, method 5."""
    for (successes, n), bounds in {
        (81, 263): (0.2527, 0.3676),
        (15, 148): (0.0578, 0.1617),
        (0, 20): (0.0, 0.1684),
        (1, 29): (0.0009, 0.1776),
    }.items():
        found = clopper_pearson(successes, n)
        assert (found.low, found.high) == pytest.approx(bounds, abs=5e-5)


@given(answers.flatmap(lambda v: st.tuples(st.just(v), st.integers(1, len(v)))))
@settings(deadline=None)
def test_majority_at_k_against_all_subsets(case):
    values, k = case
    drawn = [majority_score(s, "7") for s in itertools.combinations(values, k)]
    assert majority_at_k(values, "7", k) == pytest.approx(sum(drawn) / len(drawn), abs=1e-11)


def test_majority_at_k_of_many_paths_against_draws():
    values = ["7"] * 25 + ["8"] * 22 + [str(i) for i in range(100, 112)] + [None] * 5
    rng = np.random.default_rng(0)
    for k in (2, 8, 32):
        drawn = [majority_score(list(rng.permutation(values)[:k]), "7") for _ in range(4000)]
        assert majority_at_k(values, "7", k) == pytest.approx(np.mean(drawn), abs=0.025)


def test_majority_at_k_at_its_ends():
    values = ["7"] * 3 + ["8", None]
    assert majority_at_k(values, "7", 1) == pytest.approx(3 / 5)
    assert majority_at_k(values, "7", 5) == 1.0
    assert majority_at_k(["7"] * 64, "7", 32) == 1.0  # exactly: certain scores count as yes or no
    assert majority_at_k([None] * 4, "7", 2) == 0.0


def test_majority_at_k_of_more_paths_than_floats_can_count():
    values = ["7"] * 600 + ["8"] * 620
    assert majority_at_k(values, "7", 1) == pytest.approx(600 / 1220, abs=1e-9)
    assert majority_at_k(values, "7", 1220) == 0.0
    assert 0.3 < majority_at_k(values, "7", 101) < 0.5


@pytest.mark.parametrize("k", [0, 4])
def test_majority_at_k_refuses(k):
    with pytest.raises(ValueError, match="maj@k"):
        majority_at_k(["7"] * 3, "7", k)


@pytest.mark.parametrize(
    ("n", "ks"), [(0, []), (1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])]
)
def test_curve_ks(n, ks):
    assert curve_ks(n) == ks


@given(st.lists(st.integers(0, 5).map(lambda k: k / 5), min_size=1, max_size=30))
def test_a_cluster_each_is_no_cluster(values):
    each = list(range(len(values)))
    assert mean_interval(values, each) == mean_interval(values)
    zero = [0.0] * len(values)
    assert paired(zero, values, groups=each) == paired(zero, values)


def test_questions_that_are_copies_count_once():
    values = [0.0, 1.0] * 10
    copies, labels = np.repeat(values, 5), np.repeat(range(20), 5).tolist()
    one, five = mean_interval(values), mean_interval(copies, labels)
    assert (five.low, five.high) == pytest.approx((one.low, one.high), abs=1e-9)
    before, after = [0.0] * 20, [1.0] * 8 + [0.0] * 12
    one = paired(before, after)
    five = paired(np.repeat(before, 5).tolist(), np.repeat(after, 5).tolist(), groups=labels)
    assert (five.low, five.high) == pytest.approx((one.low, one.high))
    assert five.p_value == pytest.approx(one.p_value)
    assert five.smallest_visible == one.smallest_visible
    assert five.gained == 40


def test_the_clustered_error_is_statsmodels():
    """Sandwich variance of a mean, clusters of unequal size; ours adds four clusters first."""
    from statsmodels.api import OLS

    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 200, 1000))
    values = (rng.random(200)[labels] > rng.random(1000)).astype(float)
    fit = OLS(values, np.ones(1000)).fit(
        cov_type="cluster", cov_kwds={"groups": labels, "use_correction": False}
    )
    found = mean_interval(values, labels.tolist())
    assert (found.high - found.low) / 3.92 == pytest.approx(float(fit.bse[0]), rel=0.03)


@given(yes_no)
@settings(deadline=None)
def test_yes_no_comparisons_are_exact_mcnemar(rows):
    found = paired(*split(rows))
    assert found.p_value == pytest.approx(mcnemar(*split(rows)))
    assert (found.p_value < 0.05) <= (found.low > -0.02 or found.high < 0.02)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=25))
@settings(deadline=None, max_examples=40)
def test_clusters_flip_as_one(rows):
    """Against all sign patterns of the clusters' sums."""
    before = [max(0, -c) / 3 for c, _ in rows]
    after = [max(0, c) / 3 for c, _ in rows]
    labels = [g for _, g in rows]
    sums = [sum(c for c, g in rows if g == label) for label in set(labels)]
    flips = [abs(np.dot(s, sums)) for s in itertools.product([-1, 1], repeat=len(sums))]
    exact = np.mean([f >= abs(sum(sums)) - 1e-9 for f in flips])
    assert paired(before, after, groups=labels).p_value == pytest.approx(exact)


def test_labels_must_fit():
    with pytest.raises(ValueError, match="2 group labels, 3 values"):
        mean_interval([1, 0, 1], ["a", "b"])


def test_no_change_is_no_certainty():
    """None of 30 changed: up to three in 30 may, and not be seen (the rule of three)."""
    found = paired([1.0] * 30, [1.0] * 30)
    assert found.low == pytest.approx(-found.high)
    assert 0.06 < found.high < 0.13


def test_interval_and_test_tell_the_same_of_few_changes():
    for gained, clear in ((5, False), (6, True)):
        found = paired([0.0] * 30, [1.0] * gained + [0.0] * (30 - gained))
        assert (found.p_value < 0.05, found.low > 0) == (clear, clear)


def test_power_against_statsmodels():
    """The normal approximation without continuity: exact McNemar needs a little more."""
    for n in (300, 1000):
        for moved in (0.1, MOVED_SHARE, 0.5):
            effect = NormalIndPower().solve_power(nobs1=n, alpha=0.05, power=0.8, ratio=0)
            normal, ours = effect * math.sqrt(moved), smallest_visible(n, moved)
            assert normal * 0.97 < ours < normal * 1.16


@pytest.mark.parametrize(("n", "moved"), [(30, 0.2), (100, 0.05), (300, 0.2)])
def test_power_by_drawing(n, moved):
    up = smallest_visible(n, moved)
    share, rng = max(moved, up), np.random.default_rng(0)
    draws = rng.multinomial(n, [(share + up) / 2, (share - up) / 2, 1 - share], size=2000)
    seen = [g + lo and binomtest(int(g), int(g + lo)).pvalue < 0.05 for g, lo, _ in draws]
    assert np.mean(seen) == pytest.approx(mcnemar_power(n, share, up), abs=0.03)
    assert mcnemar_power(n, share, up) >= 0.8


@pytest.mark.parametrize(("n", "moved"), [(-1, 0.2), (10, 1.2), (10, -0.1)])
def test_planning_refuses(n, moved):
    with pytest.raises(ValueError, match="needs"):
        smallest_visible(n, moved)


@settings(deadline=None, max_examples=15)  # theirs takes half a second
@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_against_statsmodels(p_values):
    theirs = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(theirs))


def test_holm_refuses():
    with pytest.raises(ValueError, match="within"):
        holm([0.5, 1.5])


def test_replicates_against_scipy():
    values = [0.041, 0.058, 0.023]
    found, ci = replicates(values), ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ci.low, ci.high))
    assert (found.smallest, found.largest, found.n) == (0.023, 0.058, 3)
    one = replicates([0.1])
    assert (one.mean, one.low, one.high, one.sd) == (0.1, None, None, None)
    with pytest.raises(ValueError, match="no replicates"):
        replicates([])


@given(marked, st.integers(1, 12))
def test_every_question_is_in_one_bin(rows, bins):
    shares, right = [x / 10 for x, _ in rows], [float(y) for _, y in rows]
    table = reliability(shares, right, bins)
    assert sum(b.n for b in table) == len(rows)
    assert sum(b.n * b.accuracy.value for b in table) == pytest.approx(sum(right))
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in table)
    gap = sum(b.n * abs(b.confidence - b.accuracy.value) for b in table) / len(rows)
    found = ece(shares, right, bins)
    assert found.value == pytest.approx(gap)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(marked)
def test_murphys_parts_add_up(rows):
    shares, right = [x / 10 for x, _ in rows], [float(y) for _, y in rows]
    found = brier(shares, right)
    assert found.score.value == pytest.approx(np.mean(np.subtract(shares, right) ** 2))
    parts = found.reliability - found.resolution + found.uncertainty
    assert parts == pytest.approx(found.score.value)


@given(marked)
@settings(deadline=None)
def test_risk_and_coverage_against_counting(rows):
    """Ties in expectation: every error of a level is spread evenly over it."""
    shares, right = split(rows)
    errors = []
    for level in sorted(set(shares), reverse=True):
        own = [not y for x, y in rows if x == level]
        errors += [sum(own) / len(own)] * len(own)
    area = np.mean([np.mean(errors[: i + 1]) for i in range(len(errors))])
    found = risk_coverage(shares, right)
    assert found.aurc.value == pytest.approx(area)
    assert found.aurc.low <= area + 1e-9
    assert found.best <= area + 1e-9
    last = found.points[-1]
    assert (last.coverage, last.risk, last.n) == (1, pytest.approx(found.chance), len(rows))


def test_auroc_published():
    """DeLong's variance by its definition, over all pairs (DeLong et al. 1988, equation 5)."""
    rng = np.random.default_rng(0)
    right, wrong = rng.normal(1, 1, 80), rng.normal(0, 1, 60)
    scores, marks = [*right, *wrong], [True] * 80 + [False] * 60
    order = np.subtract.outer(right, wrong) > 0
    spread = order.mean(1).var(ddof=1) / 80 + order.mean(0).var(ddof=1) / 60
    found = auroc(scores, marks)
    assert found.value == pytest.approx(order.mean())
    assert (found.high - found.low) / 3.92 == pytest.approx(math.sqrt(spread), rel=0.06)


def test_a_perfect_order_of_few_is_no_certainty():
    found = auroc([1, 2, 3, 4], [False, False, True, True])
    assert found.value == 1
    assert found.low < 0.6


@pytest.mark.parametrize("low", [0.2, 0.5])
def test_an_inversion_is_found_and_a_level_is_none(low):
    shares = [0.3] * 60 + [0.7] * 60 + [1.0] * 60
    level = ([True] * int(60 * low) + [False] * (60 - int(60 * low))) * 3
    assert inversion(shares, level).p_value == 1.0
    fallen = level[:120] + [False] * 60
    found = inversion(shares, fallen)
    assert found.found
    assert (found.lower.high, found.upper.high) == (pytest.approx(0.4), 1.0)
    assert found.upper.accuracy.value == 0


def test_rising_accuracy_is_no_inversion():
    shares = [0.3] * 50 + [0.9] * 50
    found = inversion(shares, [False] * 45 + [True] * 55)
    assert (found.found, found.p_value, found.overall, found.lower) == (False, 1.0, False, None)
    whole = inversion(shares, [True] * 45 + [False] * 55)
    assert whole.found
    assert whole.overall


def test_nothing_to_ask():
    assert reliability([], []) == ()
    assert (brier([], []), risk_coverage([], []), auroc([], [])) == (None, None, None)
    assert (ece([], []).low, ece([], []).high) == (0.0, 1.0)
    assert not inversion([], []).found


def test_pass_at_k_is_the_vote_of_a_single_path():
    assert pass_at_k(8, 3, 1) == pytest.approx(majority_at_k(["7"] * 3 + ["8"] * 5, "7", 1))
