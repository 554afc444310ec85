"""Published layouts: every row of four real sets, and hand-made rows of the others."""

import json

import pytest

from lmsi_cli.answers import Asked, canonical, extract
from lmsi_cli.answers.yesno import UNKNOWN
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.tasks.published import LAYOUTS
from lmsi_cli.tasks.readers import read_labelled, read_questions, split_source
from tests.shared_sets import SETS, needs_sets

FILES = [
    ("gsm8k", "number", "gsm8k/test.jsonl", 1319),
    ("svamp", "number", "svamp/SVAMP.json", 1000),
    ("aqua", "choice", "aqua/test.json", 254),
    ("strategyqa", "yesno", "strategyqa/dev.json", 229),
]


class TestRealSets:
    pytestmark = needs_sets

    @pytest.mark.parametrize(("layout", "kind", "file", "rows"), FILES, ids=[f[2] for f in FILES])
    def test_every_row_has_a_gold_answer_of_its_kind(self, layout, kind, file, rows):
        found = read_labelled(f"{layout}:{SETS / file}")
        task = Task(name=layout, kind=kind, exemplars=())
        assert len(found) == rows
        for q in found:
            said = asked(task, q.question)
            gold = canonical(q.answer, kind, said)
            assert gold is not None, q
            assert len(said.choices) == (5 if layout == "aqua" else 0), q
            read = extract(f"So. The answer is {q.answer}.\nQ: 7?", kind, asked=said)
            assert read is not None and read.value == gold, q

    def test_the_answer_of_every_rationale_is_found_by_a_marker_and_of_most_without(self):
        """The measured shares, in docs/log.md; a change of the rules must show itself here."""
        file = SETS / "gsm8k" / "test.jsonl"
        gold = read_labelled(f"gsm8k:{file}")
        texts = [json.loads(line)["answer"] for line in file.read_text().splitlines()]
        values = [canonical(q.answer) for q in gold]
        found = [extract(text) for text in texts]
        assert {f.rule for f in found} <= {"hash", "marker"}
        assert [f.value for f in found] == values
        bare = [text.partition("####")[0] for text in texts]

        def right(questions):
            said = [Asked(question=question) for question in questions]
            found = [extract(text, asked=a) for text, a in zip(bare, said, strict=True)]
            return sum((f and f.value) == v for f, v in zip(found, values, strict=True))

        assert (right([""] * len(gold)), right([q.question for q in gold])) == (1312, 1311)


