"""Chat templates: what they may use, what they may not do, and how they fail."""

import pytest
from builders import refused

from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message

HI = (Message(role="user", content="Hi"),)


def write(source, *variables):
    return ChatTemplate(source, "<s>", "</s>", "m.gguf", variables).write(HI, reply=True)


TURNS = "{{% for m in messages %}}{{{{ m.role }}}}: {};{{% endfor %}}"
LOOP = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
EITHER = "{% if m.content is string %}" + LOOP + "{% else %}" + LOOP + "{% endif %}"
FAILS = "{{ m.content[0]['type'].strip('text') }}" + LOOP


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token ~ messages[0]['role'] ~ eos_token }}", "<s>user</s>"),
        ("{% for m in messages %}{% break %}x{% endfor %}", ""),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ {'a<': 'é'} | tojson }}", '{"a<": "é"}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{{ 'é' | tojson(true) }}", '"\\u00e9"'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
        ("{{ 'x' if tools is not defined and documents is not defined }}", "x"),
        ("{% if not tools is defined %}{% set tools = none %}{% endif %}{{ tools }}", "None"),
        ("{% if add_generation_prompt %}go{% endif %}{{ missing }}", "go"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),  # its clock stands still
        # contents are given as lists where a text would not show
        *((TURNS.format(content), "user: Hi;") for content in (LOOP, EITHER, FAILS)),
    ],
)
def test_what_chat_templates_expect_is_there(source, text):
    assert write(source) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ strftime_now.__self__.year }}",
        "{{ messages.append(1) }}",
        "{{ ''.format.__globals__['os'] }}",
        "{{ range | tojson(default='{0.__class__}'.format) }}",
        "{% macro m() %}x{% endmacro %}{{ [1] | tojson(cls=m) }}",
        "{% for i in range(10000000) %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ 1 // 0 }}",
        "{{ nothing.at.all }}",
    ],
)
def test_what_leaves_the_box_or_fails_is_told_in_one_line(source):
    told = "m.gguf: its chat template refuses ... : "
    refused(write, source, told=told, hint="--chat off")


LONG_LOOPS = "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (LONG_LOOPS, "over 1 s"),
        ("{{ 9**9999999 }}", "broken: it takes over 1 s"),  # while it is compiled
        ("{{ 'x' * 10**9 }}", "too much memory"),
        ("{% set n = 10**7 %}{{ 'Hi' * n }}", "20,000,000 letters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("(" * 5000 + "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "recursion"),
        (r"{{ '\ud83d' }}", "surrogates"),
    ],
    ids=["time", "compiling", "memory", "letters", "recursion", "brackets", "half a character"],
)
def test_a_template_has_its_time_and_memory_and_no_more(source, told):
    refused(write, source, told=f"... {told}")
    assert write("{{ messages[0].content }}") == "Hi"


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("v=false", "false"),
        ('v={"a": [1, "é"]}', '{"a": [1, "é"]}'),
        ('v="False"', '"False"'),
        ("v=brief, please = yes", '"brief, please = yes"'),
        ("v=", '""'),
        ("v=01", '"01"'),
        ("v=" + "[" * 5000, f'"{"[" * 5000}"'),
    ],
)
def test_a_value_is_json_or_else_its_text(typed, text):
    assert write("{{ v | tojson }}", typed) == text


@pytest.mark.parametrize("name", ["enable_thinkin", "messages", "range", "eos_token", "local"])
def test_what_the_template_does_not_ask_for_cannot_be_set(name):
    """Names that lmsi, Jinja or the template itself set are no variables either."""
    source = "{% set local = 1 %}{{ messages[0].content ~ range(2) ~ eos_token ~ b ~ a ~ local }}"
    for template, known in ((source, "a, b"), ("x", "none")):
        with pytest.raises(LmsiError, match=rf"m.gguf: .* no variable '{name}' to set") as e:
            write(template, f"{name}=1")
        assert e.value.hint.endswith(f": {known}")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [(("v=False",), "v=false"), (("v=None",), "v=null"), (("v=1", "v=2"), "once")],
)
def test_a_value_that_is_surely_a_slip_is_refused(typed, hint):
    """The word False counts as true."""
    refused(write, "{{ v }}", *typed, told=f"... --template-var {typed[-1]}: ", hint=hint)
