"""maj@k and pass@k against all subsets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.stats.intervals import curve_ks, majority_at_k, majority_score, pass_at_k

answers = st.lists(st.sampled_from(["7", "8", "9", "10", None]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("values", "gold", "score"),
    [
        (["7", "7", "8"], "7", 1.0),
        (["7", "8", "8"], "7", 0.0),
        (["7", "8"], "7", 0.5),
        (["7", "8", "9"], "7", 1 / 3),
        ([None, None, "7"], "7", 1.0),
        ([], "7", 0.0),
    ],
)
def test_majority_score(values, gold, score):
    assert majority_score(values, gold) == pytest.approx(score)


@given(answers.flatmap(lambda v: st.tuples(st.just(v), st.integers(1, len(v)))))
def test_majority_at_k_against_all_subsets(case):
    values, k = case
    drawn = [majority_score(s, "7") for s in itertools.combinations(values, k)]
    assert majority_at_k(values, "7", k) == pytest.approx(sum(drawn) / len(drawn), abs=1e-11)


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


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_against_all_subsets(case):
    n, c, k = case
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(
    ("n", "ks"), [(0, []), (1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])]
)
def test_curve_ks(n, ks):
    assert curve_ks(n) == ks
