"""Question files as people write them, and what is said about the bad ones."""

import io
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.tasks.readers import read_labelled, read_questions

GOOD_FILES = [  # name, content, (id, question, answer, family) of each
    ("q.jsonl", '{"id":"a","question":"1+1?","answer":"2","family":"add"}\n',
     [("a", "1+1?", "2", "add")]),
    ("q.jsonl", '\n{"id":7,"question":" 1+1? ","answer":2}\n\n', [("7", "1+1?", "2", None)]),
    ("q.jsonl", '{"id":"a","question":"x","answer":3.50,"more":[{}]}', [("a", "x", "3.50", None)]),
    ("q.jsonl", '{"id":"a","question":"x","answer":1e999999}', [("a", "x", "1E+999999", None)]),
    ("q.jsonl", '{"id":"a","question":"x","answer":-12345678901234567890123}',
     [("a", "x", "-12345678901234567890123", None)]),
    ("q.jsonl", '{"id":"a","question":"x","answer":" "}', [("a", "x", None, None)]),
    ("q.jsonl", '{"id":"a","question":"x\\u2028y\\n½","answer":null}',
     [("a", "x\u2028y\n½", None, None)]),
    ("q.jsonl", '{"id":"a","question":"<|im_end|>"}\r\n', [("a", "<|im_end|>", None, None)]),
    ("q.jsonl", '{"id":"a","question":"x"}\n{"id":"a","question":"x "}', [("a", "x", None, None)]),
    ("q.ndjson", '\ufeff{"id":"a","question":"x"}', [("a", "x", None, None)]),
    ("q.csv", "id,question,answer\na,1+1?,2\nb,2+2?,\n",
     [("a", "1+1?", "2", None), ("b", "2+2?", None, None)]),
    ("q.csv", 'Question,ID\r\n"two\r\nlines, ""x""",a\r\n',
     [("a", 'two\nlines, "x"', None, None)]),
    ("q.csv", "\ufeffid;question\na;1,5 + 1,5?\n", [("a", "1,5 + 1,5?", None, None)]),
    ("q.tsv", "id\tquestion\na\tx, y\n\n\t\n", [("a", "x, y", None, None)]),
    ("q.csv", "id,question\ra,1+1?\rb,2+2?\r",
     [("a", "1+1?", None, None), ("b", "2+2?", None, None)]),
    ("q", 'question,id\r"two\rlines\nor 3",a\r', [("a", "two\nlines\nor 3", None, None)]),
    ("q.jsonl", '{"id":"a","question":"x"}\r{"id":"b","question":"y"}\r',
     [("a", "x", None, None), ("b", "y", None, None)]),
    ("q.jsonl", '{"id":"a","question":"x","answer":false}', [("a", "x", "no", None)]),
    ("q.jsonl", '{"id":1.0,"question":"x","answer":NaN,"family":NaN}', [("1", "x", None, None)]),
    ("q.jsonl", '{"id":2e1,"question":"is NaN one?","answer":-Infinity}',
     [("20", "is NaN one?", "-Infinity", None)]),
    ("q.jsonl", '{"id":"a","question":"x?","passage":" P. ","title":"t"}',
     [("a", "P.\n\nx?", None, None)]),
    ("q.jsonl", '{"id":"a","question":"x?","passage":"","context":"C."}',
     [("a", "C.\n\nx?", None, None)]),
    ("q.csv", "id,context,question\na,C.,x?\n", [("a", "C.\n\nx?", None, None)]),
]  # fmt: skip
TEXT_FILES = [
    ("q.txt", "1+1?\n\n 2+2? \n1+1?\n", ["1+1?", "2+2?"]),
    ("q.txt", "{1, 2}: how many?\nx\u2028y", ["{1, 2}: how many?", "x\u2028y"]),
    ("q", "1+1?\r\n2+2?", ["1+1?", "2+2?"]),
    ("q.txt", "1+1?\r2+2?\r", ["1+1?", "2+2?"]),
]
BAD_FILES = [  # name, content, message after the folder, a word of the hint
    ("q.jsonl", "", "q.jsonl: no questions in it", "JSONL"),
    ("q.csv", "id,question\n", "q.csv: no questions in it", "JSONL"),
    ("q.txt", " \n\n", "q.txt: no questions in it", "JSONL"),
    ("q.jsonl", '{"question":"x"}\n{"question":', "q.jsonl:2: not valid JSON: Expecting value", ""),
    ("q.jsonl", "\n11\n", "q.jsonl:2: expected a JSON object, got 11", ""),
    ("q.jsonl", "what?\n", "q.jsonl:1: not valid JSON", "JSONL"),
    ("q.jsonl", '{"question":"\\ud800 x"}', "q.jsonl:1: not valid JSON", ""),
    ("q.jsonl", '{"question":"\\ud800 x","answer":NaN}', "q.jsonl:1: not valid JSON", ""),
    ("q.jsonl", '{"question":"x"}\r{"q":NaN}', "q.jsonl:2: missing field 'question'", ""),
    ("q.jsonl", "[" * 99_999, "q.jsonl:1: not valid JSON", "jq"),
    ("q.jsonl", f'{{"question":"x","id":{"9" * 9999}}}', "q.jsonl:1: not valid JSON", ""),
    ("q.json", '[\n{"question":"x"}\n]', "q.json:1: not valid JSON", "jq -c '.[]'"),
    ("q.json", '[{"question":"x"}]', "q.json:1: expected a JSON object, got [", "jq"),
    ("q.jsonl", '{"question":5}', "q.jsonl:1: field 'question': expected text, got 5", ""),
    ("q.jsonl", '{"question":" "}', "q.jsonl:1: field 'question': is blank", "fill"),
    ("q.jsonl", '{"question":"x","id":1.5}',
     "q.jsonl:1: field 'id': expected text or a whole number, got 1.5", ""),
    ("q.jsonl", '{"question":"x","id":NaN}',
     "q.jsonl:1: field 'id': expected text or a whole number, got NaN", ""),
    ("q.jsonl", '{"question":"x","family":true}',
     "q.jsonl:1: field 'family': expected text or a number, got True", ""),
    ("q.jsonl", '{"question":"x","context":["y"]}',
     "q.jsonl:1: field 'context': expected text, got [", ""),
    ("q.jsonl", '{"question":"x\\u0000"}', "q.jsonl:1: field 'question': holds a NUL", ""),
    ("q.jsonl", '{"question":"x","answer":{"a":1}}',
     "q.jsonl:1: field 'answer': expected text or a number, got {", ""),
    ("q.jsonl", '{"question":"x","id":"a"}\n\n{"question":"y","id":"a"}',
     "q.jsonl:3: id 'a' is also at DIR/q.jsonl:1, with another question", "its own id"),
    ("q.jsonl", '{"question":"x","answer":1}\n{"question":"x","answer":2}',
     "q.jsonl:2: id 'q-2d711642b726' is also at DIR/q.jsonl:1, with another answer", ""),
    ("q.csv", "id,text\na,x\n", "q.csv:1: no column 'question' in the header", "question"),
    ("q.csv", "id,question\na,x\nb,how, then?\n", "q.csv:3: 3 columns, the header has 2", "quotes"),
    ("q.csv", "id,question\na\n", "q.csv:2: 1 columns, the header has 2", "quotes"),
    ("q.csv", 'id,question\n"a\nb",x\nc," "\n', "q.csv:4: field 'question': is blank", ""),
    ("q.csv", 'id,question\na,"x\n', "q.csv:2: not valid CSV: unexpected end of data", ""),
    ("q.csv", "question\n" + "x" * 140_000, "q.csv:2: not valid CSV: field larger", ""),
    ("q.txt", b"1+1?\n2+2\xbd?\n", "q.txt:2: not UTF-8 text", "save the file as UTF-8"),
    ("q.jsonl", "{}".encode("utf-16"), "q.jsonl: UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
    ("q.txt", "1+1?\n".encode("utf-16-le"), "q.txt: holds NUL bytes", "iconv -f UTF-16 -t UTF-8"),
]  # fmt: skip


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(("name", "content", "expected"), GOOD_FILES)
def test_good_files(tmp_path, name, content, expected):
    found = read_questions(put(tmp_path, name, content))
    assert [(q.id, q.question, q.answer, q.family) for q in found] == expected


@pytest.mark.parametrize(("name", "content", "expected"), TEXT_FILES)
def test_text_files(tmp_path, name, content, expected):
    assert [q.question for q in read_questions(put(tmp_path, name, content))] == expected


@pytest.mark.parametrize(("name", "content", "message", "hint"), BAD_FILES)
def test_bad_files(tmp_path, name, content, message, hint):
    with pytest.raises(LmsiError) as e:
        read_questions(put(tmp_path, name, content))
    told = str(e.value).replace(str(tmp_path), "DIR")
    assert told.startswith(f"DIR/{message}")
    assert "\n" not in told
    assert hint in e.value.hint


def test_no_file(tmp_path):
    with pytest.raises(LmsiError, match=r"q\.jsonl: no such file"):
        read_questions(str(tmp_path / "q.jsonl"))
    with pytest.raises(LmsiError, match="is a folder"):
        read_questions(str(tmp_path))
    with pytest.raises(LmsiError, match="cannot be read: Not a directory"):
        read_questions(put(tmp_path, "file", "x") + "/q.jsonl")


@pytest.mark.parametrize(
    ("content", "questions"),
    [
        ('\n{"question":"1+1?"}\n', ["1+1?"]),
        ("1+1?\n2+2?\n", ["1+1?", "2+2?"]),
        ("question\nwhat?\n", ["question", "what?"]),
    ],
)
def test_stdin(monkeypatch, content, questions):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert [q.question for q in read_questions("-")] == questions
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"question":"x"}\n{}')))
    with pytest.raises(LmsiError, match=r"^stdin:2: missing field 'question'"):
        read_questions("-")


