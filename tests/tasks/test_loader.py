"""Tasks and wordings: those of the package are sound; wrong files and unfit questions are told."""

import re

import msgspec
import pytest
from builders import path, refused
from task_helpers import load, needs_latex, put

from lmsi_cli.answers import KINDS, canonical, extract
from lmsi_cli.equations import read_equations
from lmsi_cli.prompts import Chat, Task, asked, completion, direct_completion, render
from lmsi_cli.records import Exemplar, Question
from lmsi_cli.tasks.loader import check_options, gold_answers, load_task, task_names
from lmsi_cli.tasks.published import LAYOUTS
from lmsi_cli.tasks.wording import AUTO, FORMATS, candidates, worded


def reads_back(task, answer, question=""):
    """An answer in the sentence of a task is read as this answer."""
    seen = asked(task, question)
    found = extract(direct_completion(task, answer), task.kind, task.trigger, seen)
    return found is not None and found.value == canonical(answer, task.kind, seen)


def test_every_published_set_has_its_task():
    assert {"number", "tinymath", "text", *LAYOUTS} == set(task_names())


@pytest.mark.parametrize("name", task_names())
def test_every_task_of_the_package_is_sound(name):
    task = load(name)
    assert task.name == name and task.description
    answers = set()
    for e in task.exemplars:
        said = asked(task, e.question)
        assert all(step.holds for step in read_equations(e.rationale))
        answers.add(canonical(e.answer, task.kind, said))
        if name in ("number", "tinymath", "gsm8k", "svamp"):  # the last step arrives at the answer
            assert read_equations(e.rationale) and extract(e.rationale).value == e.answer
        if task.kind == "choice":
            assert len(said.choices) == round(1 / task.chance)
    assert len(answers) > 1  # else the examples teach the answer itself
    *_, last, end = render(task, "What?", "cot-few").split("\n\n")
    assert end == "Q: What?\nA:"
    text = last.partition("\nA:")[2]  # an example as the model would write it
    assert completion(task, path(text=text, stop_reason="eos", extract_rule=None)) == text
    for wording in (w for chat in (True, False) for w in candidates(AUTO, task, chat)):
        own = worded(task, wording)
        assert all(reads_back(own, e.answer, e.question) for e in own.exemplars), wording.name


@pytest.mark.parametrize("name", ["rte", "mnli", "anli"])
def test_inference_is_asked_as_its_questions_are(name):
    row = {"idx": 1, "uid": "u", "premise": "P.", "hypothesis": "H.", "label": 0}
    (entry,) = LAYOUTS[name](row)
    for e in load_task(name).exemplars:
        assert e.question.strip().endswith(entry["question"].rpartition("H.\n")[2])


def test_unknown_names():
    refused(load_task, "tinymth", told="no task 'tinymth'", hint="tinymath")
    refused(load_task, "gone.toml", told="gone.toml: no such file")
    refused(candidates, "gone.toml", PLAIN, True, told="gone.toml: cannot be read: ")


HEAD = 'name = "mine"\nkind = "number"\n'
EXEMPLAR = 'question = "What is 6 * 7?"\nrationale = "6 * 7 = 42."\nanswer = "42"\n'
GOOD = f"{HEAD}[[exemplars]]\n{EXEMPLAR}"
TEMPLATE = f"[[templates]]\n[[templates.exemplars]]\n{EXEMPLAR}"


