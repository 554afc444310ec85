"""Evaluations as a person sees them, two of them compared, and those of lm-evaluation-harness."""

import io
import json
import os

import pytest
from msgspec.structs import replace
from rich.console import Console
from test_evaluate import LABELLED, WRONG, examined, variants

from lmsi_cli.config import EvalConfig
from lmsi_cli.errors import LmsiError
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


def shown(*parts):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    for part in rendered(*parts):
        console.print(part)
    return console.file.getvalue()


def test_base_and_adapter_stand_side_by_side_and_sweeps_have_tables_of_their_own(tmp_path):
    text = shown(*eval_parts(examined(tmp_path, modes=("cot", "sc"))))
    (greedy,) = (x.split() for x in text.splitlines() if x.startswith("CoT greedy *"))  # decides
    assert greedy[3:5] == ["50.0", "[15,"] and greedy[-1] == "1.000"
    assert "50.0% to 50.0% of 4 questions" in text
    sweep = {"temperature": (0.7, 1.2), "seed": (0, 1), "modes": ("sc",)}
    assert "\nadapter, t 1.2, seed 1  " in shown(*eval_parts(examined(tmp_path, **sweep)))


def test_base_and_adapter_of_one_evaluation_are_compared_and_markup_is_only_text(tmp_path):
    labelled = [*LABELLED[:2], replace(LABELLED[2], question="[red]What[/]\x1b[2J"), LABELLED[3]]
    found = compare(evaluated(tmp_path, labelled, name="[b]x"), tmp_path)
    assert (found.left_out, found.line, found.unpaired) == (0, "CoT greedy", ())
    assert [(f.question.id, f.a, f.b) for f in found.flips] == [("t2", 0, 1), ("t0", 1, 0)]
    assert [d.name for d in found.differences] == ["adapter", "scale"]
    section, texts = shown(opposed_section(found)), shown(*flip_texts(found))
    assert "CoT greedy, of 4 questions: better 1, worse 1" in section and "[b]x" in section
    assert "\x1b" not in section + texts
    lines = [line.rstrip() for line in texts.splitlines()]
    told = ["better in B: t2, right is 4", "[red]What[/]\\x1b[2J", "A wrong, 99:", f" {WRONG}"]
    assert lines[lines.index(told[0]) :][:4] == told
    assert "A right, 0 2 times:" in shown(*flip_texts(compare(tmp_path, tmp_path, line="any of 2")))
    with pytest.raises(LmsiError, match="no line 'none'"):
        compare(tmp_path, tmp_path, line="none")


def test_settings_that_differ_are_named_first_and_questions_that_differ_left_out(tmp_path):
    other = [*LABELLED[:2], replace(LABELLED[2], question="What else is 2 + 2?")]
    a = evaluated(tmp_path / "a")
    b = evaluated(tmp_path / "b", other, temperature=(1.2,), prompt="cot-few", threads=3)
    found = compare(a, b)
    told = {d.name: (d.a, d.b) for d in found.differences}
    assert told == {"temperature": ("0.7", "1.2"), "prompt": ("cot-zero", "cot-few")}
    assert (found.evaluation.n, found.left_out) == (2, 2)
    changes = {(p.change.n, p.change.difference, p.p_holm) for p in found.evaluation.pairs}
    assert changes == {(2, 0, 1)}
    text = shown(opposed_section(found))
    assert text.index("what differs") < text.index("2 questions, % right")
    c = evaluated(tmp_path / "c", [replace(LABELLED[0], answer="5")])
    with pytest.raises(LmsiError, match="no question in common"):
        compare(a, c)


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


# -- teacher and student ---------------------------------------------------------------------------


def sourced(root, sha256, **config):
    """An evaluation whose result says which file it measured."""
    source = {"sha256": sha256, "bytes": 8 << 20, "parameters": 4_000_000}
    return evaluated(root, about={"source": {"file": f"{sha256}.gguf", **source}}, **config)


@pytest.fixture
def teacher(tmp_path):
    return sourced(tmp_path / "t", "a")


def test_a_student_stands_beside_its_teacher_and_beside_itself_on_its_own_votes(tmp_path, teacher):
    student, own = sourced(tmp_path / "s", "b"), sourced(tmp_path / "o", "b")
    found = distilled(teacher, student, own=own)
    names = ["teacher", "trained teacher", "student", "trained student", "student on its own votes"]
    assert [row.name for row in found.rows] == names
    assert {(row.parameters, row.size) for row in found.rows} == {(4_000_000, 8 << 20)}
    assert all(row.tokens > 0 for row in found.rows)
    assert found.over["trained teacher"].difference == found.over[names[-1]].difference == 0
    with pytest.raises(LmsiError, match=r"measures a\.gguf, and the student .* is b\.gguf"):
        distilled(teacher, student, own=teacher)
    told = {"run": "runs/other", "model": "c.gguf", "model_sha256": "c"}
    RunDir(student).save_settings(TEACHER, told)
    with pytest.raises(LmsiError, match="learned from the votes of runs/other") as e:
        distilled(teacher, student)
    assert "lmsi compare runs/other" in e.value.hint
    RunDir(student).save_settings(TEACHER, {**told, "model_sha256": "a"})
    assert distilled(teacher, student).n == 4


