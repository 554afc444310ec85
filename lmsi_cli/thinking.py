r"""Thinking blocks: where a reply's own deliberation ends and its answer begins.

Knows the marks of several families and nothing of models, answers or tokens. What stands in a block
is no part of the answer, whatever it says; a block that is never closed leaves no answer at all:

    answer_part("<think>Perhaps the answer is 5.</think>\n\n2 + 2 = 4. The answer is 4.")
    -> "\n\n2 + 2 = 4. The answer is 4."
"""

from __future__ import annotations

from collections.abc import Sequence

# Qwen 3 and DeepSeek R1 (and most others), Magistral, Seed-OSS: as their templates write them.
MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))


def answer_start(text: str) -> int | None:
    """Find where the answer begins: after the last closed block, or at 0 if there is none.

    Returns:
        ``None`` while a block is open: what follows it is not written yet.
    """
    opened, _ = _last(text, [mark for mark, _ in MARKS])
    closed, end = _last(text, [mark for _, mark in MARKS])
    return None if opened > closed else end


def answer_part(text: str) -> str:
    """Cut the thinking off; empty if it never ends."""
    start = answer_start(text)
    return "" if start is None else text[start:]


def left_open(text: str) -> str:
    """Return the block that the end of a prompt leaves open, mark included, or nothing.

    A reply to such a prompt goes on inside the block, so this is where its text begins.
    """
    at, _ = _last(text, [mark for mark, _ in MARKS])
    return text[at:] if answer_start(text) is None else ""


def closing(block: str) -> str:
    """Tell the mark that closes an open block, as ``left_open`` returned it; empty without one."""
    return next((close for open_, close in MARKS if block.startswith(open_)), "")


def _last(text: str, marks: Sequence[str]) -> tuple[int, int]:
    """Where the last of some marks begins and ends; (-1, 0) if there is none."""
    return max((at, at + len(m)) if (at := text.rfind(m)) >= 0 else (-1, 0) for m in marks)
