r"""Where a text stops answering its question and goes on to another one.

Knows the labels of questions and of speakers, and nothing of answers. A model that does not stop
writes the next question, or both sides of a conversation; what follows is not its answer:

    before_run_on("That makes 12.\n\nUser: And 7 + 8?\nAssistant: 15") -> "That makes 12.\n"

A reply may also begin by repeating its own question, and that is no next one:

    before_run_on("Question: 6 * 2?\nAnswer: 12") -> all of it
    before_run_on("Sure, here it is:\n\n**Question:** 6 * 2?\n12") -> all of it
"""

from __future__ import annotations

import re

_TASK = r"[Qq]uestion|QUESTION|[Pp]roblem|PROBLEM|[Ee]xercise"
# A line that opens with a label and a colon, a numbered label, or is a heading of nothing else.
_TURN = re.compile(
    r"\n(?P<marks>[ \t#*>_]*+)"
    rf"(?:(?P<next>(?:[Nn]ext|[Nn]ew)[ ](?:{_TASK})|Q|User|Human|USER|HUMAN)"
    rf"|(?P<reply>Assistant|ASSISTANT)|(?P<task>{_TASK}|[Ii]nstructions?|[Ii]nput))"
    r"(?P<number>[ \t]*#?[0-9]+[a-z]?)?(?P<close>[*_]*[ \t]*[*_]*[:.)]|[*_]*[ \t]*(?=\n))"
)
# Before the question that a reply repeats stand a few words, as "Sure, let's solve this."
_INTRODUCED = re.compile(
    r"\s*(?:(?i:sure|certainly|of course|okay|ok|let|here|first|to (?:solve|answer|find)|i will"
    r"|i['\u2019]ll|given|this is|we (?:have|are given))\b[^\n]*|[^\n]*\w[^\n]*:[*_ \t]*)\s*"
)
_ASKED = re.compile(rf"[ \t#*>_]*(?:Q|User|Human|USER|HUMAN|{_TASK})[^\w\n]*:")
_INTRODUCTION = 300  # characters


def before_run_on(text: str) -> str:
    """Cut a path before a next question, or before another speaker's turn."""
    at = next_turn(text + "\n") if "\n" in text else None
    return text if at is None else text[:at]


def next_turn(text: str, start: int = 0, reply: int = 0) -> int | None:
    """Find where a growing text goes on to another question or speaker.

    Args:
        text: The path so far; a heading counts once its line has ended.
        start: Search from here.
        reply: Where the reply itself begins, which may repeat its own question.

    Returns:
        The position of the newline before the label, or ``None``.
    """
    for found in _TURN.finditer(text, start):
        if _is_turn(found) and not _repeats(found, text[reply : found.start()]):
            return found.start()
    return None


def _is_turn(found: re.Match[str]) -> bool:
    """Whether a line that begins with a label's word is one: by its colon, number or marks."""
    heading = "#" in found["marks"] or (found["marks"] + found["close"]).count("**") > 1
    if found["close"].endswith(":"):
        return heading or not (found["task"] or "").lower().startswith("in")
    return bool(found["task"]) and (
        bool(found["number"]) or (heading and found["close"][-1:] not in ".)")
    )


def _repeats(found: re.Match[str], before: str) -> bool:
    """Whether a label belongs to the question that a reply begins by repeating."""
    if found["next"]:
        return False
    if found["reply"]:
        return bool(_ASKED.match(before)) and "\nAssistant" not in before
    return len(before) <= _INTRODUCTION and bool(_INTRODUCED.fullmatch(before))
