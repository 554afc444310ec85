"""How large a block is: so many seconds of work at the speed that a worker has shown.

Knows seconds that it is told and counts of paths; nothing of questions. *Guided self-scheduling*:
a block takes a fixed part of the time that all that is left would take all workers, so the first
ones are large and the last ones small, and a slow worker gets less.

    seconds(Sizing(), left=6000, pace=38.0)     # -> 52.6: a third of what two such workers need
"""

from __future__ import annotations

from typing import NamedTuple

AHEAD = 2  # blocks at a worker: one in work, one waiting
FIRST = 64  # paths of a worker's first block, before anything is measured
SHORTEST, LONGEST = 2.0, 120.0  # seconds that a block is meant to take
PART = 3.0  # a block takes one in so many of the seconds that are left
DEATHS = 3  # that a question may be there for, at the last one alone
BESIDE = 2  # deaths that a block may wait through, before it is drawn alone
HOLDERS = 3  # workers that may have a question at once, when nothing else is left
KEEP = 0.5  # weight of what was measured before, at each new measurement
BELIEVED = 1.0  # seconds of work that a speed rests on at least: reports come in bursts
FEWEST = 4  # paths that it rests on at least


class Sizing(NamedTuple):
    """How blocks are cut and copied; the constants above say what each number means."""

    ahead: int = AHEAD
    first: int = FIRST
    shortest: float = SHORTEST
    longest: float = LONGEST
    part: float = PART
    deaths: int = DEATHS
    beside: int = BESIDE
    holders: int = HOLDERS


class Speed:
    """Paths a second of a worker, over the time in which it had something to do."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.came = 0  # since the last measurement
        self._busy = self._since = 0.0

    def begin(self, now: float) -> None:
        """It had nothing to do, and has a block now."""
        self._since = now

    def measure(self, now: float) -> None:
        """Take what has come since the last measurement into the speed, if that is enough."""
        self._busy += max(0.0, now - self._since)
        self._since = max(now, self._since)
        if self._busy < BELIEVED or self.came < FEWEST:
            return
        speed = self.came / self._busy
        self.rate = speed if self.rate is None else KEEP * self.rate + (1 - KEEP) * speed
        self.came, self._busy = 0, 0.0


class Pace:
    """The speeds of all workers together, the unknown ones taken as the mean of the others."""

    def __init__(self) -> None:
        self._total, self._known = 0.0, 0

    def change(self, before: float | None, after: float | None) -> None:
        """A worker's speed was the one and is the other; None if it is not known."""
        self._total += (after or 0.0) - (before or 0.0)
        self._known += (after is not None) - (before is not None)

    def of(self, workers: int) -> float | None:
        """Paths a second of so many; None if no speed is known."""
        return self._total / self._known * workers if self._known and workers else None


def seconds(sizing: Sizing, left: int, pace: float | None) -> float | None:
    """Seconds that a block should take now; None before any worker has been measured."""
    if not pace:
        return None
    return min(max(left / pace / sizing.part, sizing.shortest), sizing.longest)


def paths_of(sizing: Sizing, left: int, long: float | None, rate: float | None, crew: int) -> int:
    """Paths of the next block of a worker; its first ones are for measuring.

    Args:
        sizing: How blocks are cut.
        left: Paths that no worker has.
        long: What ``seconds`` says.
        rate: The worker's speed, if it is known.
        crew: How many workers there are.
    """
    if long is None or rate is None:
        return max(1, int(min(left / (sizing.part * max(1, crew)), sizing.first)))
    return max(1, int(long * rate))
