"""Intervals and tests against scipy, published examples and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from lmsi_cli.stats import (
    auroc,
    evenness,
    majority_score,
    mcnemar,
    mean_interval,
    paired,
    pass_at_k,
    shares,
    smallest_visible,
    wilson,
)
from lmsi_cli.stats import pairs as pairing

fractions = st.floats(0, 1).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(fractions, fractions), max_size=30)
zero_or_one = st.sampled_from([0.0, 1.0])
binary_pairs = st.lists(st.tuples(zero_or_one, zero_or_one), max_size=30)


def split(rows):
    return [a for a, _ in rows], [b for _, b in rows]


def test_wilson_published():
    found = wilson(8, 10)
    assert (round(found.low, 3), round(found.high, 3)) == (0.490, 0.943)
    assert (found.value, found.n) == (0.8, 10)
    # Newcombe 1998 (Stat. Med. 17:857), table I, method 3.
    for (successes, n), bounds in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        found = wilson(successes, n)
        assert (found.low, found.high) == pytest.approx(bounds, abs=5e-5)


def test_nothing_known_without_questions():
    for found in (wilson(0, 0), mean_interval([])):
        assert (found.value, found.low, found.high, found.n) == (0.0, 0.0, 1.0, 0)
    nothing = paired([], [])
    assert (nothing.difference, nothing.low, nothing.high) == (0.0, -1.0, 1.0)
    assert (nothing.p_value, nothing.smallest_visible, nothing.n) == (1.0, 1.0, 0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_its_value(case):
    found = wilson(*case)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_own_score_bounds_are_scipys(case):
    successes, n = case
    ci = binomtest(successes, n).proportion_ci(method="wilson")
    assert shares.score_bounds(successes / n, n) == pytest.approx((ci.low, ci.high), abs=1e-6)


@given(st.lists(fractions, min_size=1, max_size=50))
def test_mean_interval_contains_its_mean(values):
    found = mean_interval(values)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.value == pytest.approx(np.mean(values))
    assert found.low < found.high


def test_mean_interval_of_single_paths_is_about_wilsons():
    ours, plain = mean_interval([1.0, 0.0] * 50), wilson(50, 100)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.005)


def test_mean_interval_covers():
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.binomial(8, rng.beta(0.5, 1.5, size=40)) / 8) for _ in range(400)]
    assert np.mean([i.low <= 0.25 <= i.high for i in found]) > 0.92


def test_mean_interval_is_by_question_not_by_path():
    certain = [1.0] * 10 + [0.0] * 10  # 8 paths each that always agree are 20 trials, not 160
    found, naive = mean_interval(certain), wilson(80, 160)
    assert found.high - found.low > 2 * (naive.high - naive.low)


def test_values_outside_are_refused():
    for bad in ([1.2], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="within"):
            mean_interval(bad)
        with pytest.raises(ValueError, match="within"):
            paired(bad, [0.5])
    with pytest.raises(ValueError, match="1 values before, 2 after"):
        mcnemar([True], [True, False])


def test_mcnemar_by_hand():
    # 10 gained, 2 lost, 20 unchanged: twice the chance of 10, 11 or 12 heads in 12 throws.
    before = [False] * 10 + [True] * 2 + [True] * 20
    after = [True] * 10 + [False] * 2 + [True] * 20
    assert mcnemar(before, after) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar([True] * 5, [True] * 5) == 1.0


@given(binary_pairs)
def test_mcnemar_against_the_binomial_by_hand(rows):
    gained, lost = sum(a < b for a, b in rows), sum(a > b for a, b in rows)
    m = gained + lost
    tail = sum(math.comb(m, k) for k in range(max(gained, lost), m + 1)) / 2**m
    assert mcnemar(*split(rows)) == pytest.approx(min(1.0, 2 * tail))
    assert paired(*split(rows)).p_value == pytest.approx(mcnemar(*split(rows)), rel=1e-12)


@given(st.lists(fractions, min_size=1, max_size=30))
@settings(max_examples=30)
def test_nothing_changed(values):
    found = paired(values, values)
    assert (found.difference, found.p_value, found.gained, found.lost) == (0.0, 1.0, 0, 0)
    assert found.smallest_visible > 0  # no change seen is not no change


@given(pairs, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_paired_is_antisymmetric(rows, seed):
    before, after = split(rows)
    there, back = paired(before, after, seed), paired(after, before, seed)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert there.p_value == back.p_value
    assert there.low - 1e-9 <= there.difference <= there.high + 1e-9 or len(rows) < 30
    assert 0 < there.p_value <= 1


def test_paired_bootstrap_is_near_the_normal_interval():
    rng = np.random.default_rng(0)
    before, after = rng.random(200) * 0.5, rng.random(200)
    change = after - before
    half = 1.96 * change.std(ddof=1) / math.sqrt(200)
    found = paired(before.tolist(), after.tolist())
    assert (found.low, found.high) == pytest.approx(
        (change.mean() - half, change.mean() + half), abs=0.005
    )
    assert found.p_value == pytest.approx(1 / 10_001)
    assert found == paired(before.tolist(), after.tolist())


def test_blocks_do_not_change_the_size_of_the_bootstrap(monkeypatch):
    whole = paired([0.0] * 20, [0.5] * 10 + [0.0] * 10)
    monkeypatch.setattr(pairing, "BLOCK", 7_000)
    found = paired([0.0] * 20, [0.5] * 10 + [0.0] * 10)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=0.02)


@given(st.lists(st.integers(-4, 4).map(lambda k: k / 4), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_sign_flips_against_all_sign_patterns(changes):
    before = [max(0.0, -c) for c in changes]
    after = [max(0.0, c) for c in changes]
    seen = abs(sum(changes))
    sums = [abs(np.dot(s, changes)) for s in itertools.product([-1, 1], repeat=len(changes))]
    exact = np.mean([s >= seen - 1e-9 for s in sums])
    found = pairing._sign_flip(np.subtract(after, before), np.random.default_rng(0))
    assert found == pytest.approx(exact)


@pytest.mark.parametrize(("n", "changed"), [(30, 0), (100, 0), (100, 20), (300, 60), (1000, 100)])
def test_smallest_visible_difference_is_seen_in_four_of_five(n, changed):
    rng = np.random.default_rng(0)
    visible = smallest_visible(n, changed / n)
    share = max(changed / n, visible)
    odds = [(share + visible) / 2, (share - visible) / 2, 1 - share]
    draws = rng.multinomial(n, odds, size=1000)
    seen = np.mean(
        [g + lo > 0 and binomtest(int(g), int(g + lo)).pvalue < 0.05 for g, lo, _ in draws]
    )
    assert 0.76 < seen < 0.86


def test_too_few_questions_can_show_nothing():
    assert paired([0.0] * 5, [1.0] * 5).smallest_visible == 1.0
    assert paired([0.0] * 5, [1.0] * 5).p_value == 0.0625


@pytest.mark.parametrize(
    ("values", "gold", "score"),
    [
        (["7", "7", "8"], "7", 1.0),
        (["7", "8", "8"], "7", 0.0),
        (["7", "8"], "7", 0.5),
        (["7", "8", "9"], "7", 1 / 3),
        (["8", "9", "7"], "1", 0.0),
        ([None, None, "7"], "7", 1.0),
        ([None, None], "7", 0.0),
        ([], "7", 0.0),
    ],
)
def test_majority_score(values, gold, score):
    assert majority_score(values, gold) == pytest.approx(score)


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_against_all_subsets(case):
    n, c, k = case
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (3, 4, 1), (3, 1, 0), (3, 1, 4), (3, -1, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_auroc_is_the_share_of_pairs_in_order(marked):
    right = [x for x, y in marked if y]
    wrong = [x for x, y in marked if not y]
    found = auroc([x for x, _ in marked], [y for _, y in marked])
    if not right or not wrong:
        assert found is None
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(marked)


def test_auroc_needs_a_mark_for_every_score():
    with pytest.raises(ValueError, match="2 scores, 1 marks"):
        auroc([0.1, 0.2], [True])


def test_auroc_interval_narrows_with_questions():
    def width(times):
        found = auroc([1, 2, 3, 4, 5, 6] * times, [False, True, False, True, False, True] * times)
        return found.high - found.low

    assert width(40) < width(4) / 2


@pytest.mark.parametrize(
    ("counts", "value"),
    [([1] * 8, 1.0), ([8], 0.0), ([4, 4], 1 / 3), ([], 0.0), ([1], 0.0)],
)
def test_evenness(counts, value):
    """Two halves of eight are one bit of three."""
    found = evenness(counts)
    assert found.value == pytest.approx(value)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == sum(counts)
    if sum(counts) < 2:
        assert (found.low, found.high) == (0, 1)


def test_evenness_of_the_source_is_within_the_interval():
    """Thirty draws from a hundred even answers repeat some; the source is still nearly even."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        counts = np.unique(rng.integers(0, 100, 30), return_counts=True)[1]
        found = evenness([int(c) for c in counts])
        hits += found.low <= 1.0 <= found.high + 1e-9
    assert hits >= 36
