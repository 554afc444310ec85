r"""A chat template: messages in, the text that a chat model was trained on out.

Knows Jinja and the names that chat templates expect; nothing of tokens or questions. A template is
a program out of a downloaded file, so it runs in Jinja's sandbox. What it writes depends on
nothing but its input: its clock stands still.

    ChatTemplate(source, bos="<s>", eos="</s>").write((Message(role="user", content="Hi"),), True)
    -> "<s><|user|>\nHi<|end|>\n<|assistant|>\n"
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message

# A path is a function of the model, the settings and the question, not of the day. Llama 3's
# template names this day itself where nobody tells it another one.
TODAY = datetime.datetime(2024, 7, 26)
# What a template that does not fit its input can raise, besides Jinja's own errors.
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip
OFF = "`--chat off` asks in plain text"


class ChatTemplate:
    """One compiled template, with the texts of its model's BOS and EOS tokens."""

    def __init__(self, source: str, bos: str = "", eos: str = "", where: str = "") -> None:
        self.names = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        self.where = where or "chat template"
        try:
            self.template = _environment().from_string(source)
        except FAILURES as e:
            raise LmsiError(f"{self.where}: its chat template is broken: {e}", hint=OFF) from None

    def write(self, messages: Sequence[Message], reply: bool) -> str:
        """Write a conversation.

        Args:
            messages: In order; an empty system message is left to the template.
            reply: End where the assistant's next turn begins.

        Raises:
            LmsiError: The template refuses these messages; in its own words.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self.template.render(messages=turns, add_generation_prompt=reply, **self.names)
        except FAILURES as e:
            told = f"{self.where}: its chat template refuses the prompt: {e}"
            raise LmsiError(told, hint=f"try `--few-shot message`, or {OFF}") from None


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
