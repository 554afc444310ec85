"""Between rounds: seeds, temperatures, gates, the round that is kept. Records in, words out."""

import msgspec
import pytest

from lmsi_cli.config import RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.records import Interval
from lmsi_cli.rounds import (
    Figures,
    Gate,
    Round,
    alarmed,
    best,
    checked,
    comparable,
    last_good,
    voted,
)
from lmsi_cli.settings import Settings, of_round, seed_of
from lmsi_cli.verdict.rules import Evidence, judge

PLAIN = Settings(SampleConfig(seed=3), VoteConfig(seed=4), TrainConfig(seed=5))
N = 40


def seen(scores, model="m", **other):
    n = len(scores)
    usual = {"parsed": (1.0,) * n, "commonest": 0.05}
    ids = tuple(f"q{i}" for i in range(n))
    return Figures(model=model, questions=ids, scores=tuple(scores), **{**usual, **other})


def share(right, n=N):
    return [1.0] * right + [0.0] * (n - right)


def a_round(number, scores=None, gates=(), trained=True, **other):
    return Round(
        number=number,
        folder=f"round-{number}",
        temperature=0.7,
        drawn_by=number - 1,
        started_from=0,
        verdict="train",
        kept_questions=60,
        kept_paths=200,
        mean_share=0.6,
        trained=trained,
        gates=tuple(gates),
        figures=None if scores is None else seen(scores),
        **other,
    )


def test_later_rounds_have_other_seeds_and_their_own_temperature_and_start():
    run = RunConfig(rounds=3, round_temperature=(0.7, 1.0))
    rounds = [of_round(PLAIN, run, n, "" if n < 2 else "runs/a/adapter") for n in (1, 2, 3)]
    for stage in ("sample", "vote", "train"):
        seeds = [getattr(r, stage).seed for r in rounds]
        assert len(set(seeds)) == 3 and all(0 <= s < 2**31 for s in seeds)
    assert rounds[0] == PLAIN  # the first one has the settings as given
    assert [r.sample.temperature for r in rounds] == [0.7, 1.0, 1.0]  # the last one goes on
    fresh = msgspec.structs.replace(rounds[1].train, init="", seed=PLAIN.train.seed)
    assert (rounds[1].train.init, fresh) == ("runs/a/adapter", PLAIN.train)
    later = {seed_of(s, n) for s in range(1000) for n in (2, 3)}  # no sum gives them
    assert len(later) == 2000 and not later & set(range(1000))


def evidence(**signals):
    found = {"truncated": Interval(value=0, low=0, high=0, n=30), **signals}
    return Evidence(questions=30, looked_at=30, kept=20, stopped=0, signals=found)


def test_the_gate_of_the_vote_follows_its_verdict_and_an_alarm_ends_the_rounds():
    agreed = Interval(value=0.97, low=0.95, high=0.99, n=30)
    few = Interval(value=0.05, low=0.01, high=0.1, n=30)
    stop = judge(evidence(commonest=few, **{"share of all": agreed}))
    gate = voted(stop)
    assert gate.ends and "not to train: 97% [95, 99] of the paths agree already" in gate.text
    assert not voted(judge(evidence(commonest=few))).ends
    (gate,) = alarmed("step 20: the model is far from the base")
    assert gate.ends and "alarm: step 20" in gate.text
    assert alarmed("") == ()


NONE = frozenset[str]()


def ends(before, after, by, chance=None):
    return [g.text for g in checked((before, after), by, NONE, chance) if g.ends]


def test_a_clear_fall_ends_the_rounds_and_a_small_one_does_not():
    for by in ("probe", "agreement"):
        assert ends(seen(share(30)), seen(share(12)), by)
        assert not ends(seen(share(30)), seen(share(28)), by)
        assert not ends(seen(share(12)), seen(share(30)), by)