def test_without_an_adapter_there_is_nothing_to_compare(tmp_path, teacher):
    bare = evaluated(tmp_path / "bare", models=variants()[:1], modes=("cot",))
    for opposed, one in ((compare, bare), (distilled, teacher)):
        with pytest.raises(LmsiError, match="without an adapter"):
            opposed(one, bare)
    alone = distilled(bare, teacher)
    assert "trained teacher" not in alone.over


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prompt": "cot-few"}, "prompt: cot-zero and cot-few"),
        ({"max_tokens": 9}, "max_tokens: 256 and 9"),
        ({"temperature": (1.2,)}, r"temperature: 0\.7 and 1\.2"),
        ({"questions": [replace(LABELLED[0], answer="5"), *LABELLED[1:]]}, "questions or right"),
        ({"questions": LABELLED[1:]}, "questions or right answers"),
    ],
)
def test_what_was_asked_in_two_ways_is_not_set_side_by_side(tmp_path, teacher, changed, told):
    student = sourced(tmp_path / "s", "b", **changed)
    with pytest.raises(LmsiError, match=f"differ in {told}"):
        distilled(teacher, student, line="majority of 2")
    if "temperature" in changed:  # a greedy line does not depend on it
        assert distilled(teacher, student).n == 4


# -- samples of lm-evaluation-harness --------------------------------------------------------------


DOCS = [
    {"question": "What is 1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
    {"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"},
]


def line(number, texts, filter_="none", mark=1.0, **other):
    """A line as lm_eval 0.4.9 writes it for gsm8k, without what is not read."""
    prompt = {"arg_0": f"Question: {DOCS[number]['question']}\nAnswer:", "arg_1": {"until": ["Q:"]}}
    told = {"doc": DOCS[number], "target": DOCS[number]["answer"], "resps": [texts]}
    marked = {"filter": filter_, "metrics": ["exact_match"], "exact_match": mark}
    return {**told, **marked, "arguments": {"gen_args_0": prompt}, **other}


def written(file, *lines):
    file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return file


SAID = [" 1 + 1 = 2. The answer is 2."], [" The answer is 5."]
GREEDY = [
    line(0, SAID[0], "strict-match", 0.0),
    line(1, SAID[1], "strict-match", 0.0),
    line(0, SAID[0], "flexible-extract", metrics=[["exact_match"], {}, None, "exact_match"]),
    line(1, SAID[1], "flexible-extract", 0.0),
]


def test_a_question_is_one_whatever_the_filters(tmp_path):
    one, two = read_samples(f"gsm8k:{written(tmp_path / 's.jsonl', *GREEDY)}")
    assert (one.question.question, one.question.answer) == ("What is 1 + 1?", "2")
    assert one.marks == {"strict-match exact_match": 0.0, "flexible-extract exact_match": 1.0}
    assert two.texts == (" The answer is 5.",)
    # the ids are those of the set itself, so that both can be compared
    own = read_labelled(f"gsm8k:{written(tmp_path / 'test.jsonl', *DOCS)}")
    assert [q.id for q in own] == [one.question.id, two.question.id]


def test_texts_are_marked_anew_and_disagreements_counted_and_repeats_are_paths(tmp_path):
    def imported(*lines, mode="cot-few"):
        source = f"gsm8k:{written(tmp_path / 's.jsonl', *lines)}"
        return import_samples(RunDir(tmp_path / "r"), source, EvalConfig(modes=(mode,)))

    result, file = imported(*GREEDY)
    assert read_evaluation(file) == result
    assert result.primary == "CoT few-shot"
    assert result.variants[0].figures[0].scores == (1.0, 0.0)
    differ = {"strict-match exact_match": 1, "flexible-extract exact_match": 0}
    assert result.imported.disagreements == differ
    assert imported(*GREEDY)[1] == file
    _, other = imported(line(1, [" The answer is 4."]), line(0, [" 2."]))
    [flip] = compare(file, other).flips
    assert (flip.question.gold, flip.texts_b[0].text) == ("4", " The answer is 4.")
    repeated, _ = imported(line(0, [" 2.", " 3.", " 2."], "maj@3"), mode="cot")
    assert repeated.primary == "majority of 3"
    values = [f.accuracy.value for f in repeated.variants[0].figures]
    assert values == pytest.approx([2 / 3, 1, 1])


def test_a_question_is_told_by_the_prompt_and_with_its_passage(tmp_path):
    text = line(0, [" 2."], doc={"text": "1 + 1"}, target=2, arguments=[["What is 1 + 1?", {}]])
    context = {"doc": {"context": "It has 2."}, "target": "2"}
    bare = line(0, [" 2."], **context, arguments=[["It has 2. How many?", {}]])
    whole = line(0, [" 2."], doc={"question": "How many?", "answer": "2", "passage": "It has 2."})
    samples = read_samples(str(written(tmp_path / "s.jsonl", text, bare, whole)))
    asked = ["What is 1 + 1?", "It has 2. How many?", "It has 2.\n\nHow many?"]
    assert [s.question.question for s in samples] == asked
    assert {s.question.answer for s in samples} == {"2"}
