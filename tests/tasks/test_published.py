"""Published layouts: every row of four real sets, and hand-made rows of all."""

import json

import pytest
from builders import refused
from task_helpers import put

from lmsi_cli.answers import Asked, canonical, extract
from lmsi_cli.prompts import Task, asked
from lmsi_cli.tasks.readers import read_labelled, read_questions, split_source
from tests.shared_sets import SETS, needs_sets
from tests.tasks.published_rows import DROP, RAIN, ROWS, SCIENCE, math, svamp

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

        def right(questions):
            said = zip(texts, questions, strict=True)
            bare = [extract(x.partition("####")[0], asked=Asked(question=q)) for x, q in said]
            return sum((f and f.value) == v for f, v in zip(bare, values, strict=True))

        assert (right([""] * len(gold)), right([q.question for q in gold])) == (1312, 1311)


SPANS = [  # spans of the hub's DROP, their types if not all spans, the one answer
    (["4", "4 yard", "4"], ["number", "span", "number"], "4"),
    (["3", "4"], ["number"] * 2, "3"),
    (["May 4, 1863", "4 May 1863", "1863"], ["date", "span", "date"], "May 4, 1863"),
    (["the Bears", "Bears!"], None, "the Bears"),
    (["Brady", "Tom Brady"], None, "Brady"),
    (["Moss", "Moss", "Brady", "Brady"], None, "Moss"),
    (["Brady", "Moss"], None, "Brady, Moss"),
    (["white", "black", "black or mixed"], None, "white, black, black or mixed"),
    (["Brady", "Moss", "the Moss", "Brady"], None, "Brady, Moss"),
    (["?", "!"], None, "?, !"),
    ([], None, None),
]


def read(layout, *rows):
    put("set.jsonl", "\n".join(json.dumps(row) for row in rows))
    return read_questions(f"{layout}:set.jsonl")


@pytest.mark.parametrize(("layout", "row", "expected"), ROWS)
def test_a_row(layout, row, expected):
    (found,) = read(layout, row)
    assert (found.question, found.answer) == expected


@pytest.mark.parametrize(("spans", "types", "answer"), SPANS)
def test_parts_of_an_answer_are_told_from_answers_of_several_people(spans, types, answer):
    said = {"spans": spans, "types": types or ["span"] * len(spans)}
    row = {"query_id": "a", "passage": "P.", "question": "Q?", "answers_spans": said}
    (found,) = read("drop", row)
    assert (found.question, found.answer) == ("P.\nQ?", answer)


def test_an_entry_without_a_box_costs_no_other_and_a_hostile_one_no_time():
    hostile = ["\\boxed " * 50_000, "\\boxed a" + " ." * 200_000, "\\boxed " + "\\" * 200_000]
    rows = [math(solution)[1] for solution in (r"$\boxed 2$", "3", *hostile)]
    found = read("math", *({**row, "problem": f"{i}?"} for i, row in enumerate(rows)))
    assert [q.answer for q in found[:2]] == ["2", None] and len(found) == 5


def test_the_forms_of_files_that_sets_are_published_in():
    found = read("drop", DROP)  # with three types of answers
    assert {q.id: q.answer for q in found} == {"p1/a": "3", "p1/b": "1918", "p1/c": "the Bears"}
    assert found[0].question == "In 1918 the Bears kicked 3 goals.\nHow many goals?"
    put("s.json", json.dumps([svamp("Dan has 4.", 4)[1]]))
    assert read_questions("svamp:s.json")[0].answer == "4"
    rows = ["index\tsentence1\tsentence2\tlabel", '0\tIt "rains.\tIt is wet.\tentailment']
    put("dev.tsv", "\r".join(rows))  # a spreadsheet's line ends
    (found,) = read_questions("rte:dev.tsv")
    assert (found.id, found.answer) == ("rte-0", "yes")
    assert 'It "rains.' in found.question


@pytest.mark.parametrize(
    ("layout", "row", "told"),
    [
        ("gsm8k", {"question": "6?"}, "not an entry of gsm8k: no field 'answer'"),
        ("gsm8k", {"question": "6?", "answer": "42"}, "not an entry of gsm8k: ... ####"),
        ("anli", {**RAIN, "uid": "u", "label": "x"}, "not an entry of anli: ... label 'x'"),
        ("arc", {**SCIENCE, "answerKey": "E"}, "not an entry of arc: "),
        ("boolq", {"question": "?", "passage": "p", "answer": "maybe"}, "not an ... 'maybe'"),
        ("boolq", {"question": " ", "passage": "p", "answer": True}, "field 'question': is blank"),
    ],
)
def test_another_layout_is_told_with_its_place(layout, row, told):
    refused(read, layout, row, told=f"set.jsonl: entry 1: {told}")


def test_a_misspelt_set_is_suggested_and_a_drive_is_none():
    refused(read_questions, "gms8k:a.jsonl", told="gms8k:a.jsonl: no", hint="gsm8k:a.jsonl")
    assert split_source("C:\\sets\\test.jsonl") == (None, "C:\\sets\\test.jsonl")
    assert split_source("gsm8k:a:b.jsonl") == ("gsm8k", "a:b.jsonl")
