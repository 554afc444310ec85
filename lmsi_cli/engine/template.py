r"""A chat template: messages in, the text that a chat model was trained on out.

Knows the names that chat templates expect, Jinja and its sandbox; nothing of tokens or questions. A
template is a program from a downloaded file and may loop for ever, so a child process runs it. This
module is that child, too: it answers only with ``rendered``. A template's output depends on its
input alone, because its clock stands still.

    ChatTemplate(source, bos="<s>", eos="</s>").write((Message(role="user", content="Hi"),), True)
    -> "<s><|user|>\nHi<|end|>\n<|assistant|>\n"
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmsi_cli.apart import Apart, serve
from lmsi_cli.config import Variables, name_of, values_of
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message

SECONDS = 1.0  # of CPU time for a conversation; an honest one needs a hundredth
OFF = "`--chat off` asks in plain text"
OWN = {"messages", "add_generation_prompt", "bos_token", "eos_token"}  # not for a user to set
NEEDLE = "lmsi needle"
TOO_MUCH = f"it takes over {SECONDS:g} s, or too much memory"
MEMORY = 512 << 20  # bytes of address space; an honest template needs a tenth
LONGEST = 1 << 24  # characters of a prompt
# A path is a function of the model, the settings and the question, not of the day. Llama 3's
# template writes this day itself if it is given no other.
TODAY = datetime.datetime(2024, 7, 26)
# What a template can raise on input that it does not expect, Jinja's own errors included.
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip
_CHILD = Apart("lmsi_cli.engine.template", SECONDS)


class ChatTemplate:
    """One compiled template, the texts of its model's BOS and EOS tokens, a user's variables.

    A name that is not given stays undefined, as in llama.cpp: templates test for ``tools``.
    """

    def __init__(
        self,
        source: str,
        bos: str = "",
        eos: str = "",
        where: str = "",
        variables: Variables = (),
    ) -> None:
        """Compile a template that comes from ``where``.

        LmsiError: it is broken, or has no such variable.
        """
        self.names = {"bos_token": bos, "eos_token": eos, **values_of(variables)}
        self.where, self.variables = where or "chat template", variables
        self.source = source
        found = _CHILD.ask({"source": source}) or {"fails": TOO_MUCH}
        if "fails" in found:
            raise LmsiError(f"{self.where}: its chat template is broken: {found['fails']}", OFF)
        self.knows = [name for name in found["knows"] if name not in OWN]
        for name in map(name_of, variables):
            if name not in self.knows:
                raise LmsiError(
                    f"{self.where}: its chat template has no variable {name!r} to set",
                    hint=f"it has: {', '.join(self.knows) or 'none'}",
                )

    def write(self, messages: Sequence[Message], reply: bool) -> str:
        """Write a conversation; with ``reply``, up to where the assistant's next turn begins.

        LmsiError: the template refuses these messages; quotes its own words.
        """
        form = _listed if self._wants_lists else str
        turns = [{"role": m.role, "content": form(m.content)} for m in messages]
        found = self._rendered(turns, reply)
        if "fails" in found:
            raise self._refusal(found["fails"])
        return str(found["text"])

    def _rendered(self, turns: list[dict[str, Any]], reply: bool) -> dict[str, str]:
        """What the template writes (``text``), or why it does not (``fails``)."""
        given = {"messages": turns, "add_generation_prompt": reply, **self.names}
        found: dict[str, str] | None = _CHILD.ask({"source": self.source, "given": given})
        if found is None:
            raise self._refusal(TOO_MUCH)
        return found

    def _refusal(self, why: str) -> LmsiError:
        problem = f"{self.where}: its chat template refuses the prompt"
        if self.variables:
            known = f"another value, or none; its variables: {', '.join(self.knows)}"
            return LmsiError(f"{problem} with {', '.join(self.variables)}: {why}", hint=known)
        return LmsiError(f"{problem}: {why}", hint=f"try `--set few_shot=message`, or {OFF}")

    @cached_property
    def _wants_lists(self) -> bool:
        """Whether contents have to be lists of parts, as in templates of vision models.

        Detected as in llama.cpp: plain text is missing from the output, the same in a list is not.
        """
        shows = [
            NEEDLE in self._rendered([{"role": "user", "content": content}], False).get("text", "")
            for content in (NEEDLE, _listed(NEEDLE))
        ]
        return shows == [False, True]


def _listed(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def rendered(asked: dict[str, Any]) -> dict[str, Any]:
    """The child's side; an error that is not the template's, such as MemoryError, answers null.

    {"source": "{{ x }}"} -> {"knows": ["x"]}
    {"source": "{{ x }}", "given": {"x": 1}} -> {"text": "1"}, or {"fails": "..."}
    """
    try:
        template, knows = _compiled(asked["source"])
        if "given" not in asked:
            return {"knows": knows}
        text = template.render(**asked["given"])
        text.encode()  # fails on half of a character
    except FAILURES as e:
        return {"fails": str(e)}
    return {"text": text} if len(text) <= LONGEST else {"fails": f"it writes {len(text):,} letters"}


@lru_cache(maxsize=4)
def _compiled(source: str) -> tuple[jinja2.Template, list[str]]:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    env.globals.update(raise_exception=_raise, strftime_now=TODAY.strftime)
    env.filters["tojson"] = _tojson
    parsed = env.parse(source)
    return env.from_string(parsed), sorted(meta.find_undeclared_variables(parsed))


class _Generation(Extension):
    """Ignores ``{% generation %}``, which marks the model's own words for trainers."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own spelling

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Keep what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on.

    Templates give these options, by position too, and no others: ``default`` and ``cls`` would let
    a stranger's file call functions past the sandbox.
    """
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


if __name__ == "__main__":
    serve(rendered, float(sys.argv[1]), MEMORY)
