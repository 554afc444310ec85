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


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every command's settings."""
