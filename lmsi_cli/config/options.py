"""How an option is described, the base of all settings, and values for chat templates.

Knows no command. One option:

    paths: Annotated[int, opt("Paths per question.", "-n/--paths", ge=1)] = 16

Values for chat template variables are typed ``NAME=VALUE``; each template defines its variables.
A value is read as JSON if possible, otherwise as plain text:

    values_of(("enable_thinking=false", "mode=brief"))
    -> {"enable_thinking": False, "mode": "brief"}
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lmsi_cli.errors import LmsiError

DEFAULT_TASK = "auto"
RARE = "--set"  # in place of a setting's own flag
PANELS = {  # of a help page, with their settings; all other options stand above them
    "Model and questions": ("model", "task", "prompt", "chat", "system", "template_var", "limit",
                            "seeds"),
    "Sampling": ("paths", "stop", "temperature", "max_tokens", "seed"),
    "What is kept": ("min_share", "min_votes", "max_paths_per_question",
                     "check_equations", "preset", "formats", "number", "shots", "templates"),
    "Training": ("rank", "lr", "epochs", "max_steps", "batch_size", "max_length", "layers",
                 "val_share", "loss"),
    "Machine": ("engine", "base_url", "cluster", "threads", "gpu_layers", "device"),
}  # fmt: skip
# settings that --help shows; --help-all shows the others as well
EVERYDAY = {"model", "paths", "limit", "prompt", "temperature", "stop", "engine", "modes",
            "min_share", "check_equations", "preset", "rank", "lr", "epochs", "device", "rounds",
            "number", "seeds", "shots", "templates", "to", "type"}  # fmt: skip
PREFIX = "LMSI"  # of variables: LMSI_SAMPLE_PATHS=8 means --paths 8 for every `lmsi sample`


def opt(
    help_: str,
    flag: str = "",
    forms: str = "",
    repeated: bool = False,
    zero: str = "",
    **limits: Any,  # noqa: ANN401
) -> Meta:
    """Describe one option: help text, flags (``-n/--paths``), range, and a pattern in words.

    A list is typed with commas, or with one flag per value if ``repeated``. ``zero`` is a word
    that means 0.
    """
    extra = {"flag": flag, "forms": forms, "repeated": repeated, "zero": zero}
    return Meta(description=help_, extra=extra, **limits)


def rare(help_: str, forms: str = "", zero: str = "", **limits: Any) -> Meta:  # noqa: ANN401
    """Describe a setting without a flag of its own: ``--set NAME=VALUE``, or the config file."""
    return opt(help_, RARE, forms, zero=zero, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every command's settings."""

    @classmethod
    def described(cls) -> dict[str, tuple[Any, ...]]:
        """Each setting's type, the ``Meta`` that ``opt`` or ``rare`` made for it, and its default.

        Settings that hold several values have a tuple as default.
        """
        fields = msgspec.structs.fields(cls)
        return {f.name: (*typing.get_args(f.type), f.default) for f in fields}


TEMPLATE_FLAG = "--template-var"
# as text, each of them would count as true
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=")]
Variables = tuple[Variable, ...]
TEMPLATE_VAR = opt(
    "Set a variable of the chat template: enable_thinking=false; may be repeated.",
    forms="NAME=VALUE (enable_thinking=false), of a name in letters, digits and underscores",
    repeated=True,
)


def name_of(variable: str) -> str:
    """The name in front of the equals sign."""
    return variable.partition("=")[0]


def values_of(variables: Iterable[str]) -> dict[str, Any]:
    """Read values by name; LmsiError: a name is given twice, or a value is spelt as in Python."""
    found: dict[str, Any] = {}
    for variable in variables:
        name, _, text = variable.partition("=")
        if name in found:
            raise LmsiError(f"{TEMPLATE_FLAG} {variable}: {name} is given twice", "give it once")
        if text in PYTHON_WORDS:
            typed = f"{TEMPLATE_FLAG} {name}={PYTHON_WORDS[text]}"
            raise LmsiError(
                f"{TEMPLATE_FLAG} {variable}: would be the word {text}, not the value",
                hint=f"{typed}; or, for the word, {TEMPLATE_FLAG} '{name}=\"{text}\"'",
            )
        try:
            found[name] = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            found[name] = text
    return found
