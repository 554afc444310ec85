"""Measures of a rationale's text that filters go by: repetition, scripts, likeness.

Knows words and characters; nothing of votes, answers or settings. Every measure is a share:

    repetition("so it is 4 so it is 4 so it is 4")          # 0.56: 5 of 9 runs came before
    foreign_share("So \u03c0 is 3", "How much is pi?")         # 0.2: 1 of 5 letters is Greek
    likeness("we add 1 + 1 = 2", "so we add 1 + 1 = 2")     # 0.83: 5 of 6 triples are shared
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

RUN = 4  # words; a phrase such as "the answer is" comes back in good texts too
SHINGLE = 3  # words; as usual for near-duplicates (Broder 1997)


def repetition(text: str) -> float:
    """Share of the runs of four words that stood in the text before; 0 for fewer words."""
    runs = _runs(text, RUN)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def foreign_share(text: str, home: str) -> float:
    """Share of a text's letters that are of scripts which ``home`` does not use.

    Args:
        text: What the model wrote; without letters the share is 0.
        home: What it was asked; scripts of one letter count.
    """
    here = _scripts(text)
    known = set(_scripts(home))
    return sum(script not in known for script in here) / len(here) if here else 0.0


def likeness(one: str, other: str) -> float:
    """Share of the runs of three words that two texts have in common (Jaccard)."""
    a, b = set(_runs(one, SHINGLE)), set(_runs(other, SHINGLE))
    return len(a & b) / len(a | b) if a or b else float(one.split() == other.split())


def _runs(text: str, length: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def _scripts(text: str) -> list[str]:
    return [_script(c) for c in text if c.isalpha()]


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Name a letter's script: the first word of its Unicode name. Japanese writes with three."""
    first = unicodedata.name(letter, "?").split()[0]
    return "CJK" if first in ("HIRAGANA", "KATAKANA") else first
