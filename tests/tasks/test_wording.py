"""Wordings: what each setting of --prompt leaves to choose from, and what is said of bad files."""

import re

import msgspec
import pytest
from task_helpers import load, put, refused

from lmsi_cli.answers import KINDS, canonical, extract
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Chat, Task, asked, direct_completion, render
from lmsi_cli.records import Exemplar
from lmsi_cli.tasks.loader import task_names
from lmsi_cli.tasks.wording import AUTO, FORMATS, candidates, worded

PLAIN = Task(name="plain", kind="number", exemplars=())
OWN = msgspec.structs.replace(PLAIN, name="own", prompt="cot-few", cot_cue="Think first.")
FORMS = pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
ANSWERS = {"number": "7", "choice": "B", "yesno": "yes", "date": "2001-05-03", "span": "cat",
           "text": "two cats", "latex": r"\frac{x}{8}"}  # fmt: skip


def reads_back(task, answer, question=""):
    """An answer in the sentence of a task is read as this answer."""
    seen = asked(task, question)
    found = extract(direct_completion(task, answer), task.kind, task.trigger, seen)
    return found is not None and found.value == canonical(answer, task.kind, seen)


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_asks_once_and_its_sentence_reads_back(kind, chat):
    if kind == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
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


@pytest.mark.parametrize("name", task_names())
def test_exemplars_are_shown_in_sentences_that_read_back(name):
    task = load(name)
    for wording in (w for chat in (True, False) for w in candidates(AUTO, task, chat)):
        own = worded(task, wording)
        assert all(reads_back(own, e.answer, e.question) for e in own.exemplars), wording.name


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
    with pytest.raises(LmsiError, match="--prompt nosuch: ") as e:
        candidates("nosuch", OWN, chat)
    names = (AUTO, *FORMATS, *(w.name for w in found))
    assert [name for name in names if name not in e.value.hint] == []


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
def test_a_bad_file_is_one_line_that_names_file_entry_and_field(text, told):
    refused(candidates, put("w.toml", text), PLAIN, True, told=f"w.toml: {told}")


def test_a_file_that_is_not_there():
    refused(candidates, "w.toml", PLAIN, True, told="w.toml: cannot be read: ")
