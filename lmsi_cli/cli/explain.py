"""`lmsi explain`: how the answer of a text is found, rule by rule."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lmsi_cli.answers import TRIGGER
from lmsi_cli.cli.session import Json, show
from lmsi_cli.config import DEFAULT_KIND

TextArgument = Annotated[
    str, typer.Argument(help="What a model wrote; - reads stdin.", show_default=False)
]
Kind = Annotated[
    str, typer.Option("--kind", help="number, choice, yesno, date, span, latex or text.")
]
Asking = Annotated[
    str, typer.Option("--question", help="The question, if its options matter: (A) ... a line.")
]


def explain(
    text: TextArgument,
    kind: Kind = DEFAULT_KIND,
    question: Asking = "",
    json: Json = False,
) -> None:
    """Show every rule that looks for an answer, where it looks, and which one decides.

    Example: lmsi explain "She has 6 * 7 = 42. The answer is 42." --kind number
    """
    from lmsi_cli.answers import Asked, listed
    from lmsi_cli.answers import explain as steps_of
    from lmsi_cli.cli.tables import explained, explanation
    from lmsi_cli.thinking import answer_part

    said = answer_part(_unicode(text))
    steps = steps_of(said, kind, TRIGGER, Asked(listed(question)))
    show(explained(said, steps), json, *explanation(said, steps))


def _unicode(text: str) -> str:
    """The text, or standard input for ``-``; bytes that are not UTF-8 are replaced."""
    data = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    return data.decode("utf-8", "replace")
