"""From made-up answers to figures and sentences: confidence, rivals, teacher and student."""

import pytest

from lmsi_cli.reporting.comparison import compared, sentences
from lmsi_cli.reporting.distillation import distillation, distillation_section
from lmsi_cli.reporting.evaluation import result_lines
from lmsi_cli.reporting.grading import Candidate, Way, graded
from lmsi_cli.reporting.pairwise import Side
from lmsi_cli.reporting.results import Answer, Evaluation, Labelled

GOLD = {f"q{i}": "7" for i in range(120)}


def answers(question, values, mode="sc"):
    return [
        Answer(
            question_id=question, mode=mode, path=i, text="", predicted_answer=v, correct=v == "7",
            num_generated_tokens=10, seconds=0.1,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def evaluation(models, ids=tuple(GOLD)):
    """Of models by name, each a function from a question's place to its greedy and its paths."""
    asked = tuple(Labelled(id=q, question="?", gold="7") for q in ids)
    blank = Evaluation(
        data="test", n=len(ids), primary="CoT greedy", kind="number", task="number",
        questions=asked, source={"bytes": 2**20 * 400},
    )  # fmt: skip
    told = []
    for name, said in models.items():
        found = []
        for i, q in enumerate(ids):
            greedy, paths = said(i)
            found += [*answers(q, greedy, "cot"), *answers(q, paths)]
        told.append((Candidate(name, None, {}), [(Way(0.7, 0, True), "", found)]))
    return compared([graded(blank, told)])[0]


def sure(i):
    """The first 60 questions agree in all paths, the others in three of five."""
    return "", "7" * 5 if i < 60 else "77788" if i % 2 else "88877"


def inverted(i):
    return "", ("8" * 5 if i % 4 else "7" * 5) if i < 60 else "77788"


def test_shares_that_tell_right_from_wrong():
    trust = evaluation({"base": sure}).confidence["base"]
    assert (trust.questions, trust.silent, trust.confidence) == (120, 0, pytest.approx(0.8))
    assert trust.accuracy.value == 0.75
    assert [b.accuracy.value for b in trust.reliability] == [0.5, 1.0]
    assert trust.ece == pytest.approx(0.05)
    assert trust.auroc.value == pytest.approx(60 / 90 + 30 / 90 / 2)
    silent = evaluation({"base": lambda i: sure(i) if i < 100 else ("", [None] * 5)})
    assert silent.confidence["base"].silent == 20
    assert evaluation({"base": lambda i: ("7", [])}).confidence == {}


def test_an_order_that_training_turned_upside_down_is_named():
    found = [
        x for x in result_lines(evaluation({"base": sure, "adapter": inverted})) if "AUROC" in x
    ]
    assert [x.split(".")[0] for x in found] == ["adapter: more agreement, fewer right answers"]


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
        return "", ["7"] * right(i) + list("11223344")[: 8 - right(i)]

    models = {"base": base, "adapter": lambda i: ("7" if single(i) else "8", "")}
    e = evaluation(models, tuple(GOLD)[:n])
    found = e.rivals["adapter"]
    assert [r.k for r in found.rungs] == [1, 2, 4, 8] and found.votes in worth
    assert told.format(found.votes) in list(sentences(e))[-1]


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ((60, 90, 30, 75), "which is no victory over the teacher"),
        ((60, 70, 30, 90), "it has beaten its teacher, trained or not"),
        ((80, 90, 30, 60), "what it has learned is the teacher's, in a smaller size"),
        ((60, None, 30, 90), "The teacher was not trained on its own paths"),
    ],
)
def test_a_student_that_passes_its_teacher(right, words):
    names = ("teacher", "trained teacher", "student", "trained student")
    four = {}
    for name, n in zip(names, right, strict=True):
        if n is not None:
            e = evaluation({"m": lambda i, n=n: ("7" if i < n else "8", "")})
            four[name] = Side("r", e, e.mains[0])
    found = distillation(four, "CoT greedy")
    assert words in found.sentence
    assert found.over["student"].difference == pytest.approx((right[3] - 30) / 120)
    (sheet,) = distillation_section(found).sheets
    assert "CoT greedy: the same 120 questions" in sheet.title
    assert [row[0] for row in sheet.rows] == list(four)
