"""Published layouts: every row of four real sets, and hand-made rows of the others."""

import json

import pytest

from lmsi_cli.answers import canonical, extract, listed
from lmsi_cli.answers.yesno import UNKNOWN
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Question
from lmsi_cli.tasks.published import LAYOUTS
from lmsi_cli.tasks.readers import read_labelled, read_questions, split_source
from tests.shared_sets import SETS, needs_sets

FILES = [
    ("gsm8k", "number", "gsm8k/train.jsonl", 7473),
    ("gsm8k", "number", "gsm8k/test.jsonl", 1319),
    ("svamp", "number", "svamp/SVAMP.json", 1000),
    ("aqua", "choice", "aqua/dev.json", 254),
    ("aqua", "choice", "aqua/test.json", 254),
    ("strategyqa", "yesno", "strategyqa/train.json", 2061),
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

    @pytest.mark.parametrize("file", ["gsm8k/train.jsonl", "gsm8k/test.jsonl"])
    def test_the_answer_of_every_rationale_is_found_by_a_marker(self, file):
        gold = read_labelled(f"gsm8k:{SETS / file}")
        texts = [json.loads(line)["answer"] for line in (SETS / file).read_text().splitlines()]
        for q, text in zip(gold, texts, strict=True):
            found = extract(text)
            assert found.rule in ("hash", "marker"), text
            assert found.value == canonical(q.answer), text

    @pytest.mark.parametrize(("name", "expected"), [("train.jsonl", 7409), ("test.jsonl", 1312)])
    def test_the_fallback_without_the_hash_line(self, name, expected):
        """The measured share, in docs/log.md; a change of the rules must show itself here."""
        file = SETS / "gsm8k" / name
        gold = read_labelled(f"gsm8k:{file}")
        texts = [json.loads(line)["answer"] for line in file.read_text().splitlines()]
        bare = [text.partition("####")[0] for text in texts]
        found = [extract(text) for text in bare]
        right = sum(
            f is not None and f.value == canonical(q.answer)
            for q, f in zip(gold, found, strict=True)
        )
        assert right == expected


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
DROP = {
    "p1": {
        "passage": "In 1918 the Bears kicked 3 goals.",
        "qa_pairs": [
            {
                "query_id": "a",
                "question": "How many goals?",
                "answer": {"number": "3", "date": {}, "spans": []},
            },
            {
                "query_id": "b",
                "question": "When?",
                "answer": {"number": "", "date": {"day": "", "year": "1918"}, "spans": []},
            },
            {
                "query_id": "c",
                "question": "Who?",
                "answer": {"number": "", "date": {}, "spans": ["the Bears"]},
            },
        ],
    }
}
ROWS = [
    ("gsm8k", {"question": "6 * 7?", "answer": "6 * 7 = <<6*7=42>>42\n#### 42"}, ("6 * 7?", "42")),
    (
        "svamp",
        {"ID": "c1", "Body": "If Dan has 4", "Question": "How many?", "Answer": 4.0},
        ("If Dan has 4, How many?", "4"),
    ),
    (
        "svamp",
        {"ID": "c1", "Body": "Dan has 4.", "Question": "Half?", "Answer": 2.5},
        ("Dan has 4. Half?", "2.5"),
    ),
    (
        "aqua",
        {"question": "Which is wet?", "options": ["A)sand", "B)the sea"], "correct": "B"},
        (OPTIONS, "B"),
    ),
    ("strategyqa", {"qid": "s", "question": "Is it?", "answer": False}, ("Is it?", "no")),
    ("openbookqa", SCIENCE, (OPTIONS, "B")),
    ("arc", SCIENCE, (OPTIONS, "B")),
    (
        "arc",
        {"id": "a", "question": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "2"},
        (OPTIONS, "B"),
    ),
    (
        "openbookqa",
        {"id": "a", "question_stem": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "1"},
        (OPTIONS, "A"),
    ),
    (
        "drop",
        {
            "query_id": "a",
            "passage": "The Bears won.",
            "question": "Who?",
            "answers_spans": {"spans": ["Bears", "Bears"], "types": ["span", "span"]},
        },
        ("The Bears won.\nWho?", "Bears"),
    ),
    (
        "rte",
        {"idx": 3, "premise": "It rains.", "hypothesis": "It is wet.", "label": "not_entailment"},
        (f'{PREMISE}"yes", "no".', "no"),
    ),
    (
        "mnli",
        {
            "pairID": "1e",
            "sentence1": "It rains.",
            "sentence2": "It is wet.",
            "gold_label": "entailment",
            "genre": "talk",
        },
        (THREE, "yes"),
    ),
    (
        "mnli",
        {"pairID": "1e", "sentence1": "It rains.", "sentence2": "It is wet.", "gold_label": "-"},
        (THREE, None),
    ),
    (
        "anli",
        {"uid": "u", "context": "It rains.", "hypothesis": "It is wet.", "label": "n"},
        (THREE, UNKNOWN),
    ),
    (
        "anli",
        {"uid": "u", "premise": "It rains.", "hypothesis": "It is wet.", "label": 2},
        (THREE, "no"),
    ),
    (
        "math",
        {"problem": "$1/2$?", "type": "Algebra", "solution": r"It is $\boxed{\frac{1}{2}}$."},
        ("$1/2$?", r"\frac{1}{2}"),
    ),
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
    table.write_text("\n".join(rows))
    (found,) = read_questions(f"rte:{table}")
    assert (found.id, found.answer) == ("rte-0", "yes")
    assert 'It "rains.' in found.question


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("gsm8k", {"question": "6?"}, "entry 1: not an entry of gsm8k: no field"),
        ("gsm8k", {"question": "6?", "answer": "42"}, "has no ####"),
        ("strategyqa", {"qid": "s", "question": "?", "answer": "yes"}, "neither true nor false"),
        ("anli", {"uid": "u", "premise": "p", "hypothesis": "h", "label": "x"}, "unknown label"),
        ("arc", {**SCIENCE, "answerKey": "E"}, "not an entry of arc"),
        ("math", {"problem": "?", "solution": "5"}, "no .boxed"),
        ("aqua", {"question": "?", "options": 5, "correct": "B"}, "not an entry of aqua"),
    ],
)  # fmt: skip
def test_another_layout_is_told_with_its_place(tmp_path, layout, row, message):
    with pytest.raises(LmsiError, match=message) as error:
        read(tmp_path, layout, row)
    assert "\n" not in str(error.value)


