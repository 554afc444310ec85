"""Every draft is a candidate or is counted; candidates are like nothing that is known."""

import itertools

import pytest
from generation_helpers import SEEDS, TASK, draft, invented
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.generation.filters import LIKENESS, Nearness, Sieve, question_id, runs
from lmsi_cli.records import Question

EXAM = "A farm has 8 cows and sells 3 of them on Monday. How many cows has the farm?"
EXAMS = {"test.jsonl": [Question(id="t", question=EXAM, answer="5")]}


def likeness(one, other):
    """Share of the runs of three words in common."""
    a, b = runs(one), runs(other)
    return len(a & b) / len(a | b)


def sieved(texts, exams=EXAMS):
    sieve = Sieve(SEEDS, exams, TASK)
    for text in texts:
        sieve.take(draft(f" {text}"))
    return sieve


KNOWN = {
    "a seed": SEEDS[0].question,
    "a seed in capitals": SEEDS[0].question.upper(),
    "like a seed": SEEDS[0].question.replace("Tom?", "Tom now?"),
    "in an excluded file": EXAM.replace(".", ","),
    "like an excluded one": EXAM.replace("the farm?", "the farm now?"),
    "again": invented(7).lower(),
    "like another": invented(7).replace("Bert?", "Bert now?"),
}


@pytest.mark.parametrize(("reason", "text"), KNOWN.items(), ids=KNOWN.keys())
def test_what_is_known_is_told_by_name(reason, text):
    sieve = sieved([invented(7), text])
    assert sieve.dropped == {reason.removesuffix(" in capitals"): 1}
    assert [q.question for q in sieve.candidates] == [invented(7)]


def test_ids_come_from_the_text_alone():
    one, other = sieved([invented(1), invented(2)]), sieved([invented(2)])
    assert one.candidates[1] == other.candidates[0]
    assert one.candidates[1].id == question_id(invented(2))
    many = sieved([invented(n) for n in range(40)])  # other numbers in other words
    assert (len(many.candidates), many.dropped) == (40, {})


WORDS = st.lists(st.sampled_from(["tom", "has", "7", "pens", "and", "cups"]), min_size=3)
TEXTS = WORDS.map(lambda words: " ".join(words) + "?")


@given(st.lists(st.one_of(TEXTS, st.text(), st.sampled_from(list(KNOWN.values()))), max_size=30))
def test_nothing_is_lost_and_nothing_stands_twice(texts):
    sieve = sieved(texts)
    assert sieve.taken == len(texts) == len(sieve.candidates) + sum(sieve.dropped.values())
    asked = [q.question for q in sieve.candidates]
    known = [EXAM, *(q.question for q in SEEDS)]
    assert len({q.id for q in sieve.candidates}) == len(asked)
    for one, other in [*itertools.combinations(asked, 2), *itertools.product(asked, known)]:
        assert likeness(one, other) <= LIKENESS


@given(st.lists(TEXTS, max_size=12), st.lists(TEXTS, max_size=12))
def test_more_drafts_change_nothing_before_them(first, more):
    some, all_ = sieved(first), sieved([*first, *more])
    assert all_.candidates[: len(some.candidates)] == some.candidates


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS)
def test_the_index_finds_the_likeness_of_the_pair(texts, text):
    nearest = Nearness(texts).nearest(text)
    pairs = [likeness(text, t) for t in texts]
    assert nearest == pytest.approx(max(pairs))


def test_a_text_can_be_left_out_of_its_own_neighbours():
    index = Nearness(["one two three four", "one two three five"])
    assert index.nearest("one two three four") == 1
    assert index.nearest("one two three four", apart=0) == pytest.approx(1 / 3)
