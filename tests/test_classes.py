"""Classes of paths: each by an example, and what must hold for any set of paths."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.equations import equations, read_equations
from lmsi_cli.records import Path
from lmsi_cli.voting import classify
from lmsi_cli.voting.slips import is_corrected, put_right


def path(index, answer, text, stop="answer"):
    return Path(
        question_id="q", path=index, seed=index, num_generated_tokens=9, logprob=-1.0, text=text,
        stop_reason=stop, predicted_answer=answer, extract_rule="marker" if answer else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer", "text"),
    [
        ("sound", "42", " 6 * 7 = 42. The answer is 42."),
        ("sound", "42", " Half of 84 is 42: 84 / 2 = 42, and 42 - 2 = 40. The answer is 42."),
        ("unchecked", "42", " I know that one. The answer is 42."),
        ("corrected", "42", " 6 * 7 = 41. Wait, 6 * 7 = 42. The answer is 42."),
        ("lucky", "42", " 6 * 7 = 41. The answer is 42."),
        ("lucky", "42", " 6 * 7 = 41. Wait, 7 * 6 = 42. The answer is 42."),  # another expression
        ("lucky", "42", " 6 * 7 = 42. So 6 * 7 = 41, no, the answer is 42."),  # right, then wrong
        ("near-miss", "41", " 6 * 7 = 41. The answer is 41."),
        ("near-miss", "48", " 3 + 4 = 8. 8 * 6 = 48. The answer is 48."),
        ("near-miss", "41", " 6 * 7 = 42. The answer is 41."),  # a slip of the pen
        ("rival", "13", " 6 + 7 = 13. The answer is 13."),
        ("other", "40", " 6 * 7 = 41. 41 - 2 = 40. The answer is 40."),  # two slips
        ("other", "43", " 6 + 7 = 43. The answer is 43."),  # one slip, but it leads to 13
        ("other", "43", " It is 43."),
        ("unparsed", None, " 6 * 7 = 42, I guess"),
    ],
)
def test_each_class_by_an_example(name, answer, text):
    assert classify([path(0, answer, text)], "42") == {0: name}


def test_a_wrong_answer_that_comes_three_times_is_systematic_whatever_its_steps():
    texts = [" 6 * 7 = 41. The answer is 41.", " 41 - 0 = 41.", " It is 41."]
    paths = [path(i, "41", text) for i, text in enumerate(texts)]
    assert set(classify(paths, "42").values()) == {"systematic"}
    assert list(classify(paths[:2], "42").values()) == ["near-miss", "rival"]
    cut = [*paths[:2], path(2, "41", texts[2], stop="length")]
    assert list(classify(cut, "42").values()) == ["near-miss", "rival", "truncated"]


def test_without_a_winner_nothing_is_known():
    paths = [path(0, "1", " 1 + 0 = 1."), path(1, None, ""), path(2, "2", "", stop="length")]
    assert classify(paths, None) == {0: "undecided", 1: "unparsed", 2: "truncated"}


@pytest.mark.parametrize("answer", ["b", "yes", "2020-01-01", "1/0", "x + 1"])
def test_answers_that_are_no_numbers_are_never_near(answer):
    text = " 6 * 7 = 41. The answer is so."
    assert classify([path(0, answer, text)], "42") == {0: "other"}
    assert classify([path(0, "41", text)], answer) == {0: "other"}


def test_a_next_question_and_thoughts_are_no_part_of_a_path():
    text = "<think>6 * 7 = 40?</think> 6 * 7 = 42. The answer is 42.\nQ: Is 1 + 1 = 3?"
    assert classify([path(0, "42", text)], "42") == {0: "sound"}


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("3 + 4 = 8. 8 * 5 = 40. 40 - 1 = 39.", 39, 34),
        ("3 + 4 = 8. 2 * 5 = 10.", 10, None),  # the slip leads nowhere
        ("1 / 2 = 2. 2 + 1 = 3.", 3, Fraction(3, 2)),
        ("2 - 4 = 2. 2 * 3 = 6. 10 - 6 = 4.", 4, 16),
        ("5 - 4 = 2. 6 / 2 = 3.", 3, 6),
        ("4 - 4 = 2. 6 / 2 = 3.", 3, None),  # without the slip it divides by zero
        ("3 + 4 = 8. 8 + 1 = 10.", 10, None),  # two slips
        ("3 + 4 = 7.", 8, 7),
        ("No step at all.", 8, None),
        ("20% * 50 = 5. 5 + 5 = 10.", 10, 20),  # a five that was there before is replaced too
    ],
)
def test_put_right(text, answer, right):
    assert put_right(read_equations(text), Fraction(answer)) == right


def test_a_correction_must_follow_and_hold():
    assert is_corrected(read_equations("2 + 2 = 5. No: 2 + 2 = 4."))
    assert is_corrected(read_equations("2 + 2 = 5, 3 + 3 = 7. No: 3 + 3 = 6 and 2 + 2 = 4."))
    assert not is_corrected(read_equations("2 + 2 = 5, 3 + 3 = 7. No: 2 + 2 = 4."))
    assert not is_corrected(read_equations("2 + 2 = 5. No: 2 + 2 = 6."))
    assert not is_corrected(read_equations("2 + 2 = 4."))


@given(st.integers(0, 99), st.integers(1, 99), st.integers(2, 9), st.integers(1, 50))
def test_one_slip_in_the_first_of_two_steps_is_always_put_right(a, b, c, off):
    wrong = a + b + off
    text = f"{a} + {b} = {wrong}. {wrong} * {c} = {wrong * c}."
    if wrong == c:  # the number of the question is taken for the wrong one
        return
    assert put_right(read_equations(text), Fraction(wrong * c)) == (a + b) * c


texts = st.sampled_from(
    [" 1 + 1 = 2.", " 1 + 1 = 3.", " 1 + 1 = 3. 1 + 1 = 2.", " no sum", " 1 = 1 + 1. 2 / 0 = 1."]
)
answers = st.sampled_from([None, "1", "2", "3", "b"])
stops = st.sampled_from(["answer", "eos", "length"])


@given(st.lists(st.tuples(answers, texts, stops), max_size=9), answers, st.randoms())
def test_every_path_has_one_class_and_the_order_does_not_matter(rows, winner, random):
    paths = [path(i, *row) for i, row in enumerate(rows)]
    classes = classify(paths, winner)
    assert set(classes) == set(range(len(paths)))
    assert classify(random.sample(paths, len(paths)), winner) == classes
    for p in paths:
        won = classes[p.path] in ("sound", "unchecked", "corrected", "lucky")
        whole = p.predicted_answer is not None and p.stop_reason != "length"
        assert won == (whole and p.predicted_answer == winner)


@given(st.text("0123456789+-*/=() .,x$%\n^a\u00d7\u2212", max_size=60))
def test_a_text_read_in_stretches_reads_as_one(text):
    """A letter between two copies parts them, and nothing of one leaks into the other."""
    assert equations(f"{text}\nand\n{text}") == equations(text) * 2
