"""Question files as people write them, and what is said about the bad ones."""

import json

import pytest
from builders import refused
from hypothesis import given
from hypothesis import strategies as st
from task_helpers import put

from lmsi_cli.records import Question
from lmsi_cli.tasks.readers import read_labelled, read_questions

FILES = [  # name, content, questions
    ("q.jsonl", '\n{"question":" 1+1? ","more":[{}]}\n\n', ["1+1?"]),
    ("q.jsonl", '{"question":"x\\u2028y\\n½"}\r\n{"question":"<|im_end|>"}\r\n',
     ["x\u2028y\n½", "<|im_end|>"]),
    ("q.jsonl", '{"question":"x"}\r{"question":"y"}\r', ["x", "y"]),
    ("q.jsonl", '{"id":"a","question":"x"}\n{"id":"a","question":"x "}', ["x"]),
    ("q.ndjson", '\ufeff{"question":"x"}', ["x"]),
    ("q.csv", 'Question,ID\r\n"two\r\nlines, ""x""",a\r\n', ['two\nlines, "x"']),
    ("q.csv", "\ufeffid;question\na;1,5 + 1,5?\n", ["1,5 + 1,5?"]),
    ("q.csv", "id,question\ra,1+1?\rb,2+2?\r", ["1+1?", "2+2?"]),
    ("q.tsv", "id\tquestion\na\tx, y\n\n\t\n", ["x, y"]),
    ("q", 'question,id\r"two\rlines\nor 3",a\r', ["two\nlines\nor 3"]),
    ("q.jsonl", '{"question":"x?","passage":" P. ","title":"t"}', ["P.\n\nx?"]),
    ("q.jsonl", '{"question":"x?","passage":"","context":"C."}', ["C.\n\nx?"]),
    ("q.csv", "id,context,question\na,C.,x?\n", ["C.\n\nx?"]),
    ("q.txt", "1+1?\n\n 2+2? \n1+1?\n", ["1+1?", "2+2?"]),
    ("q.txt", "{1, 2}: how many?\nx\u2028y", ["{1, 2}: how many?", "x\u2028y"]),
    ("q.txt", "1+1?\r2+2?\r", ["1+1?", "2+2?"]),
    ("q", "1+1?\r\n2+2?", ["1+1?", "2+2?"]),
    ("-", '\n{"question":"1+1?"}\n', ["1+1?"]),
    ("-", "1+1?\n2+2?\n", ["1+1?", "2+2?"]),
    ("-", "question\nwhat?\n", ["question", "what?"]),
]  # fmt: skip
ANSWERS = {
    "2": "2", "3.50": "3.50", "1e3": "1000", "1e999999": "1E+999999", "false": "no", "null": None,
    "-12345678901234567890123": "-12345678901234567890123", '"2"': "2", '" "': None, "NaN": None,
    "-Infinity": "-Infinity",
}  # fmt: skip
IDS = {'"a"': "a", "7": "7", "1.0": "1", "2e1": "20"}
BAD_FILES = [  # name, content, what is said, a word of the hint
    ("q.jsonl", "", ": no questions in it", "JSONL"),
    ("q.csv", "id,question\n", ": no questions in it", "JSONL"),
    ("q.jsonl", '{"question":"x"}\n{"question":', ":2: not valid JSON: Expecting value", ""),
    ("q.jsonl", "\n11\n", ":2: expected a JSON object, got 11", ""),
    ("q.jsonl", "what?\n", ":1: not valid JSON", "JSONL"),
    ("q.jsonl", '{"question":"\\ud800 x","answer":NaN}', ":1: not valid JSON", ""),
    ("q.jsonl", '{"question":"x"}\r{"q":NaN}', ":2: missing field 'question'", ""),
    ("q.jsonl", "[" * 99_999, ":1: not valid JSON", "jq"),
    ("q.jsonl", f'{{"question":"x","id":{"9" * 9999}}}', ":1: not valid JSON", ""),
    ("q.json", '[\n{"question":"x"}\n]', ":1: not valid JSON", "jq -c '.[]'"),
    ("q.json", '[{"question":"x"}]', ":1: expected a JSON object, got [", "jq"),
    ("q.jsonl", '{"question":5}', ":1: field 'question': ... got 5", ""),
    ("q.jsonl", '{"question":" "}', ":1: field 'question': is blank", "fill"),
    ("q.jsonl", '{"question":"x\\u0000"}', ":1: field 'question': holds a NUL", ""),
    ("q.jsonl", '{"question":"x","id":1.5}', ":1: field 'id': ... got 1.5", ""),
    ("q.jsonl", '{"question":"x","id":NaN}', ":1: field 'id': ... got NaN", ""),
    ("q.jsonl", '{"question":"x","family":true}', ":1: field 'family': ... got True", ""),
    ("q.jsonl", '{"question":"x","context":["y"]}', ":1: field 'context': ... got [", ""),
    ("q.jsonl", '{"question":"x","answer":{"a":1}}', ":1: field 'answer': ... got {", ""),
    ("q.jsonl", '{"question":"x","id":"a"}\n\n{"question":"y","id":"a"}',
     ":3: id 'a' ... q.jsonl:1, with another question", "its own id"),
    ("q.jsonl", '{"question":"x","answer":1}\n{"question":"x","answer":2}',
     ":2: id 'q- ... q.jsonl:1, with another answer", ""),
    ("q.csv", "id,text\na,x\n", ":1: no column 'question'", "question"),
    ("q.csv", "id,question\na,x\nb,how, then?\n", ":3: 3 columns, the header has 2", "quotes"),
    ("q.csv", "id,question\na\n", ":2: 1 columns, the header has 2", "quotes"),
    ("q.csv", 'id,question\n"a\nb",x\nc," "\n', ":4: field 'question': is blank", ""),
    ("q.csv", 'id,question\na,"x\n', ":2: not valid CSV", ""),
    ("q.csv", "question\n" + "x" * 140_000, ":2: not valid CSV: field larger", ""),
    ("q.txt", b"1+1?\n2+2\xbd?\n", ":2: not UTF-8 text", "UTF-8"),
    ("q.jsonl", "{}".encode("utf-16"), ": UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
    ("q.txt", "1+1?\n".encode("utf-16-le"), ": holds NUL bytes", "iconv -f UTF-16 -t UTF-8"),
    ("-", '{"question":"x"}\n{}', ":2: missing field 'question'", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), FILES)
def test_questions_are_read(given_file, name, content, expected):
    assert [q.question for q in read_questions(given_file(name, content))] == expected


@pytest.mark.parametrize(("name", "content", "told", "hint"), BAD_FILES)
def test_bad_files(given_file, name, content, told, hint):
    file = given_file(name, content)
    refused(read_questions, file, told=file.replace("-", "stdin") + told, hint=hint)


@pytest.mark.parametrize(("written", "read"), ANSWERS.items())
def test_an_answer_stays_the_text_that_it_was(written, read):
    (found,) = read_questions(put("q.jsonl", f'{{"question":"is NaN 1?","answer":{written}}}'))
    assert (found.question, found.answer) == ("is NaN 1?", read)


@pytest.mark.parametrize(("written", "read"), IDS.items())
def test_an_id_is_text_or_a_whole_number(written, read):
    (found,) = read_questions(put("q.jsonl", f'{{"question":"x","id":{written},"family":NaN}}'))
    assert (found.id, found.family) == (read, None)


def test_no_file(tmp_path):
    refused(read_questions, "q.jsonl", told="q.jsonl: no such file")
    refused(read_questions, str(tmp_path), told=f"{tmp_path}: is a folder")
    refused(read_questions, put("file", "x") + "/q.jsonl", told="file/q.jsonl: cannot be read")


def test_the_id_is_of_the_text_alone():
    text = put("a.txt", " What is 84 / 2?\n")
    table = put("b.csv", "answer,question\n42,What is 84 / 2?\n")
    assert read_questions(text)[0].id == read_questions(table)[0].id == "q-38dc46698984"


def test_a_missing_answer_is_told_only_where_answers_are_needed():
    file = put("q.csv", "question,answer\nx,4.0\ny,\nz,\n")
    assert [q.answer for q in read_questions(file)] == ["4.0", None, None]
    refused(read_labelled, file, told="q.csv:3: no 'answer' (2 of 3 questions have none)")


words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1
).filter(lambda t: t.strip() == t)
maybe = st.none() | words
question = st.builds(Question, id=words, question=words, answer=maybe, family=maybe)


@given(st.lists(question, min_size=1, unique_by=lambda q: q.id))
def test_our_own_files_are_read_back(questions):
    lines = [json.dumps({f: getattr(q, f) for f in q.__struct_fields__}) for q in questions]
    assert read_questions(put("q.jsonl", "\n".join(lines))) == questions
