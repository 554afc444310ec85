"""Two evaluations compared: settings first, questions matched, flips with their texts."""

import msgspec
import pytest
from test_evaluate import BASE, LABELLED, examined, variants

from lmsi_cli.errors import LmsiError
from lmsi_cli.reporting.results import read_evaluation
from lmsi_cli.run_folder import TEACHER, RunDir
from lmsi_cli.stages.compare import compare, distilled, find_result


def evaluated(root, questions=LABELLED, name="test", **config):
    config = {"modes": ("cot", "sc"), **config}
    return examined(root, sets={name: questions}, **config)


def test_base_and_adapter_of_one_evaluation(tmp_path):
    evaluated(tmp_path)
    found = compare(tmp_path, tmp_path)
    assert [p.line for p in found.evaluation.pairs] == [
        "CoT greedy", "one sampled path", "majority of 2", "any of 2",
    ]  # fmt: skip
    assert (found.left_out, found.line, found.unpaired) == (0, "CoT greedy", ())
    assert [(f.question.id, f.a, f.b) for f in found.flips] == [("t2", 0, 1), ("t0", 1, 0)]
    gained = found.flips[0]
    assert (gained.texts_a[0].text, gained.texts_b[0].predicted_answer) == (BASE["t2"][0], "4")
    assert [d.name for d in found.differences] == ["adapter", "scale"]


def test_settings_that_differ_are_named(tmp_path):
    evaluated(tmp_path / "a")
    evaluated(tmp_path / "b", temperature=(1.2,), prompt="cot-few", threads=3)
    found = compare(tmp_path / "a", tmp_path / "b")
    told = {d.name: (d.a, d.b) for d in found.differences}
    assert told == {"temperature": ("0.7", "1.2"), "prompt": ("cot-zero", "cot-few")}
    assert {(p.change.difference, p.p_holm) for p in found.evaluation.pairs} == {(0, 1)}


def test_other_questions_are_refused_and_intersected(tmp_path):
    evaluated(tmp_path / "a")
    changed = [*LABELLED[:2], msgspec.structs.replace(LABELLED[2], question="What else is 2 + 2?")]
    evaluated(tmp_path / "b", changed)
    places = tmp_path / "a", tmp_path / "b"
    with pytest.raises(LmsiError) as e:
        compare(*places)
    assert "2 are not in both (1 with other words" in str(e.value) and "t2, t3" in str(e.value)
    assert "--intersect" in (e.value.hint or "")
    found = compare(*places, intersect=True)
    assert (found.evaluation.n, found.left_out) == (2, 2)
    assert found.evaluation.mains[0].figures[0].accuracy.n == 2
    evaluated(tmp_path / "c", [msgspec.structs.replace(LABELLED[0], answer="5")])
    with pytest.raises(LmsiError, match="no question in common"):
        compare(places[0], tmp_path / "c", intersect=True)


def test_a_result_is_found_by_the_name_of_its_set(tmp_path):
    evaluated(tmp_path, name="a")
    first = find_result(tmp_path)
    assert find_result(first) == first
    evaluated(tmp_path, name="b-c")
    with pytest.raises(LmsiError, match="evaluations on a, b-c"):
        find_result(tmp_path)
    assert find_result(tmp_path, "a") == first
    with pytest.raises(LmsiError, match="no evaluation on d"):
        find_result(tmp_path, "d")


def test_a_line_that_is_not_there_is_named(tmp_path):
    evaluated(tmp_path)
    with pytest.raises(LmsiError, match="no line 'none'"):
        compare(tmp_path, tmp_path, line="none")


def test_what_is_no_result_is_refused_in_a_line(tmp_path):
    other = tmp_path / "old.result.json"
    other.write_text('{"data": "test", "n": 4, "lines": []}')
    with pytest.raises(LmsiError, match=r"old\.result\.json: not of this version"):
        read_evaluation(other)