OPTIONS = "Which is wet?\n(A) sand\n(B) the sea"
NLI = "Does the premise show that the hypothesis is true? Answer with one of "
PREMISE = f"Premise: It rains.\nHypothesis: It is wet.\n{NLI}"
THREE = f'{PREMISE}"yes", "{UNKNOWN}", "no".'
SCIENCE = {
    "id": "7-1",
    "question": {
        "stem": "Which is wet?",
        "choices": [{"text": "sand", "label": "A"}, {"text": "the sea", "label": "B"}],
    },
    "answerKey": "B",
}
HUB_CHOICES = {"text": ["sand", "the sea"], "label": ["1", "2"]}
QA = [
    ("a", "How many goals?", {"number": "3", "date": {}, "spans": []}),
    ("b", "When?", {"number": "", "date": {"day": "", "year": "1918"}, "spans": []}),
    ("c", "Who?", {"number": "", "date": {}, "spans": ["the Bears"]}),
]
PAIRS = [{"query_id": i, "question": q, "answer": a} for i, q, a in QA]
DROP = {"p1": {"passage": "In 1918 the Bears kicked 3 goals.", "qa_pairs": PAIRS}}
RAIN = {"premise": "It rains.", "hypothesis": "It is wet."}
MNLI = {"pairID": "1e", "sentence1": "It rains.", "sentence2": "It is wet."}
BEARS = {"spans": ["Bears", "Bears"], "types": ["span", "span"]}
BOXED = [
    (r"The roots are $1$ and $2$, so it is $\boxed 2$. Done.", "2"),
    (r"\[\boxed -3\] is it.", "-3"),
    (r"$\boxed\frac12$", r"\frac12"),
    (r"$\boxed \text{(C)}.$", r"\text{(C)}"),
    (r"$\boxed{1}$, no: $\boxed 2.$", "2"),
    (r"$\boxed 1, \boxed 2$", "2"),
    (r"$\boxed{1}$ and $\boxedness 2$", "1"),
]
ROWS = [
    ("gsm8k", {"question": "6 * 7?", "answer": "6 * 7 = <<6*7=42>>42\n#### 42"}, ("6 * 7?", "42")),
    ("svamp", {"ID": "c1", "Body": "If Dan has 4", "Question": "How many?", "Answer": 4.0},
     ("If Dan has 4, How many?", "4")),
    ("svamp", {"ID": "c1", "Body": "Dan has 4.", "Question": "All?", "Answer": "4.0"},
     ("Dan has 4. All?", "4")),
    ("svamp", {"ID": "c1", "Body": "Dan has 4.", "Question": "Half?", "Answer": 2.5},
     ("Dan has 4. Half?", "2.5")),
    ("svamp", {"ID": "c1", "Body": "Dan has 4.", "Question": "All?", "Answer": None},
     ("Dan has 4. All?", None)),
    ("strategyqa", {"qid": "s", "question": "Wet?", "answer": "true"}, ("Wet?", "yes")),
    ("aqua", {"question": "Which?", "options": ["A)sand", "B)"], "correct": "B"},
     ("Which?\n(A) sand\n(B) -", "B")),
    ("aqua", {"question": "Which is wet?", "options": ["A)sand", "B)the sea"], "correct": "B"},
     (OPTIONS, "B")),
    ("strategyqa", {"qid": "s", "question": "Is it?", "answer": False}, ("Is it?", "no")),
    ("boolq", {"question": "is it wet", "title": "Rain", "answer": True, "passage": "It rains. "},
     ("It rains.\n\nIs it wet?", "yes")),
    ("boolq", {"question": "Is it wet?", "passage": "It rains.", "idx": 3, "label": 0},
     ("It rains.\n\nIs it wet?", "no")),
    ("boolq", {"question": "is it", "passage": "It rains.", "label": -1},
     ("It rains.\n\nIs it?", None)),
    ("openbookqa", SCIENCE, (OPTIONS, "B")),
    ("arc", SCIENCE, (OPTIONS, "B")),
    ("arc", {"id": "a", "question": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "2"},
     (OPTIONS, "B")),
    ("openbookqa", {"question_stem": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "1",
                    "id": "a"}, (OPTIONS, "A")),
    ("drop", {"query_id": "a", "passage": "The Bears won.", "question": "Who?",
              "answers_spans": BEARS}, ("The Bears won.\nWho?", "Bears")),
    ("rte", {**RAIN, "idx": 3, "label": "not_entailment"}, (f'{PREMISE}"yes", "no".', "no")),
    ("mnli", {**MNLI, "gold_label": "entailment", "genre": "talk"}, (THREE, "yes")),
    ("mnli", {**MNLI, "gold_label": "-"}, (THREE, None)),
    ("anli", {"uid": "u", "context": "It rains.", "hypothesis": "It is wet.", "label": "n"},
     (THREE, UNKNOWN)),
    ("anli", {**RAIN, "uid": "u", "label": 2}, (THREE, "no")),
    ("math", {"problem": "$1/2$?", "type": "Algebra", "solution": r"It is $\boxed{\frac{1}{2}}$."},
     ("$1/2$?", r"\frac{1}{2}")),
    *(("math", {"problem": "?", "solution": text}, ("?", answer)) for text, answer in BOXED),
]  # fmt: skip
SPANS = [  # spans of the hub's DROP, their types if not all spans, the one answer
    (["4", "4 yard", "4"], ["number", "span", "number"], "4"),
    (["3", "4"], ["number"] * 2, "3"),
    (["May 4, 1863", "4 May 1863", "1863"], ["date", "span", "date"], "May 4, 1863"),
    (["the Bears", "Bears!"], None, "the Bears"),
    (["Brady", "Tom Brady"], None, "Brady"),
    (["Moss", "Moss", "Brady", "Brady"], None, "Moss"),
    (["Brady", "Moss"], None, "Brady, Moss"),
    (["white", "black", "black or mixed"], None, "white, black, black or mixed"),
    (["Brady", "Moss", "Brady", "Moss"], None, "Brady, Moss"),
    (["Brady", "Moss", "the Moss", "Brady"], None, "Brady, Moss"),
    (["?", "!"], None, "?, !"),
    ([], None, None),
]


