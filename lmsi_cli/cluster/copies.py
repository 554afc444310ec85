"""Which questions an idle worker draws although another has them: those that are out longest.

Knows blocks, since when they are out, and what is open; nothing of workers. A worker that stands
still, is slow, or is dead and nobody knows, would else hold the end of a run up. Blocks are
looked at in the order in which they were given:

    {4: Given(number=4, questions=("q7", "q8"), since=12.5), 6: Given(...)}

A copy is cut from the end of a block, since its worker draws from the front; it is small, since
idle workers are many. Which of two equal paths comes first does not matter: the other is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lmsi_cli.cluster.opened import OpenQuestions
from lmsi_cli.cluster.sizing import Sizing


class Given(NamedTuple):
    """A block at a worker: its questions, since some second.

    ``alone``: with no other block beside it; ``copy`` is 0 for the first block of its questions.
    """

    number: int
    questions: tuple[str, ...]
    since: float
    alone: bool = False
    copy: int = 0


class Copies:
    """The blocks at workers, those out longest first, less those of which nothing can be taken."""

    def __init__(self, opened: OpenQuestions, sizing: Sizing) -> None:
        self._opened, self._sizing = opened, sizing
        self._given: dict[int, Given] = {}

    def given(self, given: Given) -> None:
        """A worker has a block."""
        self._given[given.number] = given

    def gone(self, number: int) -> None:
        """It has it no more."""
        self._given.pop(number, None)

    def again(self, given: Iterable[Given]) -> None:
        """Some questions have fewer holders than before: look at all blocks again."""
        self._given = {g.number: g for g in sorted(given, key=lambda g: g.number)}

    def take(self, paths: int, now: float) -> tuple[list[str], int]:
        """About so many paths of what is out longest, and the how many-eth copy that makes.

        None of a block that is younger than the shortest one is meant to be: it may be done soon.
        """
        while self._given:
            number, oldest = next(iter(self._given.items()))
            if now - oldest.since < self._sizing.shortest:
                break
            found = [q for q in reversed(oldest.questions) if self._may(q, oldest.copy)]
            if found:
                return self._opened.up_to(found, paths), oldest.copy + 1
            del self._given[number]
        return [], 0

    def _may(self, question_id: str, copy: int) -> bool:
        """One more copy of an open question, if the last one is as old as this block."""
        if question_id not in self._opened:
            return False
        holders = self._opened.holders(question_id)
        few = holders <= copy + 1 and holders < self._sizing.holders
        return few and self._opened.marks(question_id).deaths < self._sizing.deaths - 1
