"""Evaluations as a person sees them, two of them compared, and those of lm-evaluation-harness."""

import io
import json
import os

import msgspec
import pytest
from rich.console import Console
from test_evaluate import BASE, LABELLED, examined, variants

from lmsi_cli.config import EvalConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.reporting.digest import rendered
from lmsi_cli.reporting.evaluation import eval_parts
from lmsi_cli.reporting.pairwise import flip_texts, opposed_section
from lmsi_cli.reporting.results import read_evaluation
from lmsi_cli.run_folder import TEACHER, RunDir
from lmsi_cli.stages.compare import compare, distilled, find_result
from lmsi_cli.stages.importing import import_samples, read_samples
from lmsi_cli.tasks.readers import read_labelled


def evaluated(root, questions=LABELLED, name="test", **config):
    examined(root, sets={name: questions}, **{"modes": ("cot", "sc"), **config})
    return root


def shown(parts):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    for part in rendered(*parts):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_base_and_adapter_stand_side_by_side_and_the_deciding_line_has_a_star(tmp_path):
    lines = shown(eval_parts(examined(tmp_path, modes=("cot", "sc"))))
    assert lines[0] == "test: 4 questions, % right [95% interval]"
    assert lines[1].split() == ["base", "adapter", "change,", "paired", "p"]
    greedy = next(line for line in lines if line.startswith("CoT greedy *"))
    assert greedy.split()[3:5] == ["50.0", "[15,"] and greedy.endswith("1.000")
    assert any(line.startswith("one sampled path") and "37.5 [" in line for line in lines)
    assert any(line.startswith("adapter, k = 2  50.0 [") for line in lines)
    text = "\n".join(lines)
    assert "CoT greedy on test: adapter is not clearly different from base" in text
    assert "50.0% to 50.0% of 4 questions right, +0.0 points" in text and "seeds" not in text


def test_sweeps_have_tables_of_their_own(tmp_path):
    config = {"temperature": (0.7, 1.2), "seed": (0, 1), "modes": ("sc",)}
    text = "\n".join(shown(eval_parts(examined(tmp_path, **config))))
    assert "The figures are of seed 0, the changes of all seeds." in text
    assert "\nadapter, t 1.2, seed 1  " in text and "a little too good" in text


def test_many_models_go_below_one_another(tmp_path):
    base, adapter = variants()
    models = [base, *(adapter._replace(name=f"adapter x{s}", scale=s) for s in (0.5, 1))]
    lines = shown(eval_parts(examined(tmp_path, models=models, modes=("cot",))))
    assert [row.split("  ")[0] for row in lines[2:5]] == ["CoT greedy *", "", ""]
    assert "adapter x0.5" in lines[3] and "adapter x1" in lines[4]
    assert "among the 2 comparisons of it" in "\n".join(lines)


def test_base_and_adapter_of_one_evaluation_are_compared(tmp_path):
    found = compare(evaluated(tmp_path), tmp_path)
    lines = ["CoT greedy", "one sampled path", "majority of 2", "any of 2"]
    assert [p.line for p in found.evaluation.pairs] == lines
    assert (found.left_out, found.line, found.unpaired) == (0, "CoT greedy", ())
    assert [(f.question.id, f.a, f.b) for f in found.flips] == [("t2", 0, 1), ("t0", 1, 0)]
    gained = found.flips[0]
    assert (gained.texts_a[0].text, gained.texts_b[0].predicted_answer) == (BASE["t2"][0], "4")
    assert [d.name for d in found.differences] == ["adapter", "scale"]
    told = shown([opposed_section(found)])
    assert "CoT greedy, of 4 questions: better 1, worse 1" in told
    assert [line.split()[:2] for line in told[-2:]] == [["t2", "better"], ["t0", "worse"]]
    texts = "\n".join(shown(flip_texts(found)))
    asked = "better in B: t2, right is 4\nWhat is 2 + 2?\nA wrong, 99:\n  The answer is 99.\nB "
    assert asked in texts
    votes = shown(flip_texts(compare(tmp_path, tmp_path, line="any of 2")))
    assert "A right, 0 2 times:" in votes
    with pytest.raises(LmsiError, match="no line 'none'"):
        compare(tmp_path, tmp_path, line="none")


def test_settings_that_differ_are_named_first(tmp_path):
    a = evaluated(tmp_path / "a")
    b = evaluated(tmp_path / "b", temperature=(1.2,), prompt="cot-few", threads=3)
    found = compare(a, b)
    told = {d.name: (d.a, d.b) for d in found.differences}
    assert told == {"temperature": ("0.7", "1.2"), "prompt": ("cot-zero", "cot-few")}
    assert {(p.change.difference, p.p_holm) for p in found.evaluation.pairs} == {(0, 1)}
    text = "\n".join(shown([opposed_section(found)]))
    assert text.index("what differs") < text.index("4 questions, % right")


