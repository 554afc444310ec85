"""Renders chat templates: the work of a child process, since a template may loop for ever.

Knows Jinja and its sandbox; nothing of models. Two kinds of questions, and their answers:

    {"source": "{{ x }}"} -> {"knows": ["x"]}
    {"source": "{{ x }}", "given": {"x": 1}} -> {"text": "1"}, or {"fails": "..."}
"""

from __future__ import annotations

import datetime
import json
import sys
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmsi_cli.apart import serve

MEMORY = 512 << 20  # bytes of address space; an honest template needs a tenth
LONGEST = 1 << 24  # characters of a prompt
# A path is a function of the model, the settings and the question, not of the day. Llama 3's
# template names this day itself where nobody tells it another one.
TODAY = datetime.datetime(2024, 7, 26)
# What a template that does not fit its input can raise, besides Jinja's own errors.
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip


def rendered(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer one question; MemoryError, as all that is no failure of the template's, is null."""
    try:
        template, knows = _compiled(asked["source"])
        if "given" not in asked:
            return {"knows": knows}
        text = template.render(**asked["given"])
        text.encode()  # no half of a character
    except FAILURES as e:
        return {"fails": str(e)}
    return {"text": text} if len(text) <= LONGEST else {"fails": f"it writes {len(text):,} letters"}


@lru_cache(maxsize=4)
def _compiled(source: str) -> tuple[jinja2.Template, list[str]]:
    environment = _environment()
    parsed = environment.parse(source)
    return environment.from_string(parsed), sorted(meta.find_undeclared_variables(parsed))


class _Generation(Extension):
    """Reads ``{% generation %}``, which marks the model's own words for trainers, as nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own spelling

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Keep what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    env.globals.update(raise_exception=_raise, strftime_now=TODAY.strftime)
    env.filters["tojson"] = _tojson
    return env


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,  # noqa: ANN401 - any JSON value
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


if __name__ == "__main__":
    serve(rendered, float(sys.argv[1]), MEMORY)