def test_templates_are_read_and_the_first_stands_for_all():
    task = load_task(put("t.toml", HEAD + TEMPLATE + TEMPLATE.replace("6 * 7?", "7 * 6?")))
    asked = [[e.question for e in t.exemplars] for t in task.templates]
    assert asked == [["What is 6 * 7?"], ["What is 7 * 6?"]]
    assert task.exemplars == task.templates[0].exemplars


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind =", "knd =", "unknown field `knd` (did you mean `kind`?)"),
        ('"number"', '"choice"', "exemplar 1: question: lists no options"),
        ('"number"', '"colour"', "kind: unknown answer kind 'colour'"),
        ('"number"', '"number"\nchance = 2.0', "Expected ... chance"),
        ('name = "mine"', "", "Object missing required field `name`"),
        ("[[exemplars]]", "[exemplars]", "Expected `array` ... `$.exemplars`"),
        (GOOD, HEAD, "Object missing required field `exemplars`"),
        ('"42"', '"many"', "exemplar 1: answer: 'many' is not a number"),
        ('"42"', "'\udcff'", "not a TOML file"),
        ('"6 * 7 = 42."', '" "', "exemplar 1: rationale: is blank"),
        ('= 42."', '= 41. The answer is 41."', "exemplar 1: rationale: holds the trigger"),
        # That follows from the model and the command line; vote and train could not know of it.
        ("[[", 'chat = {few_shot = "turns", system = ""}\n[[', "chat: no field of a task"),
        (GOOD, GOOD + TEMPLATE, "templates: ... not both"),
        (GOOD, f"{HEAD}{TEMPLATE}[[templates]]\nexemplars = []", "template 2: exemplars: there"),
        (GOOD, HEAD + TEMPLATE.replace("exemplars", "exemplar"),
         "unknown field `exemplar` ... `$.templates[0]` ... `exemplars`?"),
        (GOOD, HEAD + TEMPLATE.replace("42", "many"), "template 1: exemplar 1: answer: 'many'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_place(old, new, told):
    assert old in GOOD
    refused(load_task, put("t.toml", GOOD.replace(old, new, 1)), told=f"t.toml: {told}")


# -- questions against their task ------------------------------------------------------------------

BARE = Question(id="b", question="Which? sand, or sea", answer="B")


def task_of(kind, **more):
    return Task(name="t", kind=kind, exemplars=(), **more)


def marked(answer):
    return [Question(id="q", question="Which?\n(A) sand\n(B) sea", answer=answer)]


@pytest.mark.parametrize(
    ("kind", "answer", "gold"),
    [
        ("choice", "(b)", "B"), ("number", "$1,200.00", "1200"), ("number", "5.0", "5"),
        ("number", "-0.50", "-0.5"), ("number", "1/1024", "0.0009765625"), ("number", "50%", "50"),
        ("number", "2 marbles", "2"), ("number", "3 decks", "3"), ("number", "5-foot", "5"),
        ("number", "4 apricots", "4"), ("percent", "50%", "0.5"), ("date", "5 May", "--05-05"),
    ],
)  # fmt: skip
def test_an_answer_is_spelled_by_its_kind_and_a_unit_is_no_month(kind, answer, gold):
    task = task_of("number", percent=True) if kind == "percent" else task_of(kind)
    assert gold_answers(marked(answer), task) == {"q": gold}


@pytest.mark.parametrize(
    ("kind", "answer", "hint"),
    [
        ("choice", "C", "--task"), ("number", "", "--task"), ("number", "cat", "--task"),
        ("number", "3 or 4", "--task"), ("number", "3,5", "--task"), ("number", "1/0", "--task"),
        ("number", "2-Jan", "column as text"), ("latex", "Jan-02", "column as text"),
        ("number", "1/Jun", "column as text"), ("number", "Sept-2004", "column as text"),
    ],
)  # fmt: skip
def test_what_is_none_of_its_kind_or_was_made_a_date_by_a_spreadsheet(kind, answer, hint):
    told = f"question 'q': its answer '{answer}'"
    refused(gold_answers, marked(answer), task_of(kind), told=told, hint=hint)


@pytest.mark.parametrize("check", [check_options, gold_answers])
def test_choices_without_letters(check):
    told = "question 'b' lists no options ... (1 of 2 questions)"
    refused(check, [*marked("B"), BARE], task_of("choice"), told=told, hint="(A) ..., (B) ...")
    check_options([BARE], task_of("number"))


# -- wordings: what each setting of --prompt leaves to choose from ---------------------------------

PLAIN = Task(name="plain", kind="number", exemplars=())
OWN = msgspec.structs.replace(PLAIN, name="own", prompt="cot-few", cot_cue="Think first.")
FORMS = pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
ANSWERS = {"number": "7", "choice": "B", "yesno": "yes", "date": "2001-05-03", "span": "cat",
           "text": "two cats", "latex": r"\frac{x}{8}"}  # fmt: skip


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_asks_once_and_its_sentence_reads_back(kind, chat):
    needs_latex(kind)
    example = Exemplar(question="What else?", rationale="So it is.", answer="yes")
    task = msgspec.structs.replace(PLAIN, kind=kind, exemplars=(example,))
    found = candidates(AUTO, task, chat)
    assert found and len({w.name for w in found}) == len(found)
    for wording in found:
        assert wording.chat == chat
        own = worded(task, wording)
        assert reads_back(own, ANSWERS[kind]), wording.name
        talk = Chat(few_shot=wording.few_shot, system="") if chat else None
        said = render(msgspec.structs.replace(own, chat=talk), "Is it so?", wording.prompt)
        text = said if isinstance(said, str) else "\n".join(m.content for m in said)
        assert text.count("Is it so?") == 1
        assert not re.search(r"\{(cue|trigger|answer|question)\}", text)


@FORMS
def test_a_task_s_own_words_come_first_and_alone_unless_auto_is_asked_for(chat):
    assert candidates("", PLAIN, chat) == candidates(AUTO, PLAIN, chat)
    (own,) = candidates("", OWN, chat)
    assert (own.prompt, own.cot_cue, own.chat) == ("cot-few", "Think first.", chat)
    assert worded(OWN, own) == OWN
    assert candidates(AUTO, OWN, chat) == [own, *candidates(AUTO, PLAIN, chat)]


@FORMS
def test_a_format_is_one_wording_in_this_format_and_a_name_is_that_wording(chat):
    for format in FORMATS:
        for task in (PLAIN, OWN):
            (found,) = candidates(format, task, chat)
            assert (found.prompt, found.chat) == (format, chat)
    found = candidates(AUTO, OWN, chat)
    assert found and all(candidates(w.name, OWN, chat) == [w] for w in found)
    for name in (AUTO, *FORMATS, *(w.name for w in found)):
        refused(candidates, "nosuch", OWN, chat, told="--prompt nosuch: ", hint=name)


def test_a_file_s_wordings_are_taken_as_they_are():
    text = '[[wordings]]\nname = "a"\ncot_request = "{cue} Now."\n'
    more = '[[wordings]]\nname = "b"\nprompt = "cot-few"\nfew_shot = "message"\n'
    one, two = candidates(put("w.toml", text + more), OWN, True)
    assert (one.name, one.cot_request, one.prompt) == ("a", "{cue} Now.", "cot-zero")
    assert (two.name, two.prompt, two.few_shot) == ("b", "cot-few", "message")
    assert worded(PLAIN, one).cot_request == "{cue} Now."


ONE = '[[wordings]]\nname = "b"\n'
BAD = {
    "a misspelt key": (ONE + '[[wordings]]\nname = "c"\ncot_reqest = "x"\n',
                       "wording 2: unknown field `cot_reqest` (did you mean `cot_request`?)"),
    "no name": ("[[wordings]]\n", "wording 1: ... `name`"),
    "a format": (f'{ONE}prompt = "cot"\n', "wording 1: ... 'cot' ... `$.prompt`"),
    "twice": (ONE + ONE, "two wordings ... 'b'"),
    "a table": ('[wordings]\nname = "b"\n', "expected ... [[wordings]]"),
    "none": ("wordings = []\n", "expected ... [[wordings]]"),
    "more": (f"temperature = 1\n{ONE}", "expected ... [[wordings]] and nothing else"),
    "no TOML": ("[[wordings\n", "not a TOML file: "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_a_bad_file_of_wordings_is_told_with_entry_and_field(text, told):
    refused(candidates, put("w.toml", text), PLAIN, True, told=f"w.toml: {told}")
