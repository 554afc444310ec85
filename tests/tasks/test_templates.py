"""Tasks with several sets of exemplars: read, and refused with a word to the place."""

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.loader import load_task

HEAD = 'name = "x"\nkind = "number"\n'


def exemplar(answer="42", question="What is 6 * 7?", where="templates.exemplars"):
    return f'[[{where}]]\nquestion = "{question}"\nrationale = "6 * 7 = 42."\nanswer = "{answer}"\n'


def load(folder, text):
    (folder / "t.toml").write_text(HEAD + text)
    return load_task(str(folder / "t.toml"))


def test_templates_are_read_and_the_first_stands_for_all(tmp_path):
    sets = [exemplar(question="One?") * 2, exemplar(question="Two?")]
    task = load(tmp_path, "".join(f"[[templates]]\n{s}" for s in sets))
    assert [[e.question for e in t.exemplars] for t in task.templates] == [["One?"] * 2, ["Two?"]]
    assert task.exemplars == task.templates[0].exemplars


WRONG = {
    "both": (
        exemplar(where="exemplars") + "[[templates]]\n" + exemplar(),
        "templates: a task has exemplars or templates, not both",
    ),
    "no table": ("templates = 3", "templates: expected tables, each headed [[templates]]"),
    "none": ("templates = []", "templates: expected tables, each headed [[templates]]"),
    "an empty one": (
        f"[[templates]]\n{exemplar()}[[templates]]\nexemplars = []\n",
        "template 2: exemplars: there is none",
    ),
    "misspelt": (
        "[[templates]]\n[[templates.exemplar]]\nanswer = 1",
        "template 1: unknown field `exemplar` (did you mean `exemplars`?)",
    ),
    "no tables in it": (
        "[[templates]]\nexemplars = [1]",
        "template 1: exemplars: expected tables, each headed [[templates.exemplars]]",
    ),
    "a wrong answer": (
        f"[[templates]]\n{exemplar()}{exemplar('many')}",
        "template 1: exemplar 2: answer: 'many' is not a number",
    ),
    "a trigger of a wrong type": (
        "second_trigger = 3\nexemplars = []", "second_trigger: Expected `str`, got `int`"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_with_its_place(tmp_path, text, told):
    with pytest.raises(LmsiError) as e:
        load(tmp_path, text)
    assert str(e.value) == f"{tmp_path / 't.toml'}: {told}"


def test_no_exemplars_and_no_templates_is_still_a_mistake(tmp_path):
    with pytest.raises(LmsiError, match="missing required field `exemplars`"):
        load(tmp_path, "")
