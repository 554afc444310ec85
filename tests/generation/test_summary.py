"""How varied a set is: figures that can be checked by hand, and alarms that can be heard."""

import pytest
from generation_helpers import SEEDS, invented

from lmsi_cli.generation.summary import Generation, alarms, answers, to_seeds, variety

OWN = [q.question for q in SEEDS]
MADE = [invented(n) for n in range(30)]


def test_variety_by_hand():
    found = variety(["a b a b", "a b c"], 2)
    assert (found.words, found.distinct) == (3.5, 3 / 5)
    assert variety(["a b c d", "a b c e", "x y z"], 3).nearest == pytest.approx(1 / 3)


def test_groups_make_sets_of_different_sizes_comparable():
    """A vocabulary that comes back is no loss of variety within ten questions."""
    few, many = variety(MADE[:10], 10), variety(MADE, 10)
    assert many.distinct == pytest.approx(few.distinct, abs=0.05)
    assert variety(MADE, 30).distinct < few.distinct


def test_a_single_text_has_no_neighbour():
    assert variety(["a b c"], 1).nearest == 0
    assert variety([], 3) is None and to_seeds([], OWN) is None


def test_answers_by_hand():
    found = answers(["4", "4", "7", "9"])
    assert (found.distinct, found.commonest) == (3, "4")
    assert found.commonest_share == 0.5
    assert answers([]) is None


def heard(texts, dropped=None, winners=(), chance=0.0):
    made = Generation(
        wanted=30, kept=30, ended="enough", seeds=3, drafts=100, new_drafts=0,
        dropped=dropped or {}, candidates=30, sampled=30, waiting=0, rejected={},
        prompts_too_long=0, paths=8, min_share=0.5, min_votes=4, mean_share=0.8, tokens=0,
        seconds=0.0, seed_variety=variety(OWN, 3), variety=variety(texts, 3),
        to_seeds=to_seeds(texts, OWN), answers=answers(winners),
    )  # fmt: skip
    return " | ".join(alarms(made, chance))


def test_each_collapse_is_told_and_a_varied_set_raises_no_alarm():
    assert heard(MADE, winners=[str(i) for i in range(30)]) == ""
    assert "repeat a seed or another draft" in heard(MADE, dropped={"again": 40, "a seed": 20})
    same = ["Tom has 3 pens and 3 pens and 3 pens, how many?"] * 30
    assert "again and again" in heard(same)
    assert "like a seed: copies" in heard([OWN[0]] * 10 + [OWN[1]] * 10 + [OWN[2]] * 10)
    assert "times as long as the seeds" in heard([f"{t} {t} {t}" for t in MADE])
    assert "have one answer, '8'" in heard(MADE, winners=["8"] * 15 + list("abcdefghijklmno"))


def test_few_answers_are_no_alarm_where_there_are_few_to_choose_from():
    letters = ["A"] * 15 + ["B"] * 15
    assert heard(MADE, winners=letters, chance=0.5) == ""
    assert heard(MADE, winners=letters, chance=0.1) != ""
