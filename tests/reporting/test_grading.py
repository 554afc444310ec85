"""From made-up answers to figures and sentences: confidence, rivals, teacher and student."""

import pytest
from report_run import evaluation

from lmsi_cli.reporting.comparison import control_lines, sentences
from lmsi_cli.reporting.distillation import distillation, distillation_section
from lmsi_cli.reporting.evaluation import result_lines
from lmsi_cli.reporting.pairwise import Side

RIGHT, WRONG = "42", "8"


def paths(right, wrong):
    return [RIGHT] * right + [WRONG] * wrong


def sure(i):
    """The first 60 questions agree in all paths, the others in three of five."""
    return [], paths(5, 0) if i < 60 else paths(3, 2) if i % 2 else paths(2, 3)


def inverted(i):
    return [], paths(3, 2) if i >= 60 else paths(0, 5) if i % 4 else paths(5, 0)


def test_shares_that_tell_right_from_wrong():
    trust = evaluation({"base": sure}).confidence["base"]
    assert (trust.questions, trust.silent, trust.confidence) == (120, 0, pytest.approx(0.8))
    assert trust.accuracy.value == 0.75
    assert [b.accuracy.value for b in trust.reliability] == [0.5, 1.0]
    assert trust.ece == pytest.approx(0.05)
    assert trust.auroc.value == pytest.approx(60 / 90 + 30 / 90 / 2)
    silent = evaluation({"base": lambda i: sure(i) if i < 100 else ([], [None] * 5)})
    assert silent.confidence["base"].silent == 20
    assert evaluation({"base": lambda i: ([RIGHT], [])}).confidence == {}
    # an order that training turned upside down is named
    said = list(result_lines(evaluation({"base": sure, "adapter": inverted})))
    (found,) = (line for line in said if "AUROC" in line)
    assert found.startswith("adapter: more agreement, fewer right answers")


def test_clusters_widen_what_agreement_is_worth():
    narrow, wide = (
        evaluation({"base": sure}, group=group).confidence["base"]
        for group in (None, lambda i: f"g{i // 20}")
    )
    for one, other in zip(
        (narrow.accuracy, narrow.reliability[0].accuracy),
        (wide.accuracy, wide.reliability[0].accuracy),
        strict=True,
    ):
        assert one.value == other.value and one.high - one.low < other.high - other.low


def test_a_skipped_question_is_wrong_in_the_curve_and_hides_nothing():
    def base(i):
        return [RIGHT], paths(4, 1) if i else []

    e = evaluation({"base": base, "adapter": base})
    assert (
        [p.k for p in e.mains[0].curve] == [r.k for r in e.rivals["adapter"].rungs] == [1, 2, 4, 5]
    )
    one = e.mains[0].figure("one sampled path").accuracy.value
    assert e.mains[0].curve[0].majority.value == pytest.approx(one)


@pytest.mark.parametrize(
    ("full", "told"), [(60, ("60 questions", "-33.3 points")), (0, ("nothing to compare",))]
)
def test_a_gain_that_is_none_where_the_base_answered_in_full_is_form(full, told):
    def base(i):
        return [RIGHT if i < full else None], []

    e = evaluation({"base": base, "adapter": lambda i: ([RIGHT if i >= 20 else WRONG], [])})
    [said] = control_lines(e)
    assert all(words in said for words in (*told, "clearly gained form"))


@pytest.mark.parametrize(
    ("single", "right", "n", "worth", "told"),
    [  # of eight paths so many are right, the wrong ones agreeing by pairs
        (lambda i: i % 4, lambda i: 3 if i % 8 else 1, 120, range(1, 8), "as good as {} vote"),
        (lambda i: True, lambda i: i % 5, 120, [8], "at 1/8 of the tokens and 1/8 of the time"),
        (lambda i: i % 5 == 0, lambda i: 6, 120, [0], "not as good as one sampled path of the"),
        (lambda i: i % 8 and i % 3, lambda i: 5, 120, [0], "120 questions are too few"),
        # twelve questions cannot show that five points are not lost, though none was
        (lambda i: i % 2, lambda i: 8 * (i % 2), 12, [0], "12 questions are too few to tell"),
    ],
)
def test_what_an_answer_is_worth_in_votes(single, right, n, worth, told):
    def base(i):
        return [], [RIGHT] * right(i) + list("11223344")[: 8 - right(i)]

    def adapter(i):
        return [RIGHT if single(i) else WRONG], []

    e = evaluation({"base": base, "adapter": adapter}, n)
    found = e.rivals["adapter"]
    assert [r.k for r in found.rungs] == [1, 2, 4, 8] and found.votes in worth
    assert told.format(found.votes) in list(sentences(e))[-1]


@pytest.mark.parametrize(
    ("right", "told"),
    [  # questions that are right, out of 120
        ((60, 30, 75, 90), "which is no victory over the teacher"),
        ((60, 30, 90, 70), "it has beaten its teacher, trained or not"),
        ((80, 30, 85, 60), "it passed the trained teacher alone"),
        ((80, 30, 60, 90), "what it has learned is the teacher's, in a smaller size"),
        ((60, 30, 90), "The teacher was not trained on its own paths"),
    ],
)
def test_a_student_that_passes_its_teacher(right, told):
    four = {}
    names = ("teacher", "student", "trained student", "trained teacher")
    for name, n in zip(names, right, strict=False):
        e = evaluation({"m": lambda i, n=n: ([RIGHT if i < n else WRONG], [])})
        e.source.pop("bytes")  # as with a server
        four[name] = Side("r", e, e.mains[0])
    found = distillation(four, "CoT greedy")
    assert told in found.sentence
    assert found.over["student"].difference == pytest.approx((right[2] - 30) / 120)
    (sheet,) = distillation_section(found).sheets
    assert "CoT greedy: the same 120 questions" in sheet.title
    assert [(row[0], *row[2:4]) for row in sheet.rows] == [(name, "?", "?") for name in four]
