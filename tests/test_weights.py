"""Weighted votes: each rule by hand, numbers at the edges, and the fit of the temperature."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import WEIGHT_FORMS, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path
from lmsi_cli.settings import resolve
from lmsi_cli.voting import vote
from lmsi_cli.voting.ballots import entropy
from lmsi_cli.voting.weights import GRID, Ballots, Weighting, confidence, fit, softmax


def path(index, answer="2", logprob=-1.0, mean=-0.1):
    return Path(
        question_id="q", path=index, seed=index, num_generated_tokens=9, logprob=logprob,
        mean_logprob=mean, text=" So.", stop_reason="answer", predicted_answer=answer,
        extract_rule="marker",
    )  # fmt: skip


def voted(setting, *paths):
    return vote("q", paths, weighting=Weighting.parse(setting))


LONG = [path(0, "2", -40.0, -0.1), path(1, "2", -41.0, -0.1), path(2, "3", -9.0, -0.9)]


def test_each_rule_by_hand():
    assert voted("majority", *LONG).weights == {}
    assert voted("majority", *LONG).predicted_answer == "2"
    short = voted("logprob", *LONG)
    assert short.predicted_answer == "3"
    assert short.weights["2"] == pytest.approx((math.exp(-31) + math.exp(-32)), rel=1e-6)
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
    assert v.margin == pytest.approx(-1 / 3) and v.posterior < 0.5
    assert v.kept == (2,)
    assert list(v.ballots) == list(v.weights) == ["3", "2"]


def test_equal_weights_are_a_tie_and_single_answers_are_not():
    pair = [path(0, "2", -5.0), path(1, "3", -5.0)]
    for setting in ("logprob", "mean_logprob", "cisc:0.3"):
        assert voted(setting, *pair).tie
        assert voted(setting, *pair).predicted_answer is None
        assert not voted(setting, pair[0]).tie
        assert voted(setting).predicted_answer is None


@given(st.lists(st.floats(-1e6, 0), min_size=1, max_size=20))
def test_shares_sum_to_one_whatever_the_logprobs(scores):
    shares = softmax(scores)
    assert all(0 <= s <= 1 for s in shares)
    assert math.fsum(shares) == pytest.approx(1)
    assert shares[scores.index(max(scores))] == max(shares)


logprobs = st.floats(-50, 0)
rows = st.lists(st.tuples(st.sampled_from("123"), logprobs, st.floats(-3, 0)), max_size=12)


@given(rows, st.sampled_from(["logprob", "mean_logprob", "cisc:0.05", "cisc:3"]), st.randoms())
def test_the_order_of_paths_changes_nothing_and_the_heaviest_wins(rows, setting, random):
    paths = [path(i, *row) for i, row in enumerate(rows)]
    v = voted(setting, *paths)
    assert voted(setting, *random.sample(paths, len(paths))) == v
    if v.predicted_answer is not None:
        assert v.weights[v.predicted_answer] == max(v.weights.values())
    assert v.tie == (len(v.weights) > 1 and len({*list(v.weights.values())[:2]}) == 1)


@given(rows)
def test_equal_confidences_and_a_large_temperature_are_the_majority(rows):
    same = [path(i, row[0], -5.0, -0.2) for i, row in enumerate(rows)]
    plain = voted("majority", *same)
    for setting in ("logprob", "mean_logprob", "cisc:0.1"):
        v = voted(setting, *same)
        assert v.tie == plain.tie or len(v.weights) > 1
        if not (plain.tie or v.tie):
            assert v.predicted_answer == plain.predicted_answer


def test_a_path_without_a_mean_is_told():
    old = path(4, mean=None)
    assert voted("logprob", old).predicted_answer == "2"
    for setting in ("mean_logprob", "cisc:1"):
        with pytest.raises(LmsiError, match="path 4 of question 'q' has no 'mean_logprob'") as e:
            voted(setting, old)
        assert "older version" in e.value.hint


@pytest.mark.parametrize("setting", ["cisc:0.5", "cisc:.5", "cisc:3", "cisc:100", "cisc:0.000001"])
def test_temperatures_that_can_be_written(setting):
    assert resolve(VoteConfig, {"weight": setting}).weight == setting
    assert Weighting.parse(setting).temperature == float(setting[5:])


@pytest.mark.parametrize(
    "setting", ["", "cisc", "cisc:", "cisc:0", "cisc:0.0", "cisc:-1", "cisc:1e3", "cisc:.", "sum",
                "cisc:auto ", "cisc:1\n", "cisc:5000"]
)  # fmt: skip
def test_a_bad_weight_is_refused_with_what_may_be_written(setting):
    with pytest.raises(LmsiError) as e:
        resolve(VoteConfig, {"weight": setting})
    assert str(e.value) == f"--weight: expected {WEIGHT_FORMS}, got {setting!r}"


def test_entropy():
    assert entropy(()) == entropy((7,)) == 0
    assert entropy((2, 2)) == pytest.approx(math.log(2))
    assert voted("majority", path(0), path(1), path(2, "3")).entropy == pytest.approx(0.6365, 1e-3)


def test_the_temperature_follows_the_labels():
    told = Ballots([0.9, 0.5, 0.5], [True, False, False])
    misled = Ballots([0.9, 0.5, 0.5], [False, True, True])
    sure = fit([told] * 5)  # the more confident path is always right: it decides alone
    assert sure.temperature < 0.02 and sure.log_likelihood == 0
    assert fit([misled] * 5).temperature == GRID[-1]  # it is never right: count
    mixed = fit([told] * 3 + [misled])
    assert GRID[0] < mixed.temperature < GRID[-1]
    # of the three shares, the right one's is 1 / (1 + 2 exp(-0.4 / T)): best where that is 3 / 4
    assert mixed.temperature == pytest.approx(0.4 / math.log(6), rel=0.07)
    assert mixed.log_likelihood > mixed.plain_log_likelihood
    assert mixed.plain_log_likelihood == pytest.approx((3 * math.log(1 / 3) + math.log(2 / 3)) / 4)


def test_questions_that_say_nothing_are_left_out():
    told = Ballots([0.9, 0.5], [True, False])
    silent = [Ballots([0.2, 0.9], [True, True]), Ballots([0.4], [False]), Ballots([], [])]
    assert fit([told, *silent]) == fit([told])
    assert fit([told]).questions == 1
    with pytest.raises(LmsiError, match="no question of the probe has right and wrong ballots"):
        fit(silent)


def test_confidence_is_the_probability_of_a_token():
    assert confidence(path(0, mean=-0.5)) == pytest.approx(math.exp(-0.5))
    assert confidence(msgspec.structs.replace(path(0), mean_logprob=0.0)) == 1
