"""The labelled signals, worked by hand."""

import msgspec
import pytest
from verdict_helpers import path, question

from lmsi_cli.verdict.signals import labelled, mark
from lmsi_cli.voting.ballots import vote


def marked(*answers, gold="42", **changes):
    made, paths = question(0, [(a, None) for a in answers])
    return mark(msgspec.structs.replace(made, **changes), paths, gold)


def test_one_question_by_hand():
    m = marked("42", "42", "42", "40")
    assert (m.right, m.kept_right, m.vote_right, m.any_right) == (0.75, 1.0, 1.0, True)
    m = marked("40", "40", "42", "41")
    assert (m.right, m.kept_right, m.vote_right, m.any_right) == (0.25, 0.0, 0.0, True)
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
    assert p.auroc.value == 1.0  # 0.75 beats 0.67 and 0.5: the six right ones stand above all
    stopped = marked("40", "40", "42", stopped=True)  # its share ranks nothing
    p = labelled([good] * 6 + [stopped] * 3)
    assert (p.auroc, p.questions) == (None, 9)