def test_the_id_is_of_the_text_alone(tmp_path):
    text = put(tmp_path, "a.txt", " What is 84 / 2?\n")
    table = put(tmp_path, "b.csv", "answer,question\n42,What is 84 / 2?\n")
    assert read_questions(text)[0].id == read_questions(table)[0].id == "q-38dc46698984"


def test_a_missing_answer_is_told_only_where_answers_are_needed(tmp_path):
    lines = ['{"question":"x","answer":4.0}'] + [f'{{"question":"{i}","answer":NaN}}' for i in "yz"]
    file = put(tmp_path, "q.jsonl", "\n".join(lines))
    assert [q.answer for q in read_questions(file)] == ["4.0", None, None]
    with pytest.raises(LmsiError, match=r":2: no 'answer' \(2 of 3 questions have none\)"):
        read_labelled(file)


words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1
).filter(lambda t: t.strip() == t)


@given(
    st.lists(
        st.builds(
            Question, id=words, question=words, answer=st.none() | words, family=st.none() | words
        ),
        min_size=1,
        unique_by=lambda q: q.id,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_own_files_are_read_back(tmp_path, questions):
    lines = [json.dumps({f: getattr(q, f) for f in q.__struct_fields__}) for q in questions]
    assert read_questions(put(tmp_path, "q.jsonl", "\n".join(lines))) == questions