def test_a_student_is_set_beside_its_teacher_trained_and_not(tmp_path):
    for name in ("teacher", "student"):
        evaluated(tmp_path / name)
    found = distilled(tmp_path / "teacher", tmp_path / "student")
    names = ["teacher", "trained teacher", "student", "trained student"]
    assert [row.name for row in found.rows] == names
    assert found.over["trained teacher"].difference == 0
    assert "the teacher after its own training" in found.sentence


def test_an_untrained_student_is_no_student(tmp_path):
    evaluated(tmp_path / "teacher")
    evaluated(tmp_path / "student", models=variants()[:1], modes=("cot",))
    with pytest.raises(LmsiError, match="without an adapter"):
        distilled(tmp_path / "teacher", tmp_path / "student")
    alone = distilled(tmp_path / "student", tmp_path / "teacher")
    assert "trained teacher" not in alone.over and "not trained on its own paths" in alone.sentence


def sourced(root, sha256, **config):
    """An evaluation whose result says which file it measured."""
    source = {"sha256": sha256, "bytes": 8 << 20, "parameters": 4_000_000}
    evaluated(root, about={"source": {"file": f"{sha256}.gguf", **source}}, **config)
    return root


def test_the_student_on_its_own_votes_stands_beside_the_taught_one(tmp_path):
    teacher, student, own = (
        sourced(tmp_path / x, y) for x, y in (("t", "a"), ("s", "b"), ("o", "b"))
    )
    found = distilled(teacher, student, own=own)
    assert [row.name for row in found.rows][-1] == "student on its own votes"
    assert {(row.parameters, row.size) for row in found.rows} == {(4_000_000, 8 << 20)}
    assert all(row.tokens > 0 for row in found.rows)
    assert found.over["student on its own votes"].difference == 0
    assert "cannot be told apart from" in found.sentence.rpartition(" It ")[2]
    assert found.sentence.endswith("the student that learned from its own votes.")
    with pytest.raises(LmsiError, match=r"measures a\.gguf, and the student .* is b\.gguf"):
        distilled(teacher, student, own=teacher)


def test_a_student_s_folder_knows_its_teacher(tmp_path):
    teacher, student = sourced(tmp_path / "t", "a"), sourced(tmp_path / "s", "b")
    told = {"run": "runs/other", "model": "c.gguf", "model_sha256": "c"}
    RunDir(student).save_settings(TEACHER, told)
    with pytest.raises(LmsiError, match="learned from the votes of runs/other") as e:
        distilled(teacher, student)
    assert "lmsi compare runs/other" in e.value.hint
    RunDir(student).save_settings(TEACHER, {**told, "model_sha256": "a"})
    assert distilled(teacher, student).n == 4


@pytest.mark.parametrize(
    ("changed", "line", "told"),
    [
        ({"prompt": "cot-few"}, "", "differ in prompt: cot-zero and cot-few"),
        ({"max_tokens": 9}, "", "differ in max_tokens: 256 and 9"),
        ({"temperature": (1.2,)}, "majority of 2", r"differ in temperature: \[0\.7\] and \[1\.2\]"),
        ({"temperature": (1.2,)}, "", None),  # a greedy line does not depend on it
    ],
)
def test_what_was_asked_in_two_ways_is_not_set_side_by_side(tmp_path, changed, line, told):
    teacher, student = sourced(tmp_path / "t", "a"), sourced(tmp_path / "s", "b", **changed)
    if told is None:
        assert distilled(teacher, student, line=line).n == 4
        return
    with pytest.raises(LmsiError, match=told):
        distilled(teacher, student, line=line)


def test_a_right_answer_that_was_corrected_in_between_is_told(tmp_path):
    evaluated(tmp_path / "t")
    changed = [msgspec.structs.replace(LABELLED[0], answer="5"), *LABELLED[1:]]
    evaluated(tmp_path / "s", changed)
    with pytest.raises(LmsiError, match="differ in right answers"):
        distilled(tmp_path / "t", tmp_path / "s")
    evaluated(tmp_path / "fewer", LABELLED[1:])
    with pytest.raises(LmsiError, match="different questions"):
        distilled(tmp_path / "t", tmp_path / "fewer")
