"""Which paths of a question make a pair: most against least consistent, by rules that are told."""

import pytest
from builders import path as made

from lmsi_cli.config import VoteConfig
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.filters import choose, select

LOOSE = {"min_votes": 1, "min_share": 0.0, "max_paths_per_question": 0}


def path(index, answer, text=None, stop="answer"):
    return made(index, answer, text, stop_reason=stop)


def paths(*answers):
    return [path(i, answer) for i, answer in enumerate(answers)]


def chosen(own, **settings):
    """(chosen, rejected, weight) of every pair."""
    config = VoteConfig(**{**LOOSE, **settings})
    voted = vote("q", own, config.check_equations)
    found = choose(select(voted, own, config).vote, own, config)
    return [(c.chosen.path, c.rejected.path, c.weight) for c in found]


def test_the_winner_s_first_path_against_the_least_supported_answer():
    own = paths("40", "42", "42", "7", "42", "40", "42", "42")
    assert chosen(own) == [(1, 3, (5 - 1) / 8)]
    assert chosen(list(reversed(own))) == chosen(own)


def test_more_pairs_use_every_path_once_and_weigh_by_their_own_answer():
    own = paths("40", "42", "42", "7", "42", "40", "42", "42")
    assert chosen(own, pairs=9) == [(1, 3, 4 / 8), (2, 0, 3 / 8), (4, 5, 3 / 8)]
    assert chosen(own, pairs=0) == []


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.6, 1), (0.61, 0), (1.0, 0)])
def test_only_from_a_share_of_the_ballots_on(share, count):
    assert len(chosen(paths("42", "42", "42", "40", "41"), pair_share=share)) == count


def test_no_pair_without_a_winner_or_another_answer():
    assert chosen(paths("42", "42", "40", "40")) == []
    assert chosen(paths("42", "42", "42")) == []
    assert chosen([path(0, "42"), path(1, "42"), path(2, None, " dunno")]) == []
    assert chosen([path(0, "42"), path(1, "42"), path(2, "40", stop="length")]) == []


def test_a_refuted_path_is_rejected_never_chosen():
    false = " 2 + 2 = 5. The answer is {}."
    own = [
        path(0, "42", false.format(42)),  # the winning answer by a false equation: neither
        path(1, "42"),
        path(2, "42"),
        path(3, "40"),
        path(4, "41", false.format(41)),
    ]
    assert chosen(own) == [(1, 4, (2 - 0) / 5)]
    assert chosen(own, check_equations=False) == [(0, 3, (3 - 1) / 5)]


def test_among_answers_without_a_ballot_the_rarest_is_rejected():
    false = " 2 + 2 = 5. The answer is {}."
    said = ["41", "41", "39"]
    own = [*paths("42", "42"), *(path(i + 2, a, false.format(a)) for i, a in enumerate(said))]
    assert chosen(own) == [(0, 4, 2 / 5)]


def test_a_weight_is_at_most_one():
    many = chosen(paths(*["42"] * 15, "7"), pairs=1)
    assert many == [(0, 15, 14 / 16)]
