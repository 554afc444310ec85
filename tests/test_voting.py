"""Votes, filters and pairs: what must hold for any set of paths, and each rule by itself."""

from collections import Counter

import msgspec
import pytest
from builders import path as made
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import PAPER as PAPER_PRESET
from lmsi_cli.config import PRESETS, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.selection import FILTERS, Tally, choose, select, shuffled

PAPER = VoteConfig(min_share=0.0, min_votes=1, max_paths_per_question=0)


def path(index=0, answer="42", stop="answer", text=None):
    return made(index, answer, text, stop_reason=stop)


def summed(selections):
    tally = Tally()
    for selection in selections:
        tally.add(*selection)
    return tally.summary()


@st.composite
def groups(draw):
    answers = st.sampled_from([None, "1", "2", "3"])
    stops = st.sampled_from(["answer", "eos", "next_question", "length"])
    pairs = draw(st.lists(st.tuples(answers, stops), max_size=12))
    texts = st.sampled_from([" 1 + 1 = 2.", " 2 + 2 = 4.", " no sum", " no  sum"])
    return [path(i, a, s, draw(texts)) for i, (a, s) in enumerate(pairs)]


configs = st.builds(
    VoteConfig, min_share=st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_votes=st.integers(1, 4),
    max_paths_per_question=st.integers(0, 3),
)  # fmt: skip


@given(groups(), st.randoms(use_true_random=False))
def test_order_of_paths_does_not_matter(paths, random):
    mixed = random.sample(paths, len(paths))
    assert vote("q", mixed) == vote("q", paths)
    assert list(vote("q", mixed).ballots) == list(vote("q", paths).ballots)
    config = VoteConfig()
    assert select(vote("q", paths), mixed, config) == select(vote("q", paths), paths, config)


@given(groups())
def test_unparsed_and_truncated_paths_never_count_and_figures_agree(paths):
    v = vote("q", paths)
    ballots = [p for p in paths if p.predicted_answer and p.stop_reason != "length"]
    assert v.ballots == Counter(p.predicted_answer for p in ballots)
    assert v.total_votes == len(ballots)
    assert v.total_votes + v.no_answer + v.truncated == v.num_paths == len(paths)
    only = vote("q", ballots)
    assert (only.predicted_answer, only.share, only.kept) == (v.predicted_answer, v.share, v.kept)
    assert v.share * v.total_votes == pytest.approx(v.majority_votes)
    assert v.share_of_all * v.num_paths == pytest.approx(v.majority_votes)
    assert v.margin * v.total_votes == pytest.approx(v.majority_votes - v.runner_up_votes)
    assert 0 <= v.margin <= v.share <= 1
    assert v.tie == (v.majority_votes > 0 and v.majority_votes == v.runner_up_votes)
    assert (v.predicted_answer is None) == (v.tie or v.total_votes == 0)
    assert len(v.kept) == (0 if v.predicted_answer is None else v.majority_votes)


@given(groups(), configs)
def test_every_path_is_kept_or_counted_once(paths, config):
    v = vote("q", paths)
    selection = select(v, paths, config)
    chosen, removed = selection
    assert list(removed) == list(FILTERS)
    assert sum(removed.values()) + len(chosen.kept) == len(paths)
    assert set(chosen.kept) <= set(v.kept)
    assert select(v, paths, PAPER)[0] == v  # without limits
    summary = summed([selection])
    assert sum(summary.removed.values()) + summary.kept_paths == summary.paths


def test_the_literal_record():
    paths = [path(i, a) for i, a in enumerate(["42", "42", "42", "40", None])]
    v = vote("q7", paths)
    assert (v.predicted_answer, v.majority_votes, v.runner_up_votes) == ("42", 3, 1)
    assert (v.total_votes, v.num_paths, v.no_answer, v.truncated) == (4, 5, 1, 0)
    assert (v.tie, v.share, v.share_of_all, v.margin) == (False, 0.75, 0.6, 0.5)
    assert (v.ballots, v.kept) == ({"42": 3, "40": 1}, (0, 1, 2))
    assert (v.entropy, v.posterior) == (pytest.approx(0.5623, 1e-3), 0.8125)


def test_a_tie_has_no_winner_nor_have_no_paths():
    v = vote("q", [path(0, "1"), path(1, "2")])
    assert (v.tie, v.predicted_answer, v.kept, v.share) == (True, None, (), 0.5)
    v = vote("q", [])
    assert (v.tie, v.predicted_answer, v.share, v.margin, v.kept) == (False, None, 0.0, 0.0, ())
    summary = summed([])
    assert (summary.questions, summary.mean_share, sum(summary.histogram)) == (0, 0.0, 0)


SUM, OTHER = " 1 + 1 = 2. It is 2.", " 2 + 0 = 2."
WRONG = " 1 + 1 = 3. The answer is 3."


