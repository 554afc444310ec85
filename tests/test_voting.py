"""Votes, filters and pairs: what must hold for any set of paths, and each rule by itself."""

from collections import Counter

import msgspec
import pytest
from builders import path
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import PRESETS, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.voting.ballots import is_refuted, vote
from lmsi_cli.voting.selection import FILTERS, Tally, choose, select, shuffled

BARE = VoteConfig(min_share=0.0, min_votes=1, max_paths_per_question=0)


def paths(*answers):
    return [path(i, answer) for i, answer in enumerate(answers)]


def selected(own, config):
    """What is kept of one question's paths, and what each filter removed."""
    return select(vote("q", own, config.check_equations), own, config)


@st.composite
def groups(draw):
    answers = st.sampled_from([None, "1", "2", "3"])
    stops = st.sampled_from(["answer", "eos", "next_question", "length"])
    pairs = draw(st.lists(st.tuples(answers, stops), max_size=12))
    texts = st.sampled_from([" 1 + 1 = 2.", " 2 + 2 = 5.", " no sum", " no  sum"])
    return [path(i, a, draw(texts), stop_reason=s) for i, (a, s) in enumerate(pairs)]


configs = st.builds(
    VoteConfig, min_share=st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_votes=st.integers(1, 4),
    max_paths_per_question=st.integers(0, 3),
)  # fmt: skip


@given(groups())
def test_unparsed_and_truncated_paths_never_count_and_figures_agree(own):
    v = vote("q", own)
    ballots = [p for p in own if p.predicted_answer and p.stop_reason != "length"]
    assert v.ballots == Counter(p.predicted_answer for p in ballots)
    assert v.total_votes == len(ballots)
    assert v.total_votes + v.no_answer + v.truncated == v.num_paths == len(own)
    assert v.share * v.total_votes == pytest.approx(v.majority_votes)
    assert v.share_of_all * v.num_paths == pytest.approx(v.majority_votes)
    assert v.margin * v.total_votes == pytest.approx(v.majority_votes - v.runner_up_votes)
    assert v.tie == (v.majority_votes > 0 and v.majority_votes == v.runner_up_votes)
    assert (v.predicted_answer is None) == (v.tie or v.total_votes == 0)
    assert len(v.kept) == (0 if v.predicted_answer is None else v.majority_votes)


@given(groups(), configs, st.randoms(use_true_random=False))
def test_every_path_is_kept_or_counted_once_whatever_their_order(own, config, random):
    v = vote("q", own, config.check_equations)
    chosen, removed = selected(own, config)
    assert list(removed) == list(FILTERS)
    assert sum(removed.values()) + len(chosen.kept) == len(own)
    assert set(chosen.kept) <= set(v.kept)
    assert selected(own, BARE)[0] == v  # without limits
    mixed = random.sample(own, len(own))
    again = vote("q", mixed, config.check_equations)
    assert (again, list(again.ballots)) == (v, list(v.ballots))
    assert selected(mixed, config) == (chosen, removed)


def test_a_vote_by_hand():
    v = vote("q7", paths("42", "42", "42", "40", None))
    assert (v.predicted_answer, v.majority_votes, v.runner_up_votes) == ("42", 3, 1)
    assert (v.no_answer, v.truncated, v.share, v.kept) == (1, 0, 0.75, (0, 1, 2))
    assert (v.entropy, v.posterior) == (pytest.approx(0.5623, 1e-3), 0.8125)


def false(index, answer):
    return path(index, answer, f" 2 + 2 = 5. The answer is {answer}.")


CUT = path(2, stop_reason="length")


