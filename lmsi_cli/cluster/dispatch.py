"""Which worker draws which questions: a state machine without clocks, threads or networks.

Knows question ids, path numbers and seconds that it is told; nothing of Ray, engines or files, so
that a simulation can drive it. All of it, in the order in which it is called:

    dispatch = Dispatcher(iter([Item("q1", (0, 1, 2)), Item("q2", (0,))]), paths=4)
    dispatch.join("a", now=0.0)                  # a worker is ready
    dispatch.give("a", now=0.0)                  # -> Block(number=0, items=(Item("q1", ...),)) or
                                                 #    None: it has enough, or nothing is left
    dispatch.result("a", "q1", 2)                # -> True: keep it; False: a duplicate, drop it
    dispatch.ended("a", 0, now=9.5)              # the worker is through with block 0
    dispatch.died("b", now=9.9)                  # its questions go back, less the paths that came
    dispatch.refused("q2")                       # it does not fit the model: nobody tries it again
    dispatch.done                                # nothing is left and nothing is open
    dispatch.set_apart                           # questions that killed every worker they met

Blocks are sized by *guided self-scheduling*: each takes a fixed part of the time that all that is
left would take all workers, at the speed that this worker has shown; so the first ones are large
and the last ones small, and a slow worker gets less. A question lies whole in one block. A worker
has a block in work and one or two waiting, so it is never idle for the length of a message, and
what it holds is bounded. Only open blocks are kept: memory follows the workers, not the questions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

AHEAD = 2  # blocks at a worker: one in work, one waiting
FIRST = 64  # paths of a worker's first block, before anything is measured
SHORTEST, LONGEST = 2.0, 120.0  # seconds that a block is meant to take
PART = 3.0  # a block takes one in so many of the seconds that are left
PIECES = 8  # that the block of a dead worker falls into, so that a deadly question is soon alone
DEATHS = 3  # that a question may be there for, at the last one alone
KEEP = 0.5  # weight of what was measured before, at each new measurement
FRUITLESS = 10  # deaths in a row without one path between them, per worker, that are borne


class Item(NamedTuple):
    """A question and the numbers of the paths that it lacks, at least one."""

    question_id: str
    paths: tuple[int, ...]


class Block(NamedTuple):
    """Questions that one worker draws together; ``deaths`` counts workers that died over them."""

    number: int
    items: tuple[Item, ...]
    deaths: int = 0

    @property
    def paths(self) -> int:
        """How many paths are to be drawn."""
        return sum(len(item.paths) for item in self.items)


class Sizing(NamedTuple):
    """How blocks are cut; the constants above say what each number means."""

    ahead: int = AHEAD
    first: int = FIRST
    shortest: float = SHORTEST
    longest: float = LONGEST
    part: float = PART
    deaths: int = DEATHS


class _Worker:
    """What is known of a worker: the blocks it holds and its speed in paths a second."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.rate: float | None = None
        self.since, self.came = 0.0, 0  # since when its paths are counted, and their number

    def measure(self, now: float) -> None:
        """Take the paths since the last measurement into the speed."""
        if now > self.since and self.came:
            speed = self.came / (now - self.since)
            self.rate = speed if self.rate is None else KEEP * self.rate + (1 - KEEP) * speed
        self.since, self.came = now, 0


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
        self.waiting = paths  # paths that no worker has, as far as is known
        self.open_paths = 0  # paths that are given, or returned, and have not come
        self.set_apart: list[Item] = []
        self._items, self._next = items, next(items, None)
        self._returned: deque[Block] = deque()
        self._left: dict[str, set[int]] = {}  # paths of open questions that have not come
        self._workers: dict[str, _Worker] = {}
        self._number = self._fruitless = 0

    @property
    def done(self) -> bool:
        """Nothing is left to give and nothing is open."""
        return self._next is None and not self._left

    @property
    def hopeless(self) -> bool:
        """Workers die one after another and no path comes."""
        return self._fruitless >= FRUITLESS * max(1, len(self._workers))

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of those that are there."""
        return tuple(self._workers)

    def join(self, worker: str, now: float) -> None:
        """A worker is ready for blocks."""
        assert worker not in self._workers
        self._workers[worker] = _Worker()
        self._workers[worker].since = now

    def give(self, worker: str, now: float) -> Block | None:
        """The next block for a worker; None if it has enough or nothing is left."""
        held = self._workers[worker]
        seconds = self._seconds()
        # towards the end a block that waits at one worker could be in work at another
        tail = seconds is not None and seconds <= self.sizing.shortest
        alone = any(self._last_chance(b) for b in held.blocks.values())
        if alone or len(held.blocks) >= (1 if tail else self.sizing.ahead):
            return None
        block = self._returned_one(free=not held.blocks) or self._cut(self._size(held, seconds))
        if block is not None:
            if not held.blocks:
                held.since, held.came = now, 0
            held.blocks[block.number] = block
        return block

    def result(self, worker: str, question_id: str, path: int) -> bool:
        """A path has come; says whether it is the first with this key.

        That of a worker which is held for dead counts as any other.
        """
        if held := self._workers.get(worker):
            held.came += 1
        left = self._left.get(question_id)
        if left is None or path not in left:
            return False
        left.remove(path)
        self.open_paths -= 1
        self._fruitless = 0
        return True

    def ended(self, worker: str, number: int, now: float) -> None:
        """A worker is through with a block; paths that have not come are not wanted any more."""
        held = self._workers.get(worker)
        block = held.blocks.pop(number, None) if held else None
        if held is None or block is None:  # it was given to another in the meantime
            return
        held.measure(now)
        self._forget(block.items)

    def died(self, worker: str, now: float) -> None:
        """A worker is gone; what its blocks lack is given again, in smaller pieces."""
        held = self._workers.pop(worker, None)
        if held is None:
            return
        self._fruitless += 1
        for block in held.blocks.values():
            self._return(block._replace(deaths=block.deaths + 1))

    def refused(self, question_id: str) -> bool:
        """A question cannot be drawn (it does not fit); says whether that is news."""
        left = self._left.get(question_id)
        if not left:
            return False
        self.open_paths -= len(left)
        left.clear()
        return True

    def holds(self, worker: str) -> bool:
        """Whether a worker is there and has a block."""
        return worker in self._workers and bool(self._workers[worker].blocks)

    # -- what is given ---------------------------------------------------------------------

    def _seconds(self) -> float | None:
        """Seconds that a block should take now; None before any worker has been measured."""
        rates = [w.rate for w in self._workers.values() if w.rate]
        if not rates:
            return None
        together = sum(rates) / len(rates) * len(self._workers)
        left = self.waiting / together / self.sizing.part
        return min(max(left, self.sizing.shortest), self.sizing.longest)

    def _size(self, held: _Worker, seconds: float | None) -> int:
        """Paths of the next block of a worker; its first ones are for measuring."""
        fair = self.waiting / (self.sizing.part * max(1, len(self._workers)))
        if seconds is None or held.rate is None:
            return max(1, int(min(fair, self.sizing.first)))
        return max(1, int(seconds * held.rate))

    def _cut(self, paths: int) -> Block | None:
        """Take whole questions until there are about so many paths; at least one question."""
        items: list[Item] = []
        taken = 0
        while self._next is not None and (not items or taken + len(self._next.paths) <= paths):
            items.append(self._next)
            taken += len(self._next.paths)
            self._left[self._next.question_id] = set(self._next.paths)
            self._next = next(self._items, None)
        if not items:
            return None
        self.waiting = max(0, self.waiting - taken)
        self.open_paths += taken
        return self._numbered(items, 0)

    def _numbered(self, items: list[Item], deaths: int) -> Block:
        self._number += 1
        return Block(self._number - 1, tuple(items), deaths)

    def _last_chance(self, block: Block) -> bool:
        """One more death and it is set apart: it is drawn alone, so that no neighbour is blamed."""
        return block.deaths >= self.sizing.deaths - 1

    def _returned_one(self, free: bool) -> Block | None:
        """A block of a dead worker, less what has come since; any, if the worker has no other."""
        for _ in range(len(self._returned)):
            block = self._returned.popleft()
            if not free and self._last_chance(block):
                self._returned.append(block)
                continue
            self.waiting = max(0, self.waiting - block.paths)
            items = self._lacking(block)
            self._forget_whole(block)
            if items:
                return self._numbered(items, block.deaths)
        return None

    # -- what comes back -------------------------------------------------------------------

    def _lacking(self, block: Block) -> list[Item]:
        left = [Item(i.question_id, tuple(sorted(self._left[i.question_id]))) for i in block.items]
        return [item for item in left if item.paths]

    def _return(self, block: Block) -> None:
        """Put what a block lacks back into the queue, or apart if it was the death of too many."""
        items = self._lacking(block)
        self._forget_whole(block)
        if len(items) == 1 and block.deaths >= self.sizing.deaths:
            self.set_apart += items
            self._forget(items)
            return
        step = -(-len(items) // PIECES)
        for at in range(0, len(items), max(1, step)):
            piece = Block(-1, tuple(items[at : at + step]), block.deaths)
            self.waiting += piece.paths
            self._returned.append(piece)

    def _forget_whole(self, block: Block) -> None:
        """Close the questions of which all has come."""
        self._forget([i for i in block.items if not self._left[i.question_id]])

    def _forget(self, items: Sequence[Item]) -> None:
        """Close questions; what they still lack is not wanted."""
        for item in items:
            self.open_paths -= len(self._left.pop(item.question_id, ()))
