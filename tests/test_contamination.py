"""Questions in both files are found by their words, named, and refused."""

import pytest

from lmsi_cli.contamination import check_apart, same_words
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question

TEXT = "Tom has 1,200.50 dollars. How many are left after 3 - 2?"


@pytest.mark.parametrize(
    ("same", "one", "other"),
    [
        (True, TEXT, "tom has 1,200.50 dollars how many are left after 3 - 2"),
        (True, TEXT, "  Tom has 1,200.50\n dollars; how many are left after 3 - 2 ?"),
        (True, TEXT, "\uff34\uff4f\uff4d has 1,200.50 dollars. How many are left, after 3 - 2?"),
        (True, TEXT, "TOM HAS 1,200.50 DOLLARS! “How many are left after 3 - 2?”"),
        (True, "5 \u2212 3", "5 - 3"),
        (True, "He has 42! Now: why?", "He has 42 now, why"),
        (False, TEXT, TEXT.replace("3 - 2", "3 + 2")),
        (False, TEXT, TEXT.replace("1,200.50", "1,200.5")),
        (False, TEXT, TEXT.replace("1,200.50", "1,20050")),
        (False, TEXT, TEXT.replace("Tom", "Tim")),
        (False, "3\u00b2 + 4\u00b2", "32 + 42"),
        (False, "10\u2075", "105"),
        (False, "1\u00bd", "11\u20442"),
        (False, "5! + 3", "5 + 3"),
        (False, ".5 + 1", "5 + 1"),
        (False, "3:4", "3 4"),
    ],
)
def test_the_same_question_in_other_clothes_is_told_from_another_one(same, one, other):
    assert (same_words(one) == same_words(other)) is same
    assert same_words(f"Is {one}?") == same_words(f"is {one}")


def test_those_in_both_are_named_with_the_file():
    asked = [Question(id=f"q{i}", question=f"What is {i} + {i}?") for i in range(9)]
    seen = {"a.jsonl": [Question(id="q2", question="What is 99 + 99?")], "b.jsonl": []}
    check_apart(asked, seen)
    seen["b.jsonl"] = [Question(id="q5", question="what is 2 + 2")]
    with pytest.raises(LmsiError, match=r"^b\.jsonl holds 1 of the 9 questions .*: q2$") as e:
        check_apart(asked, seen)
    assert "--force" in e.value.hint
    with pytest.raises(LmsiError, match=r"9 of the 9 .*: q0, q1, q2, q3, q4 and 4 more$"):
        check_apart(asked, {"b.jsonl": asked})
