"""When a question is decided, so that no more of its paths need be drawn. Pure functions.

Knows ballots and path numbers; nothing of texts, models, files or where a ballot comes from. Two
criteria, each over the ballots of one question:

    beta:0.95   Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860): the leader is ahead
                of the runner-up with a probability above 0.95
    window:5    Early-Stopping Self-Consistency (Li et al. 2024, arXiv 2401.10480): the ballots are
                cut into consecutive windows of 5, without overlap; all ballots in one agree

Short paths end first, and may answer differently. So ballots count in the order of path numbers,
not of arrival: as long as path k is missing, only paths 0 to k - 1 count. A decision therefore
depends only on what the paths say, not on chance.

    decision = Decision(Stop("beta", 0.95))
    for path, ballot in ((1, "8"), (0, "8"), (4, "8"), (2, None), (3, "8")):
        decision.tell(path, ballot)         # path 2 does not vote
    decision.after                          # 5: paths 0 to 4 decide it, by 4 ballots to none

A stopped question's paths beyond the deciding ones (some ended before one with a lower number) are
kept, and vote. The winner is that of the vote over all its paths, not of a window alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import comb
from typing import NamedTuple

from lmsi_cli.config import NO_STOP, STOP_FORMS, STOP_PATTERN
from lmsi_cli.errors import LmsiError


class Stop(NamedTuple):
    """A criterion: ``beta`` with a probability (0.5 to below 1), or ``window`` with a length."""

    kind: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Stop | None:
        """Read a setting; None for ``none``. LmsiError: it is no setting; says what may be."""
        if not re.search(STOP_PATTERN, text):
            raise LmsiError(f"--stop: expected {STOP_FORMS}, got {text!r}")
        kind, _, limit = text.partition(":")
        return None if text == NO_STOP else cls(kind, float(limit))

    def lacks(self, ballots: Sequence[str]) -> int:
        """Count the fewest further ballots that could decide; 0 if the last of these did.

        The ballots are in order, and none before the last one decided.
        """
        if self.kind == "window":
            size = int(self.limit)
            last = ballots[-(len(ballots) % size or size) :]  # the newest window, whole or not
            agree = len(set(last)) <= 1
            if len(last) == size:
                return 0 if agree else size
            return size - len(last) + (0 if agree else size)
        first, second = ([n for _, n in Counter(ballots).most_common(2)] + [0, 0])[:2]
        lead = first
        while lead_probability(lead, second) <= self.limit:
            lead += 1
        return lead - first


def lead_probability(first: int, second: int) -> float:
    """Probability that the leader is the likelier of the two answers with the most ballots.

    The two answers' shares have a uniform prior, and further answers are ignored: this is the upper
    half of Beta(first + 1, second + 1), equation 1 of arXiv 2305.11860. For whole counts it is a
    binomial sum, exact here to the last digit of a float. The authors' code also stops where it
    equals the limit; with limits such as 0.95 or 0.99 it never does, as it is a multiple of a power
    of 1/2. ``second`` is at most ``first``, and 0 if there is no runner-up.
    """
    n = first + second + 1
    ways = sum(comb(n, k) for k in range(first + 1))
    return ways / (1 << n)


class Decision:
    """Ballots of one question, reported in any order, and whether and where they decide it.

    ``after`` is the number of paths that decided, from path 0 on, or ``None``; once set it never
    changes, whatever is reported later. ``needed`` is the least that it can be: paths with a lower
    number are never drawn in vain.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.after: int | None = None
        self._by_path: dict[int, str | None] = {}
        self._ballots: list[str] = []
        self._next = 0
        self.needed = stop.lacks([])

    def stopped(self, paths: int) -> bool:
        """Whether some of the first ``paths`` paths are missing because they are not needed."""
        return self.after is not None and any(i not in self._by_path for i in range(paths))

    def tell(self, path: int, ballot: str | None) -> None:
        """Report the ballot of a path that has ended; ``None`` if it does not vote."""
        self._by_path[path] = ballot
        while self.after is None and self._next in self._by_path:
            cast = self._by_path[self._next]
            self._next += 1
            if cast is not None:
                self._ballots.append(cast)
            lacking = self.stop.lacks(self._ballots)
            self.needed = self._next + lacking
            self.after = None if lacking else self._next
