"""Samples of lm-evaluation-harness become an evaluation that can be compared with ours."""

import json

import pytest

from lmsi_cli.config import EvalConfig
from lmsi_cli.reporting.results import read_evaluation
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.compare import compare
from lmsi_cli.stages.importing import import_samples, read_samples
from lmsi_cli.tasks.readers import read_labelled

DOCS = [
    {"question": "What is 1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
    {"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"},
]


def line(number, texts, filter_, mark, doc=None):
    """A line as lm_eval 0.4.9 writes it for gsm8k."""
    doc = doc or DOCS[number]
    prompt = f"Question: {doc['question']}\nAnswer:"
    return {
        "doc_id": number,
        "doc": doc,
        "target": doc["answer"],
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["Question:"]}}},
        "resps": [texts],
        "filtered_resps": ["2"],
        "filter": filter_,
        "metrics": ["exact_match"],
        "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
        "exact_match": mark,
    }  # fmt: skip


def written(folder, *lines, name="samples_gsm8k.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return file


GREEDY = [
    line(0, [" 1 + 1 = 2. The answer is 2."], "strict-match", 0.0),
    line(1, [" The answer is 5."], "strict-match", 0.0),
    line(0, [" 1 + 1 = 2. The answer is 2."], "flexible-extract", 1.0),
    line(1, [" The answer is 5."], "flexible-extract", 0.0),
]


def test_a_question_is_one_whatever_the_filters(tmp_path):
    odd = GREEDY[2] | {"metrics": [["exact_match"], {}, None, "exact_match"]}
    one, two = read_samples(f"gsm8k:{written(tmp_path, *GREEDY[:2], odd, GREEDY[3])}")
    assert (one.question.question, one.question.answer) == ("What is 1 + 1?", "2")
    assert one.marks == {"strict-match exact_match": 0.0, "flexible-extract exact_match": 1.0}
    assert two.texts == (" The answer is 5.",)
    # the ids are those of the set itself, so that both can be compared
    own = tmp_path / "test.jsonl"
    own.write_text("".join(json.dumps(d) + "\n" for d in DOCS))
    assert [q.id for q in read_labelled(f"gsm8k:{own}")] == [one.question.id, two.question.id]


def test_texts_are_marked_anew_and_disagreements_counted(tmp_path):
    source, settings = f"gsm8k:{written(tmp_path, *GREEDY)}", EvalConfig(modes=("cot-few",))
    run = RunDir(tmp_path / "r")
    result, file = import_samples(run, source, settings)
    assert read_evaluation(file) == result
    assert result.primary == "CoT few-shot"
    assert result.variants[0].figures[0].scores == (1.0, 0.0)
    assert result.imported.disagreements == {
        "strict-match exact_match": 1, "flexible-extract exact_match": 0,
    }  # fmt: skip
    assert import_samples(run, source, settings)[1] == file
    better = [line(1, [" The answer is 4."], "none", 1.0), line(0, [" 2."], "none", 1.0)]
    other = import_samples(run, f"gsm8k:{written(tmp_path, *better)}", settings)[1]
    found = compare(file, other)
    assert [(f.question.gold, f.texts_b[0].text) for f in found.flips] == [
        ("4", " The answer is 4.")
    ]


def test_repeats_are_sampled_paths(tmp_path):
    texts = [" The answer is 2.", " The answer is 3.", " The answer is 2."]
    source = f"gsm8k:{written(tmp_path, line(0, texts, 'maj@3', 1.0))}"
    result, _ = import_samples(RunDir(tmp_path / "r"), source, EvalConfig(modes=("cot",)))
    assert result.primary == "majority of 3"
    assert [f.accuracy.value for f in result.variants[0].figures] == pytest.approx([2 / 3, 1, 1])


def test_a_question_is_told_by_the_prompt_and_with_its_passage(tmp_path):
    told = line(0, [" 2."], "none", 1, doc={"question": "How many?", "answer": "2"})
    text = {**told, "doc": {"text": "1 + 1"}, "target": 2}
    text["arguments"] = [["What is 1 + 1?", {"until": ["."]}]]
    bare = {**told, "doc": {"context": "It has 2."}, "target": "2"}
    bare["arguments"] = [["It has 2. How many?", {"until": ["."]}]]
    whole = {**told, "doc": {**told["doc"], "passage": "It has 2."}}
    samples = read_samples(str(written(tmp_path, text, bare, whole)))
    assert [(s.question.question, s.question.answer) for s in samples] == [
        ("What is 1 + 1?", "2"), ("It has 2. How many?", "2"), ("It has 2.\n\nHow many?", "2"),
    ]  # fmt: skip