def read(tmp_path, layout, *rows):
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return read_questions(f"{layout}:{file}")


@pytest.mark.parametrize(("layout", "row", "expected"), ROWS)
def test_a_row(tmp_path, layout, row, expected):
    (found,) = read(tmp_path, layout, row)
    assert (found.question, found.answer) == expected


def test_every_layout_has_a_row():
    assert {layout for layout, _, _ in ROWS} | {"drop"} == set(LAYOUTS)


@pytest.mark.parametrize(("spans", "types", "answer"), SPANS)
def test_parts_of_an_answer_are_told_from_answers_of_several_people(tmp_path, spans, types, answer):
    said = {"spans": spans, "types": types or ["span"] * len(spans)}
    row = {"query_id": "a", "passage": "P.", "question": "Q?", "answers_spans": said}
    assert read(tmp_path, "drop", row)[0].answer == answer


def test_an_entry_without_a_box_costs_no_other(tmp_path):
    rows = [{"problem": f"{i}?", "solution": s} for i, s in enumerate([r"$\boxed 2$", "3", "4"])]
    assert [q.answer for q in read(tmp_path, "math", *rows)] == ["2", None, None]


def test_a_hostile_solution_is_read_in_no_time(tmp_path):
    hostile = ["\\boxed " * 50_000, "\\boxed a" + " ." * 200_000, "\\boxed " + "\\" * 200_000]
    rows = [{"problem": f"{i}?", "solution": s} for i, s in enumerate(hostile)]
    assert len(read(tmp_path, "math", *rows)) == 3


def test_drop_as_published_has_three_types_of_answer(tmp_path):
    found = read(tmp_path, "drop", DROP)
    assert [(q.id, q.answer) for q in found] == [
        ("p1/a", "3"), ("p1/b", "1918"), ("p1/c", "the Bears"),
    ]  # fmt: skip
    assert found[0].question == "In 1918 the Bears kicked 3 goals.\nHow many goals?"


def test_a_list_and_a_table_are_read_too(tmp_path):
    file = tmp_path / "s.json"
    file.write_text(json.dumps([ROWS[1][1]]))
    assert read_questions(f"svamp:{file}")[0].answer == "4"
    table = tmp_path / "dev.tsv"
    rows = ["index\tsentence1\tsentence2\tlabel", '0\tIt "rains.\tIt is wet.\tentailment']
    table.write_text("\r".join(rows))  # a spreadsheet's line ends
    (found,) = read_questions(f"rte:{table}")
    assert (found.id, found.answer) == ("rte-0", "yes")
    assert 'It "rains.' in found.question


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("gsm8k", {"question": "6?"}, "entry 1: not an entry of gsm8k: no field"),
        ("gsm8k", {"question": "6?", "answer": "42"}, "has no ####"),
        ("strategyqa", {"qid": "s", "question": "?", "answer": "maybe"}, "unknown label"),
        ("anli", {"uid": "u", "premise": "p", "hypothesis": "h", "label": "x"}, "unknown label"),
        ("arc", {**SCIENCE, "answerKey": "E"}, "not an entry of arc"),
        ("boolq", {"question": "?", "passage": "p", "answer": "maybe"}, "unknown label 'maybe'"),
        ("boolq", {"question": " ", "passage": "p", "answer": True}, "'question': is blank"),
    ],
)  # fmt: skip
def test_another_layout_is_told_with_its_place(tmp_path, layout, row, message):
    with pytest.raises(LmsiError, match=message) as error:
        read(tmp_path, layout, row)
    assert "\n" not in str(error.value)


def test_a_misspelt_set_is_suggested():
    with pytest.raises(LmsiError, match="no such file") as error:
        read_questions("gms8k:test.jsonl")
    assert "gsm8k:test.jsonl" in error.value.hint


def test_a_drive_is_no_set():
    assert split_source("C:\\sets\\test.jsonl") == (None, "C:\\sets\\test.jsonl")
    assert split_source("gsm8k:a:b.jsonl") == ("gsm8k", "a:b.jsonl")
    assert split_source("plain.jsonl") == (None, "plain.jsonl")
