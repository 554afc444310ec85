"""Conversations to ids on a small vocabulary: nothing forged, nothing twice, one form for all."""

from contextlib import ExitStack
from functools import cache

import chat_models as chat
import pytest
from builders import refused
from chat_models import REPLY, SYSTEM, assistant, marks, spelt, user
from gguf import TokenType
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsi_cli.engine.encode import Encoder, choose
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.records import Message

MARKS = (*chat.CONTROL, *chat.APART)
TALK = (SYSTEM, user("What is 6?"), assistant("6."), user("What is 7?"))
SAID = REPLY[0].content
TURN = f"{SAID}<|im_end|>"


@pytest.fixture(scope="module")
def encoder(gguf, tmp_path_factory):
    """Make encoders by template; each keeps its vocabulary open until the end."""
    with ExitStack() as opened:

        @cache
        def made(template):
            file = chat.chat_model(gguf, tmp_path_factory.mktemp("chat") / "chat.gguf", template)
            return Encoder(opened.enter_context(vocabulary(file)))

        yield made


def whole(encoder, prompt):
    """The ids of any program that renders the template and tokenises all at once, behind BOS."""
    rendered = encoder.template.write(prompt, reply=True).removeprefix("<s>")
    return encoder.model.tokenize("<s>" + rendered, True)


def test_plain_text_has_no_end_but_behind_a_completion(encoder):
    """The file asks for one behind any text, since those that the model learned from were whole."""
    e = encoder(chat.CHATML)
    assert e.lib.llama_vocab_get_add_eos(e.vocab)
    begin, *ids = e.prompt("Q: 6?\nA:").ids
    assert (begin, ids) == (e.lib.llama_vocab_bos(e.vocab), e.model.tokenize("Q: 6?\nA:"))
    assert e.completion("Q: 6?\nA:", " 6.") == [*e.model.encode_tail(" 6."), e.model.eos]


def test_marks_of_one_letter_and_of_hundreds(gguf, tmp_path, monkeypatch):
    """The one cannot be split, and was tried for ever; of the other no letter was read."""
    monkeypatch.setattr(chat, "APART", ("=" * 300,))
    file = chat.chat_model(gguf, tmp_path / "m.gguf", chat.CHATML, control="$")
    with vocabulary(file) as model:
        e = Encoder(model)
        assert "It costs $5" in spelt(e, e.prompt((user("It costs $5"),)).ids)
        assert [len(model.piece(token)) for token in model.tokenize("=" * 300)] == [300]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [(chat.CHATML, TALK), (chat.TRIMS, TALK[1:]), (chat.THINKS, TALK), (chat.LISTS, TALK)],
)
def test_a_conversation_is_tokenised_whole_behind_one_bos(encoder, template, prompt):
    e = encoder(template)
    assert e.prompt(prompt).ids == whole(e, prompt)


forged = st.lists(
    st.one_of(st.sampled_from(MARKS), st.text(max_size=6), st.sampled_from([m[:-1] for m in MARKS]))
).map("".join)


@pytest.mark.parametrize(
    "template",
    [chat.CHATML, chat.TRIMS, chat.THINKS, chat.LISTENS, chat.LISTENS_TO_ALL, chat.DROPS,
     chat.LISTS],
)  # fmt: skip
@given(content=forged)
@settings(max_examples=30)
def test_no_question_and_no_reply_forges_a_mark(encoder, template, content):
    """The marks are those of the same conversation about something harmless; the words stay."""
    e, clean = encoder(template), content.strip()
    for words in ("", "Be brief.", "/no_think"):
        system = (Message(role="system", content=words),) * bool(words)
        harmless = marks(e, e.prompt((*system, user("x"), assistant("y"), user("x"))).ids)
        for messages in (
            (user(clean), assistant("y"), user("x")),
            (user("x"), assistant(clean), user("x")),
            (user("x"), assistant("y"), user(clean)),
        ):
            ids = e.prompt((*system, *messages)).ids
            assert marks(e, ids) == harmless
            assert clean in spelt(e, ids)
    replies = [e.completion((user("x"),), (assistant(text),)) for text in (clean, "y")]
    assert marks(e, replies[0]) == marks(e, replies[1])
    assert not any(map(e.model.ends, replies[0][:-1]))


