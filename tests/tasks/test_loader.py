"""Task files: those of the package are sound, and a person's mistake gets one clear answer."""

import pytest

from lmsi_cli.answers import canonical, extract
from lmsi_cli.equations import read_equations
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import asked, completion, render
from lmsi_cli.records import Path
from lmsi_cli.tasks.loader import load_task, summaries, task_names
from lmsi_cli.tasks.published import LAYOUTS

GOOD = """
name = "mine"
kind = "number"
[[exemplars]]
question = "What is 6 * 7?"
rationale = "6 * 7 = 42."
answer = "42"
"""


def test_names():
    assert {"number", "tinymath", "text", *LAYOUTS} == set(task_names())
    assert [t.name for t in summaries()] == task_names()


def load(name):
    if name == "math":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    return load_task(name)


@pytest.mark.parametrize("name", task_names())
def test_every_task_of_the_package_is_sound(name):
    task = load(name)
    assert task.name == name
    assert 4 <= len(task.exemplars) <= 8
    assert task.description
    answers = set()
    for e in task.exemplars:
        said = asked(task, e.question)
        assert e.rationale.endswith(".") and task.trigger not in e.rationale
        assert all(step.holds for step in read_equations(e.rationale))
        answers.add(canonical(e.answer, task.kind, said))
    assert len(answers) > 1  # else the examples teach the answer itself
    if task.chance is not None and task.kind == "choice":
        sizes = {len(asked(task, e.question).choices) for e in task.exemplars}
        assert sizes == {round(1 / task.chance)}


@pytest.mark.parametrize("name", ["rte", "mnli", "anli"])
def test_inference_is_asked_as_its_questions_are(name):
    row = {"idx": 1, "uid": "u", "premise": "P.", "hypothesis": "H.", "label": 0}
    (entry,) = LAYOUTS[name](row)
    for e in load_task(name).exemplars:
        assert e.question.strip().endswith(entry["question"].rpartition("H.\n")[2])


@pytest.mark.parametrize(
    ("name", "shots"), [("number", 8), ("tinymath", 4), ("gsm8k", 6), ("svamp", 5)]
)
def test_own_tasks_are_sound(name, shots):
    task = load_task(name)
    assert (task.name, task.kind, task.trigger) == (name, "number", "The answer is")
    assert len(task.exemplars) == shots
    for e in task.exemplars:
        assert e.answer == canonical(e.answer)
        steps = read_equations(e.rationale)
        assert steps and all(step.holds for step in steps)
        assert extract(e.rationale).value == e.answer  # the last step arrives at the answer
        assert e.rationale.endswith(".") and task.trigger not in e.rationale


@pytest.mark.parametrize("name", task_names())
def test_an_exemplar_reads_back_as_the_model_would_write_it(name):
    task = load(name)
    *_, last, end = render(task, "What?", "cot-few").split("\n\n")
    assert end == "Q: What?\nA:"
    text = last.partition("\nA:")[2]
    path = Path(
        question_id="q", path=0, seed=0, text=text, num_generated_tokens=1, logprob=0.0,
        stop_reason="eos", predicted_answer=None, extract_rule=None,
    )  # fmt: skip
    assert completion(task, path) == text


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    task = load_task(str(file))
    assert (task.name, task.cot_cue, task.chance) == ("mine", "Let's think step by step.", None)


def test_unknown_name_lists_the_known():
    with pytest.raises(LmsiError, match="no task 'tinymth'") as error:
        load_task("tinymth")
    assert "tinymath" in error.value.hint


@pytest.mark.parametrize("name", ["gone.toml", "no/folder"])
def test_missing_file(name):
    with pytest.raises(LmsiError, match=f"{name}: no such file"):
        load_task(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind =", "knd ="), r"unknown field `knd` \(did you mean `kind`\?\)$"),
        (('kind = "number"', 'kind = "choice"'), "exemplar 1: question: lists no options"),
        (("rationale =", "rational ="), r"`rational` \(did you mean `rationale`\?\)$"),
        (("[[exemplars]]", "[exemplars]"), "expected tables"),
        (('name = "mine"', ""), "missing required field `name`"),
        (('"number"', '"colour"'), "unknown answer kind 'colour'"),
        (('"42"', "42"), r"exemplar 1: answer: Expected `str`, got `int`"),
        (('"42"', '"many"'), "exemplar 1: answer: 'many' is not a number"),
        (('= 42."', '= 41. The answer is 41."'), "rationale: holds the trigger 'The answer is'"),
        (('= 42."', '= 42. the answer is 42."'), "rationale: holds the trigger 'The answer is'"),
        (('"6 * 7 = 42."', '" "'), "exemplar 1: rationale: is blank"),
        (('kind = "number"', 'kind = "number"\ntrigger = ""'), "trigger: Expected `str` of length"),
        (('kind = "number"', 'kind = "number"\nchance = 2.0'), "chance"),
        (("[[exemplars]]", "[[exemplars"), "not a TOML file"),
    ],
)
def test_a_mistake_names_the_file(tmp_path, change, message):
    file = tmp_path / "mine.toml"
    assert change[0] in GOOD
    file.write_text(GOOD.replace(*change))
    with pytest.raises(LmsiError, match=message) as error:
        load_task(str(file))
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    file = tmp_path / "mine.toml"
    second = '[[exemplars]]\nquestion = "?"\nanswer = 5\n'
    file.write_text(GOOD.replace("kind =", "knd =") + "\n" + second)
    with pytest.raises(LmsiError) as error:
        load_task(str(file))
    assert str(error.value) == (
        f"{file}: 3 mistakes: (1) unknown field `knd` (did you mean `kind`?); "
        "(2) exemplar 2: missing required field `rationale`; "
        "(3) exemplar 2: answer: Expected `str`, got `int`"
    )
    unsound = GOOD.replace('"42"', '"many"').replace("kind =", "extra = 1\nkind =")
    file.write_text(unsound + second.replace("5", '"5"'))
    with pytest.raises(LmsiError) as error:
        load_task(str(file))
    assert str(error.value) == (
        f"{file}: 3 mistakes: (1) unknown field `extra`; "
        "(2) exemplar 1: answer: 'many' is not a number; "
        "(3) exemplar 2: missing required field `rationale`"
    )


def test_a_file_that_is_not_text(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(LmsiError, match="not a TOML file"):
        load_task(str(file))


def test_a_task_file_does_not_choose_the_form(tmp_path):
    """That follows from the model and the command line; vote and train could not know of it."""
    file = tmp_path / "t.toml"
    file.write_text(
        'name = "x"\nkind = "number"\nexemplars = []\nchat = {few_shot = "turns", system = ""}\n'
    )
    with pytest.raises(LmsiError, match=r"t.toml: chat: no field of a task"):
        load_task(str(file))
