"""When a question is decided: against scipy, the papers' rules, and any order of arrival."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import beta

from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.stopping import Decision, Stop, lead_probability

SETTINGS = ["beta:0.5", "beta:0.8", "beta:0.95", "beta:.99", "window:2", "window:5"]
BAD = ["", "beta", "beta:1", "beta:0.49", "beta:0.95\n", "beta:0.9999999"]
BAD += ["window:1", "window:5.5", "window:1000", "median:5"]
ballots = st.lists(st.sampled_from([None, "1", "1", "1", "2", "3"]), max_size=24)
stops = st.sampled_from(SETTINGS).map(Stop.parse)


def told(stop, pairs):
    decision = Decision(stop)
    for path, ballot in pairs:
        decision.tell(path, ballot)
    return decision


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_lead_is_the_upper_half_of_a_beta(second, more):
    first = second + more
    assert lead_probability(first, second) == pytest.approx(beta.sf(0.5, first + 1, second + 1))


@given(stops, ballots, st.randoms(use_true_random=False))
def test_a_decision_stands_whatever_comes_later_and_in_any_order(stop, cast, random):
    decision, seen = Decision(stop), None
    pairs = list(enumerate(cast))
    for path, ballot in random.sample(pairs, len(pairs)):
        decision.tell(path, ballot)
        assert seen is None or decision.after == seen
        seen = decision.after
    assert seen == told(stop, pairs).after
    assume(seen is not None)
    assert told(stop, pairs[:seen]).after == seen
    assert told(stop, pairs[: seen - 1]).after is None


@pytest.mark.parametrize(
    ("setting", "votes", "needed"),
    [
        ("beta:0.95", "1111", 4),  # 1 - 0.5 ** 5 = 0.969
        ("beta:0.95", "111", 4),  # 0.9375
        ("beta:0.95", "1-1", 5),  # one does not vote
        ("beta:0.95", "2111111", 7),  # against 1, 2 and 3 others it takes 6, 8 and 9
        ("beta:0.95", "22111111", 10),
        ("beta:0.95", "2211111111", 10),
        ("beta:0.95", "23111111", 8),  # only the two largest count
        ("beta:0.95", "1212", 10),
        ("beta:0.5", "1", 1),
        ("beta:0.5", "", 1),
        ("window:5", "11111", 5),
        ("window:5", "2111111111", 10),  # five in a row after 6 already, but across two windows
        ("window:5", "21111111", 10),
        ("window:2", "122133", 6),
        ("window:3", "12312", 9),
        ("window:3", "", 3),
    ],
)
def test_each_criterion_by_hand(setting, votes, needed):
    """With as many paths as are needed it is decided; until then they could decide at best."""
    decision = told(Stop.parse(setting), enumerate(None if v == "-" else v for v in votes))
    assert decision.needed == needed
    assert decision.after == (needed if needed == len(votes) else None)


def test_stopped_is_to_have_fewer_paths_for_being_decided():
    stop = Stop.parse("window:2")
    assert told(stop, [(0, "1"), (1, "1"), (3, "2")]).stopped(4)
    assert not told(stop, [(0, "1"), (1, "1"), (3, "2")]).stopped(2)
    assert not told(stop, [(0, "1"), (1, "2")]).stopped(4)  # interrupted, not decided
    assert not told(stop, enumerate("1111")).stopped(4)


def test_settings():
    assert Stop.parse(SampleConfig().stop) is None
    assert Stop.parse("beta:0.95") == Stop("beta", 0.95) == Stop.parse("beta:.95")
    assert Stop.parse("window:12") == Stop("window", 12)


@pytest.mark.parametrize("setting", BAD)
def test_a_bad_setting_is_refused_with_what_may_be_written(setting):
    for parse in (Stop.parse, lambda text: resolve(SampleConfig, {"stop": text})):
        with pytest.raises(LmsiError, match=r"^--stop: .*beta:P.*window:W") as e:
            parse(setting)
        assert str(e.value).endswith(f"got {setting!r}")