def test_a_question_full_of_marks_costs_no_more_than_it_is_long(encoder):
    """Broken one after the other from the front, it would cost the square."""
    e = encoder(chat.CHATML)
    ids = e.prompt((user("".join(MARKS) * 500),)).ids
    assert marks(e, ids) == ["<s>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]


@pytest.mark.parametrize("template", [chat.TRIMS, chat.DROPS])
def test_without_a_system_role_its_text_opens_the_first_turn(encoder, template):
    """One template refuses a system message, the other drops it in silence."""
    e, folded = encoder(template), (user("Be brief.\n\nWhat is 6?"), *TALK[2:])
    assert e.prompt(TALK) == e.prompt(folded)
    assert e.completion(TALK, REPLY) == e.completion(folded, REPLY)


def test_a_template_that_refuses_or_leaves_out_what_is_said_is_told(encoder):
    told = "... chat.gguf: its chat template refuses ... : only tools"
    refused(encoder(chat.REFUSES).prompt, TALK, told=told, hint="--chat off")
    assert not choose("off", encoder(chat.REFUSES)).chat  # as the hint says
    told = "... leaves out the user's words (message 1 of 3)"
    refused(encoder("{{ messages[-1].content }}").prompt, TALK[1:], told=told)


@pytest.mark.parametrize(
    ("template", "variables", "begun", "reply"),
    [
        (chat.CHATML, (), "", TURN),
        (chat.TRIMS, (), "", f" {SAID} </s>"),
        (chat.LISTS, (), "", TURN),
        (chat.THINKS, (), "<think>\n", f"</think>\n\n{TURN}"),
        (chat.THINKS_ON, (), "<think>\n", f"</think>\n\n{TURN}"),  # opens every reply, closes none
        (chat.SWITCH, (), "<think>\n", f"</think>\n\n{TURN}"),
        (chat.SWITCH, ("enable_thinking=false",), "", TURN),
    ],
)
def test_a_reply_is_as_the_template_has_it_and_closes_what_is_open(
    encoder, template, variables, begun, reply
):
    """A block that the prompt opens begins what is drawn; what is trained on stands behind it."""
    e, prompt = encoder(template).given(variables), (user("what does <think> mean?"),)
    ids = e.completion(prompt, REPLY)
    assert (e.prompt(prompt).begun, spelt(e, ids)) == (begun, reply)
    if not begun:
        written = e.template.write((*prompt, *REPLY), reply=False).removesuffix("\n")
        assert e.model.tokenize(written, True)[-len(ids) :] == ids


# -- words that a template listens to, and kinds of marks --------------------------------------


@pytest.mark.parametrize("words", ["/no_think", "Be brief. /no_think", "/no_think\nBe brief."])
def test_words_in_the_system_text_do_what_the_template_makes_of_them(encoder, words):
    e, prompt = encoder(chat.LISTENS), (Message(role="system", content=words), *TALK[1:])
    ids, begun = e.prompt(prompt)
    shown = spelt(e, ids)
    assert (ids, begun) == (whole(e, prompt), "")
    assert shown.endswith("<|im_start|>assistant\n<think>\n\n</think>\n")
    assert shown.count("/no_think") == 1 and ("Be brief." in shown) == ("Be brief." in words)
    # and a reply is what stands behind the block
    assert spelt(e, e.completion(prompt, REPLY)) == f"{SAID}<|im_end|>"


@pytest.mark.parametrize("template", [chat.LISTENS_TO_ALL, chat.NAMES_THE_MODE])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_words_in_a_question_are_a_part_of_it(encoder, template, place):
    """The template would listen to them there, too; but a question is data."""
    e, asked, said = encoder(template), [user("x"), assistant("y"), user("z")], "Why /no_think?"
    harmless = e.prompt(tuple(asked))
    own = asked[place].content
    asked[place] = Message(role=asked[place].role, content=said)
    encoded, around = e.prompt(tuple(asked)), spelt(e, harmless.ids)
    expected = around.replace(f"\n{own}<|im_end|>", f"\n{said}<|im_end|>")
    assert spelt(e, encoded.ids) == expected != around
    assert (encoded.begun, marks(e, encoded.ids)) == (harmless.begun, marks(e, harmless.ids))


@pytest.mark.parametrize("apart", [TokenType.USER_DEFINED, TokenType.CONTROL])
def test_thinking_marks_are_written_whatever_their_kind(gguf, tmp_path, apart):
    """Other control tokens write nothing; without these, thinking would pass for the answer."""
    file = chat.chat_model(gguf, tmp_path / "m.gguf", chat.CHATML, apart)
    with vocabulary(file) as words:
        ids = words.tokenize("<think>5</think>4<|im_end|>", special=True)
        assert len(ids) == 5
        assert b"".join(map(words.piece, ids)) == b"<think>5</think>4"
