"""What is read off one question, and off all of them; worked examples and what must always hold."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_helpers import BARE, KINDS, PATHS, path, question, run_of

from lmsi_cli.verdict.rules import Observer
from lmsi_cli.verdict.signals import WORDS, label_free, labelled, look, mark
from lmsi_cli.voting.ballots import vote

WORDING = "Tom has 1 pen, 3 caps and 1,200 stamps. How many are that?"


def seen_of(*answers):
    made, paths = question(0, answers)
    return look(WORDING, made, paths)


def signals_of(kind, chance=None, questions=60):
    return label_free([look("", v, p) for v, p in run_of(kind, questions)], chance)


ONE = pytest.approx(1 / 3)
BY_HAND = [  # answers, each with a true equation, a false one or none; what is read off them
    (
        [("42", True), ("42", True), ("42", False), ("40", False), ("41", None)],
        {"plain_answer": "42", "share": 0.6,
         "winners_true": pytest.approx(2 / 3), "losers_true": 0.0},
    ),
    # the plain vote counts whatever its equations
    (
        [("7", False), ("7", False), ("8", True)],
        {"plain_answer": "7", "winners_true": 0.0, "losers_true": 1.0},
    ),
    # a tie has neither winners nor losers
    (
        [("7", False), ("8", True)],
        {"plain_answer": None, "winners_true": None, "losers_true": None},
    ),
    # 0 + 1 = 1 uses one number of three; 2 + 1 = 3 two, and loses
    ([("1", True)], {"numbers_used": ONE}),
    ([("1", True), ("1", True), ("3", True)], {"numbers_used": ONE}),
    ([("1", None)], {"numbers_used": None}),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "told"), BY_HAND)
def test_one_question_by_hand(answers, told):
    seen = seen_of(*answers)
    assert {name: getattr(seen, name) for name in told} == told


def test_what_was_cut_off_or_not_read_is_counted_and_no_more():
    assert look("How many?", *question(0, [("1", True)])).numbers_used is None
    all_of_it = msgspec.structs.replace(path(0, "1204"), text=" 1.00 + 3 + 1200 = 1204.")
    assert look(WORDING, vote("q", [all_of_it]), [all_of_it]).numbers_used == 1.0
    paths = [path(0, "7", True, stop="length"), path(1, None, True), path(2, "8", True)]
    s = look("", vote("q", paths), paths)
    assert (s.truncated, s.share_of_all) == (ONE, ONE)
    assert (s.plain_answer, s.share) == ("8", 1.0)
    s = look("", vote("q", paths[1:2]), paths[1:2])
    assert (s.share, s.winners_true) == (None, None)
    assert label_free([s], None)["truncated"].value == 0.0


@settings(max_examples=20)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 50), st.integers(1, 8))
def test_every_signal_lies_in_its_interval_and_has_words(kind, seed, questions):
    signals = label_free([look("", v, p) for v, p in run_of(kind, questions, seed)], 0.5)
    assert list(signals) == [name for name in WORDS if name in signals]
    for name, i in signals.items():
        low = -1 if name in ("above chance", "steps lift") else 0
        assert low <= i.low <= i.value <= i.high <= 1, name
        assert 1 <= i.n <= questions


@pytest.mark.parametrize(("kind", "low", "high"), [("coin", -0.05, 0.05), ("yes man", -0.05, 0.05)])
def test_chance_agreement_is_no_agreement(kind, low, high):
    """Twelve coins agree to 61% on average, and twelve men who say yes to 90%."""
    for chance in (0.5, None):
        above = signals_of(kind, chance)["above chance"]
        assert low < above.value < high
        assert above.low <= 0 <= above.high
    assert signals_of("half known")["above chance"].low > 0.3


def test_the_chance_level_of_the_task_counts_where_the_sample_hides_it():
    """Each question's paths all say one thing; drawn evenly from four, twelve would agree less."""
    runs = [question(i, [("ABCD"[i % 4], None)] * PATHS) for i in range(20)]
    above = label_free([look("", v, p) for v, p in runs], 0.25)["above chance"]
    assert above.low > 0.4


def test_one_stopped_question_takes_all_shares_away():
    shares = {"share of all", "above chance"}
    seen = [look("", v, p) for v, p in run_of("half known")]
    assert shares <= set(label_free(seen, None))
    seen[3] = seen[3]._replace(stopped=True)
    left = label_free(seen, None)
    assert not shares & set(left)
    assert {"steps lift", "truncated"} <= set(left)


def test_a_long_run_is_looked_at_evenly_and_in_any_order(monkeypatch):
    monkeypatch.setattr("lmsi_cli.verdict.rules.MOST", 50)
    run = run_of("half known", 400)
    results = []
    for order in (run, run[::-1]):
        observer = Observer({"q399": "499"}, None)
        for made, paths in order:
            observer.observe(BARE, made, paths)
        results.append(observer.finish().evidence)
    first, second = results
    assert 20 <= first.looked_at <= 50
    assert first.questions == 400 and first.probe.questions == 1
    assert first.kept == sum(bool(v.kept) for v, _ in run)
    assert second == first
    whole, name = signals_of("half known", questions=400), "share of all"
    assert first.signals[name].low < whole[name].value < first.signals[name].high


def marked(*answers):
    return mark(*question(0, [(a, None) for a in answers]), "42")


def test_one_question_of_a_probe_by_hand():
    m = marked("42", "42", "42", "40")
    assert (m.right, m.kept_right, m.vote_right) == (0.75, 1.0, 1.0)
    m = marked("40", "40", "42", "41")
    assert (m.right, m.kept_right, m.vote_right) == (0.25, 0.0, 0.0)
    m = marked("42", "42", "40", "40")  # a tie is shared out and keeps nothing
    assert (m.right, m.kept_right, m.vote_right) == (0.5, None, 0.5)
    # a right answer that was cut off is not right
    paths = [path(0, "42", stop="length"), path(1, "40")]
    assert mark(vote("q", paths), paths, "42").right == 0.0


def test_all_figures():
    good, bad, none = marked("42", "42", "42", "40"), marked("40", "40", "42"), marked("1", "2")
    p = labelled([good] * 6 + [bad] * 3 + [none])
    assert (p.questions, p.kept_questions) == (10, 9)
    assert p.one_path.value == pytest.approx((6 * 0.75 + 3 / 3) / 10)
    assert p.kept.value == pytest.approx(6 / 9)
    assert p.gap.value == pytest.approx((6 * 0.25 - 3 / 3) / 9)  # of the kept questions alone
    assert p.vote.value == pytest.approx(0.6)
    assert p.vote_gap.n == 10
    assert p.any_path.value == pytest.approx(0.9)
    assert p.gap.low <= p.gap.value <= p.gap.high