@pytest.mark.parametrize(
    ("name", "own", "config", "kept", "count"),
    [
        ("no-vote", [*paths("42", None), CUT], {"min_votes": 1}, (0,), 2),
        ("false-equation", [path(0), false(1, "42")], {"min_votes": 1}, (0,), 1),
        ("tie", paths("1", "2"), {"min_votes": 1}, (), 2),
        ("min-votes", paths("42"), {"min_votes": 2}, (), 1),
        ("min-share", paths("42", "42", "1"), {"min_share": 0.7}, (), 3),
        ("minority", paths("42", "1", "42"), {}, (0, 2), 1),
        ("cap", paths(*["42"] * 5), {"max_paths_per_question": 3}, (0, 1, 2), 2),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_each_filter_by_its_name(name, own, config, kept, count):
    chosen, removed = selected(own, VoteConfig(**config))
    assert chosen.kept == kept
    assert {k: n for k, n in removed.items() if n} == {name: count}


def test_a_path_with_a_false_equation_votes_only_if_nobody_checks():
    own = [false(0, "3"), false(1, "3"), path(2, "2")]
    assert vote("q", own).predicted_answer == "3"
    checked = vote("q", own, check_equations=True)
    assert (checked.predicted_answer, checked.refuted, checked.total_votes) == ("2", 2, 1)
    assert checked.kept == (2,)
    thought = "<think>2 + 2 = 5? No.</think> 2 + 2 = 4. The answer is 4."  # refutes nothing
    assert not is_refuted(path(text=thought))
    assert is_refuted(path(text=thought.replace("2 + 2 = 4.", "2 + 2 = 6.")))


def test_the_paper_keeps_every_majority_path_and_another_preset_is_refused():
    own = [false(0, "42"), false(1, "42"), path(2, text=" Это"), path(3)]
    assert selected(own, resolve(VoteConfig, {"preset": "paper"}))[0].kept == (0, 1, 2, 3)
    about_files = {"preset", "formats", "seed", "pairs", "pair_share"}
    assert set(PRESETS["paper"]) == set(VoteConfig.__struct_fields__) - about_files
    assert PRESETS["default"].keys() == PRESETS["paper"].keys()
    with pytest.raises(LmsiError, match=r"--preset.*default, paper.*'best'"):
        resolve(VoteConfig, {"preset": "best"})


def test_the_totals_of_a_run():
    clear, tie, unread = paths("42", "42", "42", "1"), paths("42", "1", None), [path(0, None), CUT]
    tally = Tally()
    assert tally.summary().mean_share == 0.0
    for own in (paths(*["42"] * 4), clear, tie, unread):
        tally.add(*selected(own, VoteConfig()))
    summary = tally.summary()
    assert (summary.questions, summary.paths, summary.parsed, summary.truncated) == (4, 13, 10, 1)
    assert (summary.ties, summary.kept_paths, summary.kept_questions) == (1, 7, 2)
    assert summary.mean_share == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert summary.histogram == [0, 0, 0, 0, 0, 1, 0, 1, 0, 1]
    removed = {k: n for k, n in summary.removed.items() if n}
    assert removed == {"no-vote": 3, "tie": 2, "minority": 1}


# -- pairs -----------------------------------------------------------------------------------------


def pairs(own, **settings):
    """(chosen, rejected, weight) of every pair."""
    config = msgspec.structs.replace(BARE, **settings)
    found = choose(selected(own, config)[0], own, config)
    return [(good.path, bad.path, weight) for good, bad, weight in found]


EIGHT = paths("40", "42", "42", "7", "42", "40", "42", "42")
FIVE = paths("42", "42", "42", "40", "41")
REFUTED = [false(0, "42"), path(1), path(2), path(3, "40"), false(4, "41")]
RARE = [path(0), path(1), false(2, "41"), false(3, "41"), false(4, "39")]
CASES = {
    "the first path against the least supported": (EIGHT, {}, [(1, 3, 4 / 8)]),
    "in any order": (EIGHT[::-1], {}, [(1, 3, 4 / 8)]),
    "every path once": (EIGHT, {"pairs": 9}, [(1, 3, 4 / 8), (2, 0, 3 / 8), (4, 5, 3 / 8)]),
    "none": (EIGHT, {"pairs": 0}, []),
    "refuted paths are never chosen": (REFUTED, {}, [(1, 4, 2 / 5)]),
    "nobody checks": (REFUTED, {"check_equations": False}, [(0, 3, 2 / 5)]),
    "of answers without a ballot the rarest": (RARE, {}, [(0, 4, 2 / 5)]),
    "a share": (FIVE, {"pair_share": 0.6}, [(0, 3, 2 / 5)]),
    "below it": (FIVE, {"pair_share": 0.61}, []),
    "a tie": (paths("42", "42", "40", "40"), {}, []),
    "one answer": (paths("42", "42", "42"), {}, []),
    "the other unread": (paths("42", "42", None), {}, []),
    "the other cut off": ([*paths("42", "42"), path(2, "7", stop_reason="length")], {}, []),
}


@pytest.mark.parametrize(("own", "settings", "found"), CASES.values(), ids=CASES)
def test_the_winner_is_set_against_what_fewest_say(own, settings, found):
    assert pairs(own, **settings) == found


def test_of_a_control_no_path_is_set_against_itself_or_its_own_answer():
    own, kept = paths("42", "42", "42", "40", "41", "41"), set()
    for seed in range(20):
        control = shuffled(selected(own, BARE)[0], own, seed)
        kept |= {control.kept}
        found = choose(control, own, VoteConfig(pairs=9))
        assert found
        for good, bad, _ in found:
            assert good.path in control.kept
            assert bad.path not in control.kept
            assert good.predicted_answer != bad.predicted_answer
    assert len(kept) > 5 and {len(numbers) for numbers in kept} == {3}
