"""Values for the variables of a chat template, as they are typed: ``NAME=VALUE``.

Knows the spelling; which variables there are is a template's to say. A value is JSON where it can
be read as that, else the text itself:

    values_of(("enable_thinking=false", "mode=brief"))
    -> {"enable_thinking": False, "mode": "brief"}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lmsi_cli.config.options import opt
from lmsi_cli.errors import LmsiError

FLAG = "--template-var"
FORMS = "NAME=VALUE (enable_thinking=false), of a name in letters, digits and underscores"
PYTHON = {"True": "true", "False": "false", "None": "null"}  # as texts, all of them count as true

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=")]
Variables = tuple[Variable, ...]
TEMPLATE_VAR = opt(
    "Set a variable of the chat template: enable_thinking=false; may be repeated.",
    forms=FORMS,
    repeated=True,
)


def name_of(variable: str) -> str:
    """The name in front of the equals sign."""
    return variable.partition("=")[0]


def values_of(variables: Iterable[str]) -> dict[str, Any]:
    """Read the values, by their names.

    Raises:
        LmsiError: A name is given twice, or a value is spelt as in Python.
    """
    found: dict[str, Any] = {}
    for variable in variables:
        name, _, text = variable.partition("=")
        if name in found:
            raise LmsiError(f"{FLAG} {variable}: {name} is given twice", "give it once")
        if text in PYTHON:
            raise LmsiError(
                f"{FLAG} {variable}: would be the word {text}, not the value",
                hint=f"{FLAG} {name}={PYTHON[text]}; or, for the word, {FLAG} '{name}=\"{text}\"'",
            )
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
