"""What is read off one question, and off all of them, by worked examples."""

import pytest
from msgspec.structs import replace
from verdict_helpers import BARE, PATHS, path, question, run_of

from lmsi_cli.verdict.rules import Observer
from lmsi_cli.verdict.signals import label_free, labelled, look, mark
from lmsi_cli.voting.ballots import vote

WORDING = "Tom has 1 pen, 3 caps and 1,200 stamps. How many are that?"
ONE, TWO = pytest.approx(1 / 3), pytest.approx(2 / 3)


def signals_of(runs, chance=None):
    return label_free([look("", v, p) for v, p in runs], chance)


BY_HAND = {  # answers, each with a true equation, a false one or none; what is read off them
    "plain": (
        [("42", True), ("42", True), ("42", False), ("40", False), ("41", None)],
        {"plain_answer": "42", "share": 0.6, "winners_true": TWO, "losers_true": 0.0},
    ),
    "whatever its equations": (
        [("7", False), ("7", False), ("8", True)],
        {"plain_answer": "7", "winners_true": 0.0, "losers_true": 1.0},
    ),
    "a tie": (
        [("7", False), ("8", True)],
        {"plain_answer": None, "winners_true": None, "losers_true": None},
    ),
    # 0 + 1 = 1 uses one number of three; 2 + 1 = 3 two, and loses
    "one number": ([("1", True)], {"numbers_used": ONE}),
    "the winner's": ([("1", True), ("1", True), ("3", True)], {"numbers_used": ONE}),
    "no equation": ([("1", None)], {"numbers_used": None}),
}


@pytest.mark.parametrize(("answers", "told"), BY_HAND.values(), ids=BY_HAND)
def test_one_question_by_hand(answers, told):
    seen = look(WORDING, *question(0, answers))
    assert {name: getattr(seen, name) for name in told} == told


def test_what_was_cut_off_or_not_read_is_counted_and_no_more():
    assert look("How many?", *question(0, [("1", True)])).numbers_used is None
    by_value = replace(path(0, "1204"), text=" 1.00 + 3 + 1200 = 1204.")
    assert look(WORDING, vote("q", [by_value]), [by_value]).numbers_used == 1.0
    paths = [path(0, "7", True, stop="length"), path(1, None, True), path(2, "8", True)]
    s = look("", vote("q", paths), paths)
    assert (s.truncated, s.share_of_all) == (ONE, ONE)
    assert (s.plain_answer, s.share) == ("8", 1.0)
    s = look("", vote("q", paths[1:2]), paths[1:2])
    assert (s.share, s.winners_true) == (None, None)
    assert label_free([s], None)["truncated"].value == 0.0


@pytest.mark.parametrize("kind", ["coin", "yes man"])
@pytest.mark.parametrize("chance", [0.5, None])
def test_chance_agreement_is_no_agreement(kind, chance):
    """Twelve coins agree to 61% on average, and twelve men who say yes to 90%."""
    above = signals_of(run_of(kind), chance)["above chance"]
    assert abs(above.value) < 0.05 and above.low <= 0 <= above.high
    assert signals_of(run_of("half known"))["above chance"].low > 0.3


def test_the_chance_level_of_the_task_counts_where_the_sample_hides_it():
    """By chance twelve answers out of eight agree less than out of the task's two."""
    runs = [question(i, [("ABCDEFGH"[i % 8], None)] * PATHS) for i in range(24)]
    free, bound = (signals_of(runs, chance)["above chance"].value for chance in (None, 0.5))
    assert bound < free - 0.2


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
    assert second == first and 20 <= first.looked_at <= 50
    assert first.questions == 400 and first.probe.questions == 1
    assert first.kept == sum(bool(v.kept) for v, _ in run)
    part, whole = (signals["share of all"] for signals in (first.signals, signals_of(run)))
    assert part.low < whole.value < part.high


def marked(*answers):
    return mark(*question(0, [(a, None) for a in answers]), "42")


def test_one_question_of_a_probe_by_hand():
    """Its paths, its kept ones and its vote: a tie is shared out and keeps nothing."""
    assert marked("42", "42", "42", "40") == (0.75, 1.0, 1.0)
    assert marked("40", "40", "42", "41") == (0.25, 0.0, 0.0)
    assert marked("42", "42", "40", "40") == (0.5, None, 0.5)
    paths = [path(0, "42", stop="length"), path(1, "40")]
    assert mark(vote("q", paths), paths, "42").right == 0.0  # right, but cut off


def test_all_figures():
    good, bad, none = marked("42", "42", "42", "40"), marked("40", "40", "42"), marked("1", "2")
    p = labelled([good] * 6 + [bad] * 3 + [none])
    assert (p.questions, p.kept_questions, p.vote_gap.n) == (10, 9, 10)
    assert p.one_path.value == pytest.approx((6 * 0.75 + 3 / 3) / 10)
    assert p.kept.value == pytest.approx(6 / 9)
    assert p.gap.value == pytest.approx((6 * 0.25 - 3 / 3) / 9)  # of the kept questions alone
    assert p.vote.value == pytest.approx(0.6)
    assert p.any_path.value == pytest.approx(0.9)
