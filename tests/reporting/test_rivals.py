"""Confidence, rivals and the distillation table: from made-up answers to figures and sentences."""

import msgspec
import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.reporting.comparison import corrected
from lmsi_cli.reporting.grading import by_mode, confidence_of
from lmsi_cli.reporting.pairwise import Side
from lmsi_cli.reporting.results import Answer, Confidence, Evaluation, Figure, Labelled, Variant
from lmsi_cli.reporting.rivals import distillation, distillation_section, rivalry
from lmsi_cli.stats import wilson

GOLD = {f"q{i}": "7" for i in range(120)}


def paths(question, values, mode="sc"):
    return [
        Answer(
            question_id=question, mode=mode, path=i, text="", predicted_answer=v, correct=v == "7",
            num_generated_tokens=10, seconds=0.1,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def model(sure, unsure):
    """The first 60 questions agree in all paths, the others in three of five."""
    ids = list(GOLD)
    first = [a for i, q in enumerate(ids[:60]) for a in paths(q, sure(i))]
    return first + [a for i, q in enumerate(ids[60:]) for a in paths(q, unsure(i))]


BASE = model(lambda i: "7" * 5, lambda i: "77788" if i % 2 else "88877")
INVERTED = model(lambda i: "8" * 5 if i % 4 else "7" * 5, lambda i: "77788")


def confidence(models, gold=GOLD):
    return confidence_of({m: by_mode(a, gold).get("sc", {}) for m, a in models.items()}, gold)


def test_shares_that_tell_right_from_wrong():
    found = confidence({"base": BASE})
    trust = found.models["base"]
    assert (trust.questions, trust.silent, trust.confidence) == (120, 0, pytest.approx(0.8))
    assert trust.accuracy.value == 0.75
    assert [b.accuracy.value for b in trust.reliability] == [0.5, 1.0]
    assert trust.ece == pytest.approx(0.05)
    assert trust.auroc.value == pytest.approx(60 / 90 + 30 / 90 / 2)
    assert (found.surer, found.righter, found.findings) == (None, None, ())
    silent = BASE + [a for q in ("x1", "x2") for a in paths(q, [None] * 5)]
    trust = confidence({"base": silent}, GOLD | {"x1": "7", "x2": "7"}).models["base"]
    assert (trust.questions, trust.silent) == (120, 2)


def test_an_order_that_training_turned_upside_down_is_named():
    found = confidence({"base": BASE, "adapter": INVERTED})
    (finding,) = found.findings
    assert finding.startswith("adapter: more agreement, fewer right answers.")
    assert found.surer.difference == 0 > found.righter.difference
    assert msgspec.json.decode(msgspec.json.encode(found), type=Confidence) == found


@pytest.mark.parametrize("answers", [[], paths("q0", "7", mode="cot"), paths("q0", [None])])
def test_without_sampled_answers_there_is_no_confidence(answers):
    assert confidence({"base": answers}) is None


def figure(scores, tokens=60.0, seconds=0.06):
    return Figure(
        name="CoT greedy", mode="cot", accuracy=wilson(1, 2), parsed=1.0, tokens=tokens,
        seconds=seconds, scores=tuple(map(float, scores)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("single", "right", "worth", "told"),
    [  # of eight paths so many are right, the wrong ones agreeing by pairs
        (
            lambda i: i % 4 != 0,
            lambda i: 1 if i % 8 == 0 else 3,
            range(1, 8),
            "as good as {} votes",
        ),
        (
            lambda i: True,
            lambda i: i % 5,
            [8],
            "as good as 8 votes of the base",
        ),
        (lambda i: i % 5 == 0, lambda i: 6, [0], "not as good as one sampled path of the base"),
        (lambda i: i % 8 != 0 and i % 3 != 0, lambda i: 5, [0], "120 questions are too few"),
    ],
)
def test_what_an_answer_is_worth_in_votes(single, right, worth, told):
    values = [["7"] * right(i) + list("11223344")[: 8 - right(i)] for i in range(120)]
    path = figure(right(i) / 8 for i in range(120))
    one = figure(map(single, range(120)), 70.0, 0.05)
    found = rivalry(one, path, values, list(GOLD.values()))
    assert [r.k for r in found.rungs] == [1, 2, 4, 8] and found.rungs[-1].tokens == 480
    assert found.votes in worth and found.beaten <= found.votes <= max(found.within, found.votes)
    assert told.format(found.votes) in found.sentence
    if found.votes == 8:
        assert "1/7 of the tokens and 1/10 of the time" in found.sentence


def test_equal_on_a_few_questions_is_not_as_good():
    """Twelve questions cannot show that five points are not lost, though none was."""
    values = [["7", "7"] if i % 2 else ["8", "8"] for i in range(12)]
    same = figure(i % 2 == (i > 1) for i in range(12))
    found = rivalry(same, same, values, ["7"] * 12)
    assert (found.rungs[-1].change.difference, found.votes) == (0, 0)
    assert "12 questions are too few to tell" in found.sentence


def contestant(right, ids=tuple(GOLD)):
    asked = tuple(Labelled(id=q, question="?", gold="7") for q in ids)
    told = {"data": "test", "primary": "", "kind": "number", "task": "number"}
    e = Evaluation(n=len(ids), questions=asked, source={"bytes": 2**20 * 400}, **told)
    own = figure(i < right for i in range(len(ids)))
    variant = Variant(
        name="m", model="m", adapter=None, adapter_sha256=None, scale=1.0, temperature=0.0, seed=0,
        main=True, figures=(own,),
    )  # fmt: skip
    return Side("r", e, variant)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((60, 90, 30, 75), "which is no victory over the teacher"),
        ((60, 70, 30, 90), "it has beaten its teacher, trained or not"),
        ((80, 90, 30, 60), "what it has learned is the teacher's, in a smaller size"),
        ((60, None, 30, 90), "The teacher was not trained on its own paths"),
    ],
)
def test_a_student_that_passes_its_teacher(scores, words):
    names = ("teacher", "trained teacher", "student", "trained student")
    four = {n: contestant(s) for n, s in zip(names, scores, strict=True) if s is not None}
    found = distillation(four, "CoT greedy")
    assert words in found.sentence
    assert found.over["student"].difference == pytest.approx((scores[3] - 30) / 120)
    (sheet,) = distillation_section(found).sheets
    assert "CoT greedy: the same 120 questions" in sheet.title
    assert [row[0] for row in sheet.rows] == list(four)


def test_contestants_must_have_answered_the_same():
    four = {"teacher": contestant(6), "student": contestant(1, ["z"])}
    with pytest.raises(LmsiError, match="different questions"):
        distillation({**four, "trained student": contestant(9)}, "CoT greedy")


def test_many_comparisons_in_words():
    assert corrected({"one": 0.01}) == ""
    clear, alone = corrected({"a": 0.004, "b": 0.03, "c": 0.6}).split(": ", 1)
    assert clear.startswith("Of 3 comparisons 1 is clear")
    assert alone.startswith("a (p = 0.012). Alone b")
    assert corrected({"a": 0.4, "b": 0.3}).startswith("Of 2 comparisons none is clear")
