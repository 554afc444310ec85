r"""Text of models and of files, made harmless for a terminal.

Knows which characters steer a terminal instead of being shown; nothing of what the text says.
Control characters, and those that turn the direction of writing, are shown as their escapes:

    printable("4\x1b[2J2") -> "4\\x1b[2J2"
"""

from __future__ import annotations

import re

from rich.text import Text

# All control characters but tab and line end; marks of direction; halves of surrogate pairs.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Replace what steers a terminal; line ends and tabs stay."""
    return _STEERING.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def cell(text: str) -> Text:
    """A text for a table: nothing in it is markup or an emoji's name."""
    return Text(printable(text))
