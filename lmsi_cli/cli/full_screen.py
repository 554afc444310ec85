"""What the views that fill a terminal have in common: its own colours, and how they end.

Knows Textual; nothing of what is shown. A terminal's default colours and its palette of sixteen are
the user's own choice, so a view is light where the terminal is, and dark where it is that.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import ClassVar, TypeVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.theme import BUILTIN_THEMES

R = TypeVar("R")
_LIGHT = BUILTIN_THEMES["ansi-light"]
# Of the sixteen, magenta is the one that palettes keep readable on white and on black.
TERMINAL = replace(
    _LIGHT,
    name="terminal",
    primary="ansi_magenta",
    variables=_LIGHT.variables
    | {"block-cursor-background": "ansi_magenta", "border": "ansi_magenta"}
    | {f"scrollbar{part}": "ansi_bright_black" for part in ("", "-hover", "-active")}
    | {f"scrollbar-background{part}": "ansi_default" for part in ("", "-hover", "-active")},
)


class FullScreen(App[R]):
    """In the terminal's colours, or in the theme that TEXTUAL_THEME names."""

    ENABLE_COMMAND_PALETTE = False
    DEFAULT_CSS = "FullScreen * { scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self) -> None:
        own = "TEXTUAL_THEME" not in os.environ
        super().__init__(ansi_color=own or None)  # Textual asks before a theme is set
        self.register_theme(TERMINAL)
        if own:
            self.theme = TERMINAL.name
