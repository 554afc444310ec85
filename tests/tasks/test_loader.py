"""Task files: those of the package are sound, and a person's mistake gets one clear answer."""

import pytest
from builders import path

from lmsi_cli.answers import canonical, extract
from lmsi_cli.equations import read_equations
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import asked, completion, render
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
        if name in ("number", "tinymath", "gsm8k", "svamp"):  # the last step arrives at the answer
            assert read_equations(e.rationale) and extract(e.rationale).value == e.answer
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


@pytest.mark.parametrize("name", task_names())
def test_an_exemplar_reads_back_as_the_model_would_write_it(name):
    task = load(name)
    *_, last, end = render(task, "What?", "cot-few").split("\n\n")
    assert end == "Q: What?\nA:"
    text = last.partition("\nA:")[2]
    assert completion(task, path(text=text, stop_reason="eos", extract_rule=None)) == text


def test_unknown_names():
    with pytest.raises(LmsiError, match="no task 'tinymth'") as error:
        load_task("tinymth")
    assert "tinymath" in error.value.hint
    with pytest.raises(LmsiError, match=r"gone\.toml: no such file"):
        load_task("gone.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind =", "knd ="), r"unknown field `knd` \(did you mean `kind`\?\)$"),
        (('kind = "number"', 'kind = "choice"'), "exemplar 1: question: lists no options"),
        (("[[exemplars]]", "[exemplars]"), r"Expected `array`, got `object` - at `\$.exemplars`"),
        (('name = "mine"', ""), "missing required field `name`"),
        (('"number"', '"colour"'), "unknown answer kind 'colour'"),
        (('"42"', '"many"'), "exemplar 1: answer: 'many' is not a number"),
        (('= 42."', '= 41. The answer is 41."'), "rationale: holds the trigger 'The answer is'"),
        (('"6 * 7 = 42."', '" "'), "exemplar 1: rationale: is blank"),
        (('kind = "number"', 'kind = "number"\nchance = 2.0'), "chance"),
        (('"42"', "'\udcff'"), "not a TOML file"),
        # That follows from the model and the command line; vote and train could not know of it.
        (
            ('"mine"', '"mine"\nchat = {few_shot = "turns", system = ""}'),
            "chat: no field of a task",
        ),
    ],
)
def test_a_mistake_names_the_file(tmp_path, change, message):
    file = tmp_path / "mine.toml"
    assert change[0] in GOOD
    file.write_bytes(GOOD.replace(*change).encode(errors="surrogateescape"))
    with pytest.raises(LmsiError, match=message) as error:
        load_task(str(file))
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


HEAD = 'name = "x"\nkind = "number"\n'


def exemplar(answer="42", question="What is 6 * 7?", where="templates.exemplars"):
    return f'[[{where}]]\nquestion = "{question}"\nrationale = "6 * 7 = 42."\nanswer = "{answer}"\n'


def load_text(folder, text):
    (folder / "t.toml").write_text(HEAD + text)
    return load_task(str(folder / "t.toml"))


def test_templates_are_read_and_the_first_stands_for_all(tmp_path):
    sets = [exemplar(question="One?") * 2, exemplar(question="Two?")]
    task = load_text(tmp_path, "".join(f"[[templates]]\n{s}" for s in sets))
    assert (task.name, task.cot_cue, task.chance) == ("x", "Let's think step by step.", None)
    assert [[e.question for e in t.exemplars] for t in task.templates] == [["One?"] * 2, ["Two?"]]
    assert task.exemplars == task.templates[0].exemplars


WRONG = {
    "both": (exemplar(where="exemplars") + "[[templates]]\n" + exemplar(), "not both"),
    "an empty one": (
        f"[[templates]]\n{exemplar()}[[templates]]\nexemplars = []\n",
        "template 2: exemplars: there is none",
    ),
    "misspelt": (
        "[[templates]]\n[[templates.exemplar]]\nanswer = 1",
        "unknown field `exemplar` - at `$.templates[0]` (did you mean `exemplars`?)",
    ),
    "a wrong answer": (
        f"[[templates]]\n{exemplar()}{exemplar('many')}",
        "template 1: exemplar 2: answer: 'many' is not a number",
    ),
    "none at all": ("", "missing required field `exemplars`"),
}


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_with_its_place(tmp_path, text, told):
    with pytest.raises(LmsiError) as e:
        load_text(tmp_path, text)
    assert str(e.value).startswith(f"{tmp_path / 't.toml'}: ") and told in str(e.value)
