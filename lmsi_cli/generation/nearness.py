"""How like the nearest of many texts is: runs of three words that two texts have in common.

Knows words; nothing of questions or files. The share of runs in common (Jaccard) over the
normalised words of ``contamination``, through an index, so that a thousand texts are compared with
a thousand others in seconds.

    index = Nearness()
    index.add("Tom has 3 pens and buys 4.")
    index.nearest("Tom has 3 pens and sells 2.")     # 0.33: 2 of 6 runs are shared
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from lmsi_cli.contamination import same_words

SHINGLE = 3  # words; as usual for near-duplicates (Broder 1997)
Runs = frozenset[tuple[str, ...]]


def runs(text: str) -> Runs:
    """Runs of three words; all words of a shorter text are one run."""
    words = same_words(text).split()
    many = max(1, len(words) - SHINGLE + 1)
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(many))


class Nearness:
    """Texts, and for each run those that hold it."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take one more text."""
        own = runs(text)
        for run in own:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(own))

    def nearest(self, text: str, apart: int | None = None) -> float:
        """Likeness to the most similar text, 0 to 1; 0 where there is none.

        Args:
            text: Any text.
            apart: The place of a text, counted from 0, that is left out: its own.
        """
        own = runs(text)
        shared: Counter[int] = Counter()
        for run in own:
            shared.update(self._holders.get(run, ()))
        if apart is not None:
            del shared[apart]
        size = len(own)
        return max((n / (size + self._sizes[i] - n) for i, n in shared.items()), default=0.0)