@pytest.mark.parametrize(
    ("name", "paths", "config", "kept", "count"),
    [
        ("no-vote", [path(0), path(1, None), path(2, stop="length")], {"min_votes": 1}, (0,), 2),
        ("false-equation", [path(0, "2", text=SUM), path(1, "2", text=WRONG)], {"min_votes": 1},
         (0,), 1),
        ("tie", [path(0, "1"), path(1, "2")], {"min_votes": 1}, (), 2),
        ("min-votes", [path(0)], {"min_votes": 2}, (), 1),
        ("min-share", [path(0), path(1), path(2, "1")], {"min_share": 0.7}, (), 3),
        ("minority", [path(0), path(1, "1"), path(2)], {}, (0, 2), 1),
        ("cap", [path(i) for i in range(5)], {"max_paths_per_question": 3}, (0, 1, 2), 2),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_each_filter_by_its_name(name, paths, config, kept, count):
    settings = VoteConfig(**config)
    chosen, removed = select(vote("q", paths, settings.check_equations), paths, settings)
    assert chosen.kept == kept
    assert {k: n for k, n in removed.items() if n} == {name: count}


def test_a_path_with_a_false_equation_votes_only_if_nobody_checks():
    paths = [path(0, "3", text=WRONG), path(1, "3", text=WRONG), path(2, "2", text=SUM)]
    assert vote("q", paths).predicted_answer == "3"
    checked = vote("q", paths, check_equations=True)
    assert (checked.predicted_answer, checked.refuted, checked.total_votes) == ("2", 2, 1)
    assert checked.kept == (2,)
    paper = resolve(VoteConfig, {"preset": "paper"})
    assert select(vote("q", paths), paths, paper)[0].kept == (0, 1)


def test_tally():
    groups = [
        [path(i) for i in range(4)],
        [path(0), path(1), path(2), path(3, "1")],
        [path(0), path(1, "1")],
        [path(0, None), path(1, stop="length")],
    ]
    summary = summed([select(vote("q", group), group, VoteConfig()) for group in groups])
    assert (summary.questions, summary.paths, summary.parsed, summary.truncated) == (4, 12, 10, 1)
    assert (summary.ties, summary.kept_paths, summary.kept_questions) == (1, 7, 2)
    assert summary.mean_share == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert summary.histogram == [0, 0, 0, 0, 0, 1, 0, 1, 0, 1]
    assert summary.removed == {
        **dict.fromkeys(FILTERS, 0), "no-vote": 2, "tie": 2, "minority": 1
    }  # fmt: skip


def test_histogram_edges_are_exact():
    for ones in range(1, 11):
        others = [path(ones + i, str(100 + i)) for i in range(10 - ones)]
        paths = [path(i) for i in range(ones)] + others
        selection = select(vote("q", paths), paths, PAPER)
        assert summed([selection]).histogram[min(ones, 9)] == 1


def test_the_paper_keeps_every_majority_path_and_names_every_filter():
    about_files = {"preset", "formats", "seed", "pairs", "pair_share"}
    assert set(PAPER_PRESET) == set(VoteConfig.__struct_fields__) - about_files
    assert PRESETS["default"].keys() == PAPER_PRESET.keys()
    texts = [" 1 + 1 = 3.", " 1 + 1 = 3.", " Это", " 2 + 5 = 7."]
    paths = [path(i, text=text) for i, text in enumerate(texts)]
    bare = resolve(VoteConfig, {"preset": "paper"})
    assert select(vote("q", paths), paths, bare)[0].kept == (0, 1, 2, 3)


def test_an_unknown_preset_is_refused_with_what_there_is():
    with pytest.raises(LmsiError, match=r"--preset.*default, paper.*'best'"):
        resolve(VoteConfig, {"preset": "best"})


def paths(*answers):
    return [path(i, answer) for i, answer in enumerate(answers)]


def chosen(own, **settings):
    """(chosen, rejected, weight) of every pair."""
    config = msgspec.structs.replace(PAPER, **settings)
    voted = vote("q", own, config.check_equations)
    found = choose(select(voted, own, config)[0], own, config)
    return [(good.path, bad.path, weight) for good, bad, weight in found]


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
        path(0, "42", text=false.format(42)),  # the winning answer by a false equation: neither
        path(1, "42"),
        path(2, "42"),
        path(3, "40"),
        path(4, "41", text=false.format(41)),
    ]
    assert chosen(own) == [(1, 4, (2 - 0) / 5)]
    assert chosen(own, check_equations=False) == [(0, 3, (3 - 1) / 5)]


@pytest.mark.parametrize("seed", range(20))
def test_of_a_control_no_path_is_set_against_itself_or_its_own_answer(seed):
    own = paths("42", "42", "42", "40", "41", "41")
    control = shuffled(select(vote("q", own), own, PAPER)[0], own, seed)
    for good, bad, _ in choose(control, own, msgspec.structs.replace(PAPER, pairs=9)):
        assert good.path in control.kept
        assert bad.path not in control.kept
        assert good.predicted_answer != bad.predicted_answer


def test_among_answers_without_a_ballot_the_rarest_is_rejected():
    false = " 2 + 2 = 5. The answer is {}."
    said = ["41", "41", "39"]
    own = [*paths("42", "42"), *(path(i + 2, a, text=false.format(a)) for i, a in enumerate(said))]
    assert chosen(own) == [(0, 4, 2 / 5)]
