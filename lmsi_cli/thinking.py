r"""Thinking blocks: where a reply's own deliberation ends and its answer begins.

Knows the marks of several families and nothing of models, answers or tokens. Text in a block is
never part of the answer, whatever it says; a block that is never closed leaves no answer at all:

    answer_part("<think>Perhaps the answer is 5.</think>\n\n2 + 2 = 4. The answer is 4.")
    -> "\n\n2 + 2 = 4. The answer is 4."

Granite 3 thinks in plain words: "Here is my thought process: ... Here is my response: ...".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MARKS = (  # as the templates of the families write them
    ("<think>", "</think>"),  # Qwen 3, DeepSeek R1 and most others
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<thought>", "</thought>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
# The tokens that spell the marks where these are control tokens; a path's text must include them.
TOKENS = frozenset({mark for pair in MARKS[:4] for mark in pair}) | {
    "<|channel|>", "<|message|>", "<unused94>", "<unused95>", "<|channel>", "<channel|>",
}  # fmt: skip
_OPENING = tuple(mark for mark, _ in MARKS)
_CLOSING = tuple(mark for _, mark in MARKS)
_HEADING = re.compile(r"\s*Here(?: is|['\u2019]s) my thought process:")
_RESPONSE = re.compile(r"Here(?: is|['\u2019]s) my response:")


def answer_start(text: str) -> int | None:
    """Find where the answer begins: after the last closed block, or at 0 if there is none.

    None while a block is open: the answer is not written yet.
    """
    if _HEADING.match(text):
        response = _RESPONSE.search(text)
        return response.end() if response else None
    if "<" not in text and "[" not in text:
        return 0
    opened, _ = _last(text, _OPENING)
    closed, end = _last(text, _CLOSING)
    return None if opened > closed else end


def answer_part(text: str) -> str:
    """Cut the thinking off; empty if it never ends."""
    start = answer_start(text)
    return "" if start is None else text[start:]


def left_open(text: str) -> str:
    """Return the block that the end of a prompt leaves open, with its mark; empty if there is none.

    A reply to such a prompt continues inside the block, so its text begins with this.
    """
    at, _ = _last(text, _OPENING)
    return text[at:] if at >= 0 and answer_start(text) is None else ""


def closing(block: str) -> str:
    """The mark that closes a block that ``left_open`` returned; empty if there was none."""
    return next((close for open_, close in MARKS if block.startswith(open_)), "")


def _last(text: str, marks: Sequence[str]) -> tuple[int, int]:
    """Where the last of some marks begins and ends; (-1, 0) if there is none."""
    return max((at, at + len(m)) if (at := text.rfind(m)) >= 0 else (-1, 0) for m in marks)
