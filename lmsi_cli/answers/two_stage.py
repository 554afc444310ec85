r"""The second of two stages: the words that ask for an answer after a rationale, and its reading.

After Kojima et al. 2022 (arXiv 2205.11916): the words depend on the kind of answer, and the first
item of that kind behind them is the answer. Knows nothing of prompts, models or files:

    trigger_of("choice", Asked(choices=("sand", "water", "air")))
    -> "Therefore, among (A) through (C), the answer is"
    extract_second(" 6 * 7 = 42.\nTherefore, the answer (arabic numerals) is 42.", "number")
    -> Extraction(value="42", raw="42", rule="second-stage", start=56, end=58)
"""

from __future__ import annotations

import re
from string import ascii_uppercase

from lmsi_cli.answers.kinds import NOTHING, read_first
from lmsi_cli.answers.places import TRIGGER, Asked, Extraction, Span
from lmsi_cli.answers.sentences import after_marker

SECOND, CUT_OFF = "second-stage", "second-stage-cut"  # rules; of the latter the rationale was cut
WORDS = {
    "number": "Therefore, the answer (arabic numerals) is",
    "choice": "Therefore, among (A) through ({last}), the answer is",
    "yesno": "Therefore, the answer (Yes or No) is",
}
LEAD = " \t\r\n:*_"  # before the answer: blanks, a colon, emphasis
WORDS_ELSE = "Therefore, the final answer is"


def trigger_of(kind: str, asked: Asked = NOTHING, own: str = "") -> str:
    """The words after a rationale that ask for its answer.

    Args:
        kind: A key of ``KINDS``.
        asked: Of a choice, its options: the last one's letter is named.
        own: A task's own words, in place of those of its kind.
    """
    if own.strip():
        return own.strip()
    if kind == "choice" and not asked.choices:
        return WORDS_ELSE
    last = ascii_uppercase[max(len(asked.choices), 1) - 1]
    return WORDS.get(kind, WORDS_ELSE).replace("{last}", last)


def second_stage(text: str, kind: str, own: str = "") -> Span | None:
    """Find the words that ask for the answer, on a line's start; ``None`` in any other path.

    Of several the last: those before it are the rationale's own.
    """
    words = own.strip() or WORDS.get(kind, WORDS_ELSE)
    any_of = [words] if own.strip() or kind != "choice" else [words, WORDS_ELSE]
    spelt = "|".join(re.escape(w).replace(re.escape("{last}"), "[A-Z]") for w in any_of)
    found = list(re.finditer(rf"\n(?:{spelt})", text))
    return Span(*found[-1].span()) if found else None


def extract_second(
    text: str, kind: str = "number", asked: Asked = NOTHING, own: str = "", trigger: str = TRIGGER
) -> Extraction | None:
    """Read the first item of a kind behind the words that ask for it.

    A chat model may answer in a sentence of its own; then the item is looked for behind its
    ``trigger``. ``None`` if the text has no second stage, or no such item in it.
    """
    words = second_stage(text, kind, own)
    if words is None:
        return None
    said = after_marker(text[words.end :], trigger)
    start = words.end + (said.start if said else 0)
    start += len(text[start:]) - len(text[start:].lstrip(LEAD))
    return read_first(text, Span(start, len(text)), kind, SECOND, asked)
