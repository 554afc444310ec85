"""Which worker draws which questions: a state machine without clocks, threads or networks.

Knows question ids, path numbers and seconds that it is told; nothing of Ray, engines or files, so
that a simulation can drive it. All of it, in the order in which it is called:

    dispatch = Dispatcher(iter([Item("q1", (0, 1, 2)), Item("q2", (0,))]), paths=4)
    dispatch.join("a", now=0.0)                  # a worker is ready
    dispatch.give("a", now=0.0)                  # -> Block(number=0, items=(Item("q1", ...),)) or
                                                 #    None: it has enough, or nothing is left
    dispatch.result("a", "q1", 2)                # -> True: keep it; False: a duplicate, drop it
    dispatch.ended("a", 0, now=9.5)              # -> 1: a question is decided with fewer paths
    dispatch.died("b", now=9.9)                  # its questions go back, less the paths that came
    dispatch.refused("q2")                       # it does not fit the model: nobody tries it again
    dispatch.done                                # nothing is left and nothing is open
    dispatch.set_apart                           # questions that killed every worker they met

Blocks are sized by ``sizing.py``. A question lies whole in one. A worker has a block in work and
one waiting, so it is never idle for the length of a message, and what it holds is bounded. When
nothing is left, idle workers draw what is out longest as well (``copies.py``): a question closes
with the last path that was lacking, whoever drew it, and the work may be done while some still
draw. Only the block in work is blamed for a death. Memory follows what workers hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from lmsi_cli.cluster.copies import Copies, Given
from lmsi_cli.cluster.opened import OpenQuestions
from lmsi_cli.cluster.sizing import Pace, Sizing, Speed, paths_of, seconds

PIECES = 8  # that a block falls into whose worker died, so that a deadly question is soon alone
FRUITLESS = 10  # deaths in a row without one path between them, per worker, that are borne


class Item(NamedTuple):
    """A question and the numbers of the paths that it lacks, at least one."""

    question_id: str
    paths: tuple[int, ...]


class Block(NamedTuple):
    """Questions that one worker draws together."""

    number: int
    items: tuple[Item, ...]

    @property
    def paths(self) -> int:
        """How many paths are to be drawn."""
        return sum(len(item.paths) for item in self.items)


class _Worker:
    """What is known of a worker: the blocks it holds, the oldest first, and its speed."""

    def __init__(self) -> None:
        self.given: dict[int, Given] = {}
        self.speed = Speed()
        self.doubled: set[str] = set()  # open questions of which another's path came first


class _Piece(NamedTuple):
    """Questions that nobody has any more; ``paths`` is what they lacked then."""

    questions: list[str]
    alone: bool
    paths: int


class Dispatcher:
    """Gives blocks to workers, takes their results once each, and survives their deaths.

    Workers are named by strings; one that is started again needs a new name. ``now`` is in
    seconds, on any clock that does not run backwards.
    """

    def __init__(self, items: Iterator[Item], paths: int, sizing: Sizing | None = None) -> None:
        """Begin.

        Args:
            items: Read one by one as blocks are given, each question once.
            paths: How many paths they lack together; a guess will do, it only sizes blocks.
            sizing: How blocks are cut.
        """
        self.sizing = sizing or Sizing()
        self.waiting = paths  # paths that no worker ever had, as far as is known
        self.set_apart: list[Item] = []
        self._items, self._next = items, next(items, None)
        self._opened = OpenQuestions()
        self._copies = Copies(self._opened, self.sizing)
        self._returned: deque[_Piece] = deque()
        self._returned_paths = 0
        self._workers: dict[str, _Worker] = {}
        self._pace = Pace()
        self._number = self._fruitless = 0

    @property
    def done(self) -> bool:
        """Nothing is left to give and nothing is open."""
        return self._next is None and not self._opened

    @property
    def hopeless(self) -> bool:
        """Workers die one after another and no path comes."""
        return self._fruitless >= FRUITLESS * max(1, len(self._workers))

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of those that are there."""
        return tuple(self._workers)

    @property
    def open_paths(self) -> int:
        """Paths that are given, or returned, and have not come."""
        return self._opened.paths

    def holds(self, worker: str) -> bool:
        """Whether a worker is there and has a block."""
        return worker in self._workers and bool(self._workers[worker].given)

    def open(self, question_id: str) -> bool:
        """Whether a path of a question may still come that is to be kept."""
        return question_id in self._opened

    def join(self, worker: str, now: float) -> None:
        """A worker is ready for blocks."""
        assert worker not in self._workers
        self._workers[worker] = _Worker()
        self._workers[worker].speed.begin(now)

    def give(self, worker: str, now: float) -> Block | None:
        """The next block for a worker; None if it has enough or nothing is left."""
        held = self._workers[worker]
        long = seconds(self.sizing, self._free_paths, self._pace.of(len(self._workers)))
        given = self._one(held, long, now) if self._has_room(held, long) else None
        if given is None:
            return None
        if not held.given:
            held.speed.begin(now)
        held.given[given.number] = given
        self._copies.given(given)
        return Block(given.number, tuple(map(self._item, given.questions)))

    def result(self, worker: str, question_id: str, path: int) -> bool:
        """A path has come; says whether it is the first with this key.

        That of a worker which is held for dead counts as any other.
        """
        held = self._workers.get(worker)
        if held is not None:
            held.speed.came += 1
        if self._opened.came(question_id, path):
            self._fruitless = 0
            return True
        if held is not None and question_id in self._opened:
            held.doubled.add(question_id)
        return False

    def ended(self, worker: str, number: int, now: float) -> int:
        """A worker is through with a block; says how many questions that decides.

        What such a question lacks is not wanted any more. But if another's path came before one of
        this worker's, its decision may rest on a path that is not kept; then it is not the last.
        """
        held = self._workers.get(worker)
        given = held.given.pop(number, None) if held else None
        if held is None or given is None:  # it was given to another in the meantime
            return 0
        before = held.speed.rate
        held.speed.measure(now)
        self._pace.change(before, held.speed.rate)
        self._copies.gone(number)
        lacking = self._opened.lacking(given.questions)
        doubted = [q for q in lacking if q in held.doubled]
        held.doubled.difference_update(given.questions)
        self._leave(doubted, blamed=False)
        decided = [q for q in lacking if q not in doubted]
        for question_id in decided:
            self._opened.close(question_id)
        return len(decided)

    def died(self, worker: str, now: float) -> None:
        """A worker is gone; what its blocks lack is given again.

        The oldest block was in work and is blamed: it comes back in pieces. The others come back
        as they were; one that waits through several deaths may have been begun early.
        """
        held = self._workers.pop(worker, None)
        if held is None:
            return
        self._fruitless += 1
        self._pace.change(held.speed.rate, None)
        for place, given in enumerate(held.given.values()):
            self._copies.gone(given.number)
            lacking = self._opened.lacking(given.questions)
            self._opened.mark(lacking, in_work=place == 0)
            self._leave(lacking, blamed=place == 0)

    def refused(self, question_id: str) -> bool:
        """A question cannot be drawn (it does not fit); says whether that is news."""
        return self._opened.close(question_id) > 0

    # -- what is given ---------------------------------------------------------------------

    @property
    def _free_paths(self) -> int:
        """Paths that no worker has."""
        return self.waiting + self._returned_paths

    def _has_room(self, held: _Worker, long: float | None) -> bool:
        """Towards the end a block that waits at one worker could be in work at another."""
        tail = long is not None and long <= self.sizing.shortest
        alone = any(given.alone for given in held.given.values())
        return not alone and len(held.given) < (1 if tail else self.sizing.ahead)

    def _one(self, held: _Worker, long: float | None, now: float) -> Given | None:
        """Something to draw for a worker that has room for it."""
        crew, free = len(self._workers), not held.given
        size = paths_of(self.sizing, self._free_paths, long, held.speed.rate, crew)
        found, alone = self._returned_one(size, free)
        copy = 0
        if not found:
            found = self._cut(size)
        if not found and free:
            few = paths_of(self.sizing, self._opened.paths, None, None, crew)
            found, copy = self._copies.take(few, now)
            self._hold(found)
        if not found:
            return None
        self._number += 1
        return Given(self._number - 1, tuple(found), now, alone, copy)

    def _item(self, question_id: str) -> Item:
        return Item(question_id, self._opened.paths_of(question_id))

    def _cut(self, paths: int) -> list[str]:
        """Take new questions until there are about so many paths; at least one question."""
        found: list[str] = []
        taken = 0
        while self._next is not None and (not found or taken + len(self._next.paths) <= paths):
            found.append(self._next.question_id)
            taken += len(self._next.paths)
            self._opened.open(*self._next)
            self._next = next(self._items, None)
        self.waiting = max(0, self.waiting - taken)
        return found

    def _returned_one(self, paths: int, free: bool) -> tuple[list[str], bool]:
        """Questions of a dead worker, less what has come since; any, if this one has no block."""
        for _ in range(len(self._returned)):
            piece = self._returned.popleft()
            if piece.alone and not free:
                self._returned.append(piece)
                continue
            self._returned_paths -= piece.paths
            lacking = self._opened.lacking(piece.questions)
            found = self._opened.up_to(lacking, paths)
            self._back(lacking[len(found) :], piece.alone, first=True)
            self._hold(found)
            if found:
                return found, piece.alone
        return [], False

    def _hold(self, questions: list[str]) -> None:
        for question_id in questions:
            self._opened.hold(question_id, 1)

    # -- what comes back -------------------------------------------------------------------

    def _leave(self, lacking: list[str], blamed: bool) -> None:
        """A worker has these open questions no more: nobody's are given again, or set apart."""
        nobodys = [q for q in lacking if not self._opened.hold(q, -1)]
        if len(nobodys) < len(lacking):  # there is room for another copy
            self._copies.again(g for w in self._workers.values() for g in w.given.values())
        if blamed and len(lacking) == len(nobodys) == 1 and self._deadly(nobodys[0]):
            self.set_apart.append(self._item(nobodys[0]))
            self._opened.close(nobodys[0])
            return
        step = max(1, -(-len(nobodys) // PIECES) if blamed else len(nobodys))
        for at in range(0, len(nobodys), step):
            piece = nobodys[at : at + step]
            self._back(piece, any(map(self._suspect, piece)), first=False)

    def _back(self, questions: list[str], alone: bool, first: bool) -> None:
        """Put questions back into the queue."""
        if questions:
            piece = _Piece(questions, alone, self._opened.count(questions))
            (self._returned.appendleft if first else self._returned.append)(piece)
            self._returned_paths += piece.paths

    def _deadly(self, question_id: str) -> bool:
        return self._opened.marks(question_id).deaths >= self.sizing.deaths

    def _suspect(self, question_id: str) -> bool:
        """It is drawn alone: one more death sets it apart, or it may be the one that was begun."""
        deaths, beside = self._opened.marks(question_id)
        return deaths >= self.sizing.deaths - 1 or beside >= self.sizing.beside