@pytest.mark.parametrize(("by", "told"), [("agreement", True), ("probe", False)])
def test_a_rise_without_labels_is_called_no_evidence(by, told):
    (gate,) = checked((seen(share(12)), seen(share(30))), by, NONE)
    assert gate.text.endswith("a rise would be no evidence of a gain") is told


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        ({"commonest": 0.6}, "one answer is given to 60% of the questions (base 5%)"),
        ({"parsed": (0.5,) * N}, "answers that can be read against the base: -50.0"),
    ],
)
def test_collapse_ends_the_rounds_without_labels_and_is_a_remark_beside_them(sign, told):
    before, after = seen(share(20)), seen(share(20), **sign)
    # of few answers one may be common
    assert bool(ends(before, after, "agreement", 0.5)) == ("commonest" not in sign)
    (text,) = ends(before, after, "agreement")
    assert told in text
    assert not ends(before, after, "probe")
    assert any(told in g.text for g in checked((before, after), "probe", NONE))


def test_trained_questions_are_not_compared_on_by_agreement():
    found = (seen(share(20)), seen(share(20)))
    most = frozenset(f"q{i}" for i in range(N - 10))
    assert comparable(found, "agreement", NONE) == [f"q{i}" for i in range(N)]
    assert comparable(found, "agreement", most) == []
    assert len(comparable(found, "probe", most)) == 10
    assert len(comparable(found, "probe", most | {"q39"})) == N  # then the whole probe
    assert comparable((seen(share(4, 8)),) * 2, "probe", NONE) == []


def test_the_last_good_round_skips_alarms_and_what_was_not_trained():
    alarm = Gate(name="alarm", ends=True, text="")
    forced = Gate(name="verdict", ends=True, text="")
    assert last_good(()) == 0
    rounds = (a_round(1), a_round(2, gates=[alarm]), a_round(3, trained=False))
    assert last_good(rounds) == 1
    assert last_good((a_round(1, gates=[alarm]),)) == 0
    assert last_good((a_round(1), a_round(2, gates=[forced]))) == 2


NO = dict[int, frozenset[str]]()


def test_the_probe_keeps_the_round_with_most_right_answers():
    rounds = [a_round(1, share(20)), a_round(2, share(25)), a_round(3, share(23))]
    kept = best(rounds, NO, "probe")
    assert (kept.number, kept.by) == (2, "probe")
    assert "50.0% in round 1, 62.5% in round 2, 57.5% in round 3" in kept.why
    assert kept.change.difference == pytest.approx(0.125)
    little = best([a_round(1, share(20)), a_round(2, share(22))], NO, "probe")
    assert little.number == 2 and little.why.endswith("that may be chance")
    equal = best([a_round(1, share(20)), a_round(2, share(20))], NO, "probe")
    assert (equal.number, equal.change) == (1, None)


def test_without_labels_a_later_round_must_be_clearly_better():
    first, little, much = (a_round(n, share(k)) for n, k in ((1, 20), (2, 23), (3, 36)))
    assert best([first, little], NO, "agreement").number == 1
    kept = best([first, little, much], NO, "agreement")
    assert kept.number == 3 and "no proof of a gain" in kept.why


def test_without_labels_trained_questions_choose_nothing():
    rounds = [a_round(1, share(20)), a_round(2, share(36))]
    all_of_them = {2: frozenset(f"q{i}" for i in range(N))}
    kept = best(rounds, all_of_them, "agreement")
    assert (kept.number, kept.by) == (1, "nothing")


def test_an_unsound_round_is_not_kept_however_good():
    worse = Gate(name="check-up", ends=True, text="")
    rounds = [a_round(1, share(20)), a_round(2, share(40), gates=[worse])]
    assert best(rounds, NO, "probe").number == 1
    only = best([a_round(1, share(20), gates=[worse])], NO, "probe")
    assert only.number == 1 and "for want of a better one" in only.why
    assert best([a_round(1, trained=False)], NO, "probe") is None
