r"""Thinking blocks: where a reply's own deliberation ends and its answer begins.

Knows two marks and nothing of models, answers or tokens. What stands in a block is no part of the
answer, whatever it says; a block that is never closed leaves no answer at all:

    answer_part("<think>Perhaps the answer is 5.</think>\n\n2 + 2 = 4. The answer is 4.")
    -> "\n\n2 + 2 = 4. The answer is 4."
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def answer_start(text: str) -> int | None:
    """Find where the answer begins: after the last closed block, or at 0 if there is none.

    Returns:
        ``None`` while a block is open: what follows it is not written yet.
    """
    opened, closed = text.rfind(OPEN), text.rfind(CLOSE)
    if opened > closed:
        return None
    return 0 if closed < 0 else closed + len(CLOSE)


def answer_part(text: str) -> str:
    """Cut the thinking off; empty if it never ends."""
    start = answer_start(text)
    return "" if start is None else text[start:]


def left_open(text: str) -> str:
    """Return the block that the end of a prompt leaves open, mark included, or nothing.

    A reply to such a prompt goes on inside the block, so this is where its text begins.
    """
    return text[text.rfind(OPEN) :] if answer_start(text) is None else ""
