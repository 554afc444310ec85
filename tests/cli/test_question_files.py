"""Question files as programs and authors write them, from the command line to the run folder."""

import io
import json

import pytest

from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model
DRAW = "-m m.gguf -o r --threads 1 -n 1 --max-tokens 4 --quiet"
MATH = (
    '{"problem": "3 * 4?", "solution": "It is $\\\\boxed{12}$."}\n'
    '{"problem": "1 + 1?", "solution": "We want $\\\\boxed 2$."}\n'
)
MEASURE = "--modes cot --threads 1 --max-tokens 4 --json --quiet"
BOOLQ = '{"question": "is it wet", "title": "Rain", "answer": true, "passage": "It rains."}\n'
FILES = {
    "carriage returns, CSV": ("q.csv", "id,question,answer\rq1,1?,4\rq2,2?,6\r", ["1?", "2?"]),
    "carriage returns, text": ("q.txt", "1?\r2?\r", ["1?", "2?"]),
    "true and false": ("q.jsonl --task strategyqa", BOOLQ, ["It rains.\n\nis it wet"]),
    "BoolQ": ("boolq:q.jsonl", BOOLQ, ["It rains.\n\nIs it wet?"]),
    "boxes without braces": ("math:q.jsonl", MATH, ["3 * 4?", "1 + 1?"]),
}


def asked():
    return [json.loads(line)["question"] for line in RunDir("r").questions.read_text().splitlines()]


@pytest.mark.parametrize(("source", "content", "expected"), FILES.values(), ids=FILES.keys())
def test_the_questions_are_those_of_the_file(folder, lmsi, source, content, expected):
    if source.startswith("math:"):
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    name = source.split()[0].rpartition(":")[2]
    (folder / name).write_text(content)
    done = lmsi("sample", *source.split(), *DRAW.split())
    assert (done.exit_code, done.stderr) == (0, "")
    assert asked() == expected


def test_what_pandas_wrote_is_read_and_a_missing_answer_is_told(folder, lmsi):
    rows = [
        '{"id": 1.0, "question": "1?", "answer": 4.0}',
        '{"id": 2.0, "question": "2?", "answer": NaN}',
    ]
    (folder / "p.jsonl").write_text("\n".join(rows))
    done = lmsi("sample", "p.jsonl", *DRAW.split())
    assert (done.exit_code, asked()) == (0, ["1?", "2?"])
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("p.jsonl:2: ") and "NaN" in done.stderr


@pytest.mark.parametrize("source", ["own.parquet", "own.arrow", "saved"])
def test_tables_and_saved_folders_are_read(folder, lmsi, source):
    pa = pytest.importorskip("pyarrow", reason="tables need the extra `parquet`")
    from pyarrow.parquet import write_table

    table = pa.table({"question": ["1?", "2?"], "answer": ["4", "6"]})
    write_table(table, folder / "own.parquet")
    with pa.ipc.new_stream(stream := io.BytesIO(), table.schema) as file:
        file.write_table(table)
    (folder / "saved").mkdir()
    for target in ("own.arrow", "saved/data-00000-of-00001.arrow"):
        (folder / target).write_bytes(stream.getvalue())
    assert lmsi("sample", source, *DRAW.split()).exit_code == 0
    assert asked() == ["1?", "2?"]


def measured(lmsi, *argv):
    done = lmsi("eval", "r", *argv, *MEASURE.split())
    assert done.exit_code == 0
    (result,) = json.loads(done.stdout)
    return {q["id"]: q["gold"] for q in result["questions"]}


def test_right_answers_are_read_as_published(folder, lmsi):
    pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    assert lmsi("sample", "q.jsonl", *DRAW.split()).exit_code == 0
    (folder / "m.jsonl").write_text(MATH)
    assert list(measured(lmsi, "--data", "math:m.jsonl").values()) == ["12", "2"]
    (folder / "b.jsonl").write_text(BOOLQ)
    assert list(measured(lmsi, "--data", "boolq:b.jsonl").values()) == ["yes"]
    said = {"spans": ["4", "4 yard", "4"], "types": ["number", "span", "number"]}
    row = {"query_id": "v1", "passage": "A 4 yard kick.", "question": "How far?"}
    (folder / "d.jsonl").write_text(json.dumps({**row, "answers_spans": said}))
    assert measured(lmsi, "--data", "drop:d.jsonl") == {"v1": "4"}
