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
        ("{{ 'é' | tojson(true) }}", '"\\u00e9"'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
        ("{{ 'x' if tools is not defined and documents is not defined }}", "x"),
        ("{% if tools is defined %}{% for t in tools %}{{ t }}{% endfor %}{% endif %}x", "x"),
        ("{% if tools %}no{% elif not documents %}x{% endif %}", "x"),
        ("{% if not tools is defined %}{% set tools = none %}{% endif %}{{ tools }}", "None"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),  # its clock stands still
        ("{{ messages[0].content is string }}", "True"),
        ("{{ missing }}{% if not enable_thinking is defined %}no{% endif %}", "no"),
    ],
)
def test_what_chat_templates_expect_is_there(source, text):
    assert write(source, bos="<s>", eos="</s>") == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ strftime_now.__self__.year }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ ''.format.__globals__['os'] }}",
        "{{ range | tojson(default='{0.__class__}'.format) }}",
        "{% macro m() %}x{% endmacro %}{{ [1] | tojson(cls=m) }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_box(source):
    with pytest.raises(LmsiError, match="refuses the prompt"):
        write(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}",
            "over 1 s",
        ),
        ("{{ 9**9999999 }}", "broken: it takes over 1 s"),  # while it is compiled
        ("{{ 'x' * 10**9 }}", "too much memory"),
        ("{% set n = 10**7 %}{{ 'Hi' * n }}", "20,000,000 letters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("(" * 5000 + "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "recursion"),
        (r"{{ '\ud83d' }}", "surrogates"),
    ],
)
def test_a_template_has_its_time_and_memory_and_no_more(source, told):
    with pytest.raises(LmsiError, match=told):
        write(source)
    assert write("{{ messages[0].content }}") == "Hi"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
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


# -- variables -------------------------------------------------------------------------------


def given(source, *variables):
    return ChatTemplate(source, where="m.gguf", variables=variables)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("v=false", "false"),
        ("v=null", "null"),
        ('v={"a": [1, "é"]}', '{"a": [1, "é"]}'),
        ('v="false"', '"false"'),
        ("v=brief, please = yes", '"brief, please = yes"'),
        ("v=", '""'),
        ("v=01", '"01"'),
        ("v=" + "[" * 5000, f'"{"[" * 5000}"'),
    ],
)
def test_a_value_is_json_or_else_its_text(typed, text):
    assert given("{{ v | tojson }}", typed).write(HI, True) == text


@pytest.mark.parametrize("name", ["enable_thinkin", "messages", "range", "eos_token", "local"])
def test_what_the_template_does_not_ask_for_cannot_be_set(name):
    """Names that lmsi, Jinja or the template itself set are no variables either."""
    source = "{% set local = 1 %}{{ messages[0].content ~ range(2) ~ eos_token ~ b ~ a ~ local }}"
    with pytest.raises(LmsiError, match=rf"m.gguf: .* no variable '{name}' to set") as e:
        given(source, f"{name}=1")
    assert e.value.hint.endswith(": a, b")
    with pytest.raises(LmsiError) as e:
        given("x", f"{name}=1")
    assert e.value.hint.endswith(": none")


@pytest.mark.parametrize(
    "source", ["{{ raise_exception('low or high') if v != 'low' }}{{ w }}", "{{ v.x.y }}{{ w }}"]
)
def test_a_value_that_the_template_refuses_is_named_with_those_it_knows(source):
    with pytest.raises(LmsiError, match=r"refuses the prompt with v=1: ") as e:
        given(source, "v=1").write(HI, True)
    assert e.value.hint.endswith("its variables: v, w")


@pytest.mark.parametrize(
    ("typed", "told"),
    [(("v=False",), "v=false"), (("v=None",), "v=null"), (("v=1", "v=2"), "once")],
)
def test_a_value_that_is_surely_a_slip_is_refused(typed, told):
    """The word False counts as true."""
    with pytest.raises(LmsiError, match=rf"--template-var {typed[-1]}: ") as e:
        given("{{ v }}", *typed)
    assert told in e.value.hint
    assert given("{{ v }}", 'v="False"').write(HI, True) == "False"


# -- contents as lists -----------------------------------------------------------------------

LOOP = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
PARTS = "{% for m in messages %}{{ m.role }}: " + LOOP + ";{% endfor %}"
EITHER = PARTS.replace(
    LOOP, "{% if m.content is string %}" + LOOP + "{% else %}" + LOOP + "{% endif %}"
)
FAILS = PARTS.replace(LOOP, "{{ m.content[0]['type'].strip('text') }}" + LOOP)


@pytest.mark.parametrize("source", [PARTS, EITHER, FAILS])
def test_contents_are_given_as_lists_where_a_text_would_not_show(source):
    talk = (Message(role="system", content="Be brief."), *HI)
    assert write(source, talk) == "system: Be brief.;user: Hi;"


def test_a_broken_template_is_told_before_anything_is_written():
    with pytest.raises(LmsiError, match=r"m.gguf: its chat template is broken: .*endfor") as e:
        ChatTemplate("{% for m in messages %}", where="m.gguf")
    assert "--chat off" in e.value.hint
