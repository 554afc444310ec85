"""Questions in both files are found by their words, named, and refused."""

import pytest

from lmsi_cli.contamination import check_apart, same_words
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question

TEXT = "Tom has 1,200.50 dollars. How many are left after 3 - 2?"


def question(index, text):
    return Question(id=f"q{index}", question=text)


@pytest.mark.parametrize(
    "other",
    [
        "tom has 1,200.50 dollars how many are left after 3 - 2",
        "  Tom has 1,200.50\n dollars; how many are left after 3 - 2 ?",
        "\uff34\uff4f\uff4d has 1,200.50 dollars. How many are left, after 3 - 2?",
        "TOM HAS 1,200.50 DOLLARS! “How many are left after 3 - 2?”",
    ],
)
def test_the_same_question_in_other_clothes(other):
    assert same_words(other) == same_words(TEXT)


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace("3 - 2", "3 + 2"),
        TEXT.replace("1,200.50", "1,200.5"),
        TEXT.replace("1,200.50", "1,20050"),
        TEXT.replace("Tom", "Tim"),
    ],
)
def test_another_question(other):
    assert same_words(other) != same_words(TEXT)


@pytest.mark.parametrize(
    ("one", "other"),
    [("3\u00b2 + 4\u00b2", "32 + 42"), ("10\u2075", "105"), ("1\u00bd", "11\u20442"),
     ("5! + 3", "5 + 3"), (".5 + 1", "5 + 1"), ("3:4", "3 4")],
)  # fmt: skip
def test_another_calculation(one, other):
    assert same_words(one) != same_words(other)
    assert same_words(f"Is {one}?") == same_words(f"is {one}")


def test_a_minus_is_a_hyphen_and_a_mark_that_ends_a_sentence_does_not_count():
    assert same_words("5 \u2212 3") == same_words("5 - 3")
    assert same_words("He has 42! Now: why?") == same_words("He has 42 now, why")


def test_those_in_both_are_named_with_the_file():
    asked = [question(i, f"What is {i} + {i}?") for i in range(9)]
    apart = [question(99, "What is 99 + 99?")]
    check_apart(asked, {"a.jsonl": apart, "b.jsonl": []})
    with pytest.raises(LmsiError) as e:
        check_apart(asked, {"a.jsonl": apart, "b.jsonl": [question(5, "what is 2 + 2")]})
    assert "b.jsonl holds 1 of the 9 questions" in str(e.value) and ": q2" in str(e.value)
    assert "--force" in e.value.hint
    with pytest.raises(LmsiError, match=r"9 of the 9 .*: q0, q1, q2, q3, q4 and 4 more$"):
        check_apart(asked, {"b.jsonl": asked})
