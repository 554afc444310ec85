"""Weighted votes: each rule by hand, and numbers at the edges."""

import math

import msgspec
import pytest
from builders import path as made
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.weights import softmax


def path(index, answer="2", logprob=-1.0, mean=-0.1):
    return made(index, answer, " So.", logprob=logprob, mean_logprob=mean)


def voted(weight, *paths):
    return vote("q", paths, weight=weight)


LONG = [path(0, "2", -40.0, -0.1), path(1, "2", -41.0, -0.1), path(2, "3", -9.0, -0.9)]


def test_each_rule_by_hand():
    assert voted("majority", *LONG).weights == {}
    assert voted("majority", *LONG).predicted_answer == "2"
    short = voted("logprob", *LONG)
    assert short.predicted_answer == "3"
    assert short.weights["2"] == pytest.approx(math.exp(-31) + math.exp(-32), rel=1e-6)
    token = voted("mean_logprob", *LONG)
    two, three = 2 * math.exp(-0.1), math.exp(-0.9)
    assert token.weights["2"] == pytest.approx(two / (two + three))
    assert voted("cisc:100", *LONG).weights["2"] == pytest.approx(2 / 3, abs=0.01)
    sure = [path(0, "2", mean=-0.5), path(1, "2", mean=-0.5), path(2, "3", mean=-0.4)]
    assert voted("cisc:0.01", *sure).predicted_answer == "3"
    c = [math.exp(math.exp(x) / 0.5) for x in (-0.5, -0.5, -0.4)]
    assert voted("cisc:0.5", *sure).weights["3"] == pytest.approx(c[2] / sum(c))


def test_where_weights_overrule_the_count_the_record_says_so():
    v = voted("logprob", *LONG)
    assert (v.majority_votes, v.runner_up_votes, v.total_votes) == (1, 2, 3)
    assert v.margin == pytest.approx(-1 / 3)
    assert v.posterior < 0.5
    assert v.kept == (2,)
    assert list(v.ballots) == list(v.weights) == ["3", "2"]


@pytest.mark.parametrize("weight", ["logprob", "mean_logprob", "cisc:0.3"])
def test_equal_weights_are_a_tie_and_single_answers_are_not(weight):
    pair = [path(0, "2", -5.0), path(1, "3", -5.0)]
    assert voted(weight, *pair).tie
    assert voted(weight, *pair).predicted_answer is None
    assert not voted(weight, pair[0]).tie
    assert voted(weight).predicted_answer is None


@given(st.lists(st.floats(-1e6, 0), min_size=1, max_size=20))
def test_shares_sum_to_one_whatever_the_logprobs(scores):
    shares = softmax(scores)
    assert min(shares) >= 0
    assert math.fsum(shares) == pytest.approx(1)
    assert shares[scores.index(max(scores))] == max(shares)


logprobs = st.floats(-50, 0)
rows = st.lists(st.tuples(st.sampled_from("123"), logprobs, st.floats(-3, 0)), max_size=12)


@given(rows, st.sampled_from(["logprob", "mean_logprob", "cisc:0.05", "cisc:3"]), st.randoms())
def test_the_order_of_paths_changes_nothing_and_the_heaviest_wins(rows, weight, random):
    paths = [path(i, *row) for i, row in enumerate(rows)]
    found = voted(weight, *paths)
    random.shuffle(paths)
    assert voted(weight, *paths) == found
    if found.predicted_answer is not None:
        assert found.weights[found.predicted_answer] == max(found.weights.values())


@pytest.mark.parametrize("weight", ["logprob", "cisc:1"])
def test_a_path_without_a_log_probability_is_named(weight):
    bare = msgspec.structs.replace(path(3), logprob=None, mean_logprob=None)
    with pytest.raises(LmsiError, match="path 3 of question 'q'"):
        voted(weight, path(0), bare)


@pytest.mark.parametrize("weight", ["cisc:0", "cisc:", "cisc:auto", "mean", "logprob:1"])
def test_settings_that_are_none(weight):
    with pytest.raises(LmsiError, match="weight"):
        resolve(VoteConfig, {}, {"weight": weight})
