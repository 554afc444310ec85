"""Questions that workers have, or had: what has not come of each, and what happened to it.

Knows ids and path numbers; nothing of workers or blocks. An open question is a few bytes beside its
id, whatever the number of its paths; one that is closed leaves nothing behind:

    {"q7": 0b101000}     paths 3 and 5 of q7 have not come
    {"q7": 2}            two workers have it; one is the rule, and not written down
    {"q7": Marks(deaths=1, beside=0)}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Marks(NamedTuple):
    """Deaths of workers that had a question in work, and of those where it waited its turn."""

    deaths: int = 0
    beside: int = 0


class OpenQuestions:
    """All that is open; ``paths`` of it have not come."""

    def __init__(self) -> None:
        self.paths = 0
        self._left: dict[str, int] = {}
        self._holders: dict[str, int] = {}  # where it is not one
        self._marks: dict[str, Marks] = {}

    def __len__(self) -> int:
        """Count the questions."""
        return len(self._left)

    def __contains__(self, question_id: str) -> bool:
        """Say whether it is open."""
        return question_id in self._left

    def open(self, question_id: str, paths: Iterable[int]) -> None:
        """One worker has it from now on, for these paths, at least one."""
        bits = sum(1 << path for path in paths)
        self._left[question_id] = bits
        self.paths += bits.bit_count()

    def came(self, question_id: str, path: int) -> bool:
        """A path has come; says whether that was lacking. With its last path a question closes."""
        left = self._left.get(question_id, 0)
        if path < 0 or not left >> path & 1:
            return False
        self.paths -= 1
        self._left[question_id] = left = left ^ 1 << path
        if not left:
            self.close(question_id)
        return True

    def close(self, question_id: str) -> int:
        """What it still lacks is not wanted; says how many paths that are."""
        lacked = self._left.pop(question_id, 0).bit_count()
        self._holders.pop(question_id, None)
        self._marks.pop(question_id, None)
        self.paths -= lacked
        return lacked

    def lacking(self, questions: Iterable[str]) -> list[str]:
        """Those of these questions that are open."""
        return [q for q in questions if q in self._left]

    def count(self, questions: Iterable[str]) -> int:
        """How many paths of these questions have not come."""
        return sum(self._left.get(q, 0).bit_count() for q in questions)

    def paths_of(self, question_id: str) -> tuple[int, ...]:
        """The numbers of those of one question, in order."""
        bits = self._left.get(question_id, 0)
        return tuple(i for i in range(bits.bit_length()) if bits >> i & 1)

    def up_to(self, questions: Iterable[str], paths: int) -> list[str]:
        """Take whole questions until there are about so many paths; at least one question."""
        taken: list[str] = []
        for question_id in questions:
            paths -= self._left[question_id].bit_count()
            if taken and paths < 0:
                break
            taken.append(question_id)
        return taken

    # -- who has it ------------------------------------------------------------------------

    def holders(self, question_id: str) -> int:
        """How many workers have it."""
        return self._holders.get(question_id, 1)

    def hold(self, question_id: str, more: int) -> int:
        """So many more workers have an open question, or fewer; says how many do now."""
        count = self.holders(question_id) + more
        if count == 1:
            self._holders.pop(question_id, None)
        else:
            self._holders[question_id] = count
        return count

    # -- deaths ----------------------------------------------------------------------------

    def marks(self, question_id: str) -> Marks:
        """The deaths it was there for."""
        return self._marks.get(question_id, Marks())

    def mark(self, questions: Iterable[str], in_work: bool) -> None:
        """A worker died that had these open questions, in work or waiting."""
        for question_id in questions:
            deaths, beside = self.marks(question_id)
            self._marks[question_id] = Marks(deaths + in_work, beside + (not in_work))
