"""Wordings: what each setting of --prompt leaves to choose from, and what is said of bad files."""

import msgspec
import pytest

from lmsi_cli.answers import KINDS, canonical, extract
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Chat, Task, asked, direct_completion, render
from lmsi_cli.records import Exemplar
from lmsi_cli.tasks.loader import load_task, summaries
from lmsi_cli.tasks.wording import AUTO, FORMATS, candidates, worded

PLAIN = Task(name="plain", kind="number", exemplars=())
OWN = msgspec.structs.replace(PLAIN, name="own", prompt="cot-few", cot_cue="Think first.")
FORMS = pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_has_sound_wordings_for_both_forms(kind, chat):
    example = Exemplar(question="What else?", rationale="So it is.", answer="yes")
    task = msgspec.structs.replace(PLAIN, kind=kind, exemplars=(example,))
    found = candidates(AUTO, task, chat)
    assert found and len({w.name for w in found}) == len(found)
    for wording in found:
        assert wording.chat == chat
        own = msgspec.structs.replace(
            worded(task, wording), chat=Chat(few_shot=wording.few_shot, system="") if chat else None
        )
        asked = render(own, "Is it so?", wording.prompt)
        text = asked if isinstance(asked, str) else "\n".join(m.content for m in asked)
        assert text.count("Is it so?") == 1
        assert not any(place in text for place in ("{cue}", "{trigger}", "{answer}", "{question}"))


ANSWERS = {"number": "7", "choice": "B", "yesno": "yes", "date": "2001-05-03", "span": "cat",
           "text": "two cats", "latex": r"\frac{x}{8}"}  # fmt: skip


@FORMS
@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_s_sentence_reads_back_as_its_answer(kind, chat):
    if kind == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    task = msgspec.structs.replace(PLAIN, kind=kind)
    for wording in candidates(AUTO, task, chat):
        own = worded(task, wording)
        found = extract(direct_completion(own, ANSWERS[kind]), kind, own.trigger)
        assert found and found.value == canonical(ANSWERS[kind], kind), wording.name


@pytest.mark.parametrize("name", [s.name for s in summaries()])
def test_exemplars_are_shown_in_sentences_that_read_back(name):
    task = load_task(name)
    if task.kind == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    for wording in (w for chat in (True, False) for w in candidates(AUTO, task, chat)):
        own = worded(task, wording)
        for e in own.exemplars:
            seen = asked(own, e.question)
            found = extract(direct_completion(own, e.answer), own.kind, own.trigger, seen)
            assert found and found.value == canonical(e.answer, own.kind, seen), (wording.name, e)


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


@FORMS
def test_another_name_is_told_with_those_there_are(chat):
    with pytest.raises(LmsiError, match=r"^--prompt nosuch: no such format or wording$") as e:
        candidates("nosuch", PLAIN, chat)
    for name in (AUTO, *FORMATS, *(w.name for w in candidates(AUTO, PLAIN, chat))):
        assert name in e.value.hint


def test_a_file_s_wordings_are_taken_as_they_are(tmp_path):
    file = tmp_path / "w.toml"
    file.write_text(
        '[[wordings]]\nname = "a"\ncot_request = "{cue} Now."\n'
        '[[wordings]]\nname = "b"\nprompt = "cot-few"\nfew_shot = "message"\n'
    )
    one, two = candidates(str(file), OWN, True)
    assert (one.name, one.cot_request, one.prompt) == ("a", "{cue} Now.", "cot-zero")
    assert (two.name, two.prompt, two.few_shot) == ("b", "cot-few", "message")
    assert worded(PLAIN, one).cot_request == "{cue} Now."


ONE = '[[wordings]]\nname = "b"\n'
BAD = {
    "a misspelt key": (ONE + '[[wordings]]\nname = "c"\ncot_reqest = "x"\n',
                       "wording 2: unknown field `cot_reqest` (did you mean `cot_request`?)"),
    "no name": ("[[wordings]]\n", "wording 1: ... `name`"),
    "a format": (f'{ONE}prompt = "cot"\n', "wording 1: ... 'cot' ... `$.prompt`"),
    "twice": (ONE + ONE, "'b'"),
    "a table": ('[wordings]\nname = "b"\n', "[[wordings]]"),
    "none": ("wordings = []\n", "[[wordings]]"),
    "more": (f"temperature = 1\n{ONE}", "[[wordings]] and nothing else"),
    "no TOML": ("[[wordings\n", "not a TOML file: "),
    "no file": (None, "cannot be read: "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_one_line_that_names_file_entry_and_field(tmp_path, text, told):
    file = tmp_path / "w.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LmsiError) as e:
        candidates(str(file), PLAIN, True)
    assert str(e.value).startswith(f"{file}: ") and "\n" not in str(e.value)
    assert all(word in str(e.value) for word in told.split(" ... "))