def test_only_questions_that_are_the_same_are_compared(tmp_path):
    changed = [*LABELLED[:2], msgspec.structs.replace(LABELLED[2], question="What else is 2 + 2?")]
    places = evaluated(tmp_path / "a"), evaluated(tmp_path / "b", changed)
    found = compare(*places)
    assert (found.evaluation.n, found.left_out) == (2, 2)
    assert found.evaluation.mains[0].figures[0].accuracy.n == 2
    assert "left out: 2 questions" in "\n".join(shown([opposed_section(found)]))
    evaluated(tmp_path / "c", [msgspec.structs.replace(LABELLED[0], answer="5")])
    with pytest.raises(LmsiError, match="no question in common"):
        compare(places[0], tmp_path / "c")


def test_a_result_is_found_by_the_name_of_its_set(tmp_path):
    first = find_result(evaluated(tmp_path, name="a"))
    assert find_result(first) == first
    evaluated(tmp_path, name="b-c")
    assert find_result(tmp_path, "a") == first
    os.utime(first, (1, 1))
    evaluated(tmp_path, name="a", max_tokens=9)
    assert find_result(tmp_path, "a") != first
    for data, told in (("", "evaluations on a, b-c"), ("d", "no evaluation on d")):
        with pytest.raises(LmsiError, match=told):
            find_result(tmp_path, data)
    first.write_text('{"data": "test", "n": 4, "lines": []}')
    with pytest.raises(LmsiError, match=r"result\.json: not of this version"):
        read_evaluation(first)


def test_markup_in_a_question_is_only_text(tmp_path):
    hostile = Question(id="t0", question="[red]What[/] is 0 + 0?\x1b[2J", answer="0")
    result = examined(tmp_path, sets={"[b]x": [hostile, *LABELLED[1:]]}, modes=("cot",))
    assert "[b]x: 4 questions" in shown(eval_parts(result))[0]
    told = "\n".join(shown(flip_texts(compare(tmp_path, tmp_path))))
    assert "[red]What[/] is 0 + 0?" in told and "\x1b" not in told


def sourced(root, sha256, **config):
    """An evaluation whose result says which file it measured."""
    source = {"sha256": sha256, "bytes": 8 << 20, "parameters": 4_000_000}
    return evaluated(root, about={"source": {"file": f"{sha256}.gguf", **source}}, **config)


def test_a_student_stands_beside_its_teacher_and_beside_itself_on_its_own_votes(tmp_path):
    places = zip("tso", "abb", strict=True)
    teacher, student, own = (sourced(tmp_path / x, y) for x, y in places)
    found = distilled(teacher, student, own=own)
    names = ["teacher", "trained teacher", "student", "trained student", "student on its own votes"]
    assert [row.name for row in found.rows] == names
    assert {(row.parameters, row.size) for row in found.rows} == {(4_000_000, 8 << 20)}
    assert all(row.tokens > 0 for row in found.rows)
    assert found.over["trained teacher"].difference == found.over[names[-1]].difference == 0
    assert "the teacher after its own training" in found.sentence
    assert "cannot be told apart from" in found.sentence.rpartition(" It ")[2]
    with pytest.raises(LmsiError, match=r"measures a\.gguf, and the student .* is b\.gguf"):
        distilled(teacher, student, own=teacher)
    told = {"run": "runs/other", "model": "c.gguf", "model_sha256": "c"}
    RunDir(student).save_settings(TEACHER, told)
    with pytest.raises(LmsiError, match="learned from the votes of runs/other") as e:
        distilled(teacher, student)
    assert "lmsi compare runs/other" in e.value.hint
    RunDir(student).save_settings(TEACHER, {**told, "model_sha256": "a"})
    assert distilled(teacher, student).n == 4


def test_without_an_adapter_there_is_nothing_to_compare(tmp_path):
    bare = evaluated(tmp_path / "bare", models=variants()[:1], modes=("cot",))
    trained = evaluated(tmp_path / "trained")
    for opposed, one in ((compare, bare), (distilled, trained)):
        with pytest.raises(LmsiError, match="without an adapter"):
            opposed(one, bare)
    alone = distilled(bare, trained)
    assert "trained teacher" not in alone.over and "not trained on its own paths" in alone.sentence


OTHER = [msgspec.structs.replace(LABELLED[0], answer="5"), *LABELLED[1:]]


@pytest.mark.parametrize(
    ("changed", "line", "told"),
    [
        ({"prompt": "cot-few"}, "", "differ in prompt: cot-zero and cot-few"),
        ({"max_tokens": 9}, "", "differ in max_tokens: 256 and 9"),
        ({"temperature": (1.2,)}, "majority of 2", r"differ in temperature: 0\.7 and 1\.2"),
        ({"temperature": (1.2,)}, "", None),  # a greedy line does not depend on it
        ({"questions": OTHER}, "", "differ in questions or right answers"),
        ({"questions": LABELLED[1:]}, "", "differ in questions or right answers"),
    ],
)
def test_what_was_asked_in_two_ways_is_not_set_side_by_side(tmp_path, changed, line, told):
    teacher, student = sourced(tmp_path / "t", "a"), sourced(tmp_path / "s", "b", **changed)
    if told is None:
        assert distilled(teacher, student, line=line).n == 4
        return
    with pytest.raises(LmsiError, match=told):
        distilled(teacher, student, line=line)


# -- samples of lm-evaluation-harness --------------------------------------------------------------


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
