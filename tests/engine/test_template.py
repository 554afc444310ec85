"""Chat templates: what they may use, what they may not do, and how they fail."""

import pytest

from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message

HI = (Message(role="user", content="Hi"),)


def write(source, messages=HI, reply=True, **texts):
    return ChatTemplate(source, **texts).write(messages, reply)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>Hi</s>"),
        ("{{ messages[0]['role'] }}", "user"),
        ("{% for m in messages %}{% break %}x{% endfor %}", ""),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ {'a<': 'é'} | tojson }}", '{"a<": "é"}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
        ("{{ 'x' if tools is none and not documents }}", "x"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        ("{{ missing }}{% if not enable_thinking is defined %}no{% endif %}", "no"),
    ],
)
def test_what_chat_templates_expect_is_there(source, text):
    assert write(source, bos="<s>", eos="</s>") == text


def test_the_clock_stands_still():
    """A prompt that changed overnight would split a run in two."""
    assert write("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ strftime_now.__self__.year }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ ''.format.__globals__['os'] }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_box(source):
    with pytest.raises(LmsiError, match="refuses the prompt"):
        write(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ("{{ messages[3].content }}", "no element 3"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
    ],
)
def test_a_refusal_is_one_line_in_the_templates_words(source, told):
    with pytest.raises(LmsiError) as e:
        write(source, where="m.gguf")
    assert str(e.value).startswith("m.gguf: its chat template refuses the prompt: ")
    assert told in str(e.value) and "\n" not in str(e.value)
    assert "--chat off" in e.value.hint


def test_a_broken_template_is_told_before_anything_is_written():
    with pytest.raises(LmsiError, match=r"m.gguf: its chat template is broken: .*endfor") as e:
        ChatTemplate("{% for m in messages %}", where="m.gguf")
    assert "--chat off" in e.value.hint