def test_a_bad_line_is_named(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"question": "a", "answer": "#### 1"}\n{"question"\n')
    with pytest.raises(LmsiError, match=r"x.jsonl:2: not valid JSON"):
        read_questions(f"gsm8k:{file}")


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1....PAR1")
    with pytest.raises(LmsiError, match="reading parquet needs pyarrow") as error:
        read_questions(f"gsm8k:{file}")
    assert "lmsi[hub]" in error.value.hint


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs the extra `hub`")
    from pyarrow import parquet

    file = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([ROWS[0][1]]), file)
    assert read_questions(f"gsm8k:{file}")[0].answer == "42"


def test_a_misspelt_set_is_suggested():
    with pytest.raises(LmsiError, match="no such file") as error:
        read_questions("gms8k:test.jsonl")
    assert error.value.hint == "did you mean gsm8k:test.jsonl?"


def test_a_drive_is_no_set():
    assert split_source("C:\\sets\\test.jsonl") == (None, "C:\\sets\\test.jsonl")
    assert split_source("gsm8k:a:b.jsonl") == ("gsm8k", "a:b.jsonl")
    assert split_source("plain.jsonl") == (None, "plain.jsonl")


def test_options_come_back_as_they_were_written():
    assert listed(OPTIONS) == ("sand", "the sea")
    task = Task(name="t", kind="choice", exemplars=())
    assert asked(task, Question(id="q", question=OPTIONS).question).choices == ("sand", "the sea")
    assert asked(Task(name="t", kind="number", exemplars=()), OPTIONS).choices == ()
