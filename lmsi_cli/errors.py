"""The one exception that means: the user can fix this.

Knows nothing of the rest of the package. The command line turns it into one line on stderr and
exit code 1, in one place; anything else that escapes is a bug and shows its traceback.

    LmsiError("questions.jsonl:17: missing field 'question'", hint="add it, or delete the line")
"""

from __future__ import annotations

LONGEST = 1_000  # characters of a message


class LmsiError(Exception):
    """A mistake or a state of the machine that the user can put right.

    Args:
        message: What is wrong and where (``file:line: field``), on one line.
        hint: What to type or change next; empty if the message says it all.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(_line(message))
        self.hint = _line(hint)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback."""
        return [f"error: {self}", *([f"hint: {self.hint}"] if self.hint else [])]


def _line(text: str) -> str:
    """Make it one line of readable length: what it quotes from a file may have any length."""
    flat, half = " ".join(text.splitlines()), LONGEST // 2
    return flat if len(flat) <= LONGEST else f"{flat[:half]} ... {flat[-half:]}"
