"""How one option is described, and the base of every table of settings.

Knows no command. One option:

    paths: Annotated[int, opt("Paths per question.", "-n/--paths", ge=1)] = 16
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Meta

DEFAULT_MODEL = "tinymath"
DEFAULT_TASK = "auto"
RARE = "--set"  # in place of a setting's own flag
PANELS = {  # of a help page, with the settings that each shows; the others stand above them
    "Model and questions": ("model", "task", "prompt", "chat", "system", "template_var", "limit",
                            "scale", "seeds"),
    "Sampling": ("paths", "stop", "temperature", "top_p", "max_tokens", "seed"),
    "What is kept": ("min_share", "min_votes", "max_paths_per_question", "check_equations",
                     "preset", "formats", "number", "shots", "templates"),
    "Training": ("rank", "alpha", "lr", "epochs", "max_steps", "batch_size", "max_length", "layers",
                 "val_share", "loss", "base"),
    "Machine": ("engine", "base_url", "cluster", "threads", "gpu_layers", "device"),
}  # fmt: skip
DEFAULT_KIND = "number"  # of `lmsi explain`, which knows no task


def opt(
    help_: str,
    flag: str = "",
    forms: str = "",
    repeated: bool = False,
    zero: str = "",
    **limits: Any,  # noqa: ANN401
) -> Meta:
    """Describe one option: help text, flags (``-n/--paths``), range, and a pattern in words.

    A list is typed with commas, or with a flag for each value if that is ``repeated``. ``zero`` is
    a word that means 0.
    """
    extra = {"flag": flag, "forms": forms, "repeated": repeated, "zero": zero}
    return Meta(description=help_, extra=extra, **limits)


def rare(help_: str, forms: str = "", zero: str = "", **limits: Any) -> Meta:  # noqa: ANN401
    """Describe a setting without a flag of its own: ``--set NAME=VALUE``, or the config file."""
    extra = {"flag": RARE, "forms": forms, "repeated": False, "zero": zero}
    return Meta(description=help_, extra=extra, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every command's settings."""
