"""Question files of several kinds through the commands that read them."""

import json

import pytest
from commands import QUESTIONS, SAMPLE, works

from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model
MATH = '{"problem": "3 * 4?", "solution": "It is $\\\\boxed{12}$."}\n'
SPANS = {"spans": ["4", "4 yard", "4"], "types": ["number", "span", "number"]}
DROP = {"query_id": "v1", "passage": "A 4 yard kick.", "question": "How far?"}


MEASURE = "--modes cot --threads 1 --max-tokens 4 --json --quiet"
# The argument, what is in the file, and the questions with their right answers.
FILES = [
    ("q.csv", "id;question;answer\na;1?;4\nb;2?;6\n", {"1?": "4", "2?": "6"}),
    ("math:m.jsonl", MATH, {"3 * 4?": "12"}),
    ("drop:d.jsonl", json.dumps({**DROP, "answers_spans": SPANS}),
     {"A 4 yard kick.\nHow far?": "4"}),
    ("q.txt", "1?\n\n2?\n", {"1?": None, "2?": None}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "content", "expected"), FILES, ids=[f[0] for f in FILES])
def test_sample_and_eval_read_it(sampled, source, content, expected):
    (sampled / source.rpartition(":")[2]).write_text(content)
    if source.startswith("math:"):
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    draw = SAMPLE.replace("q.jsonl", source).replace("-o r", "-o drawn").split()
    assert works(*draw, "--quiet").stderr == ""
    kept = list(read_records(RunDir("drawn").questions, Question))
    assert [q.question for q in kept] == list(expected)
    assert {q.answer for q in kept} == {None}  # no right answer is near the paths
    if None not in expected.values():
        told = works("eval", "r", "--data", *source.split(), *MEASURE.split())
        (result,) = json.loads(told.stdout)
        assert [q["gold"] for q in result["questions"]] == list(expected.values())


@pytest.mark.parametrize("text", ["1?\n\n2?\n", QUESTIONS], ids=["text", "jsonl"])
def test_questions_from_stdin(folder, lmsi, text):
    done = lmsi(*SAMPLE.replace("q.jsonl", "-").split(), "--json", stdin=text)
    assert json.loads(done.stdout)["paths"] == 2 * text.count("?")
