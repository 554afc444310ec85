"""Chains: one owner, whose things come and go in a row of events.

The chain is one of the known families and, with more events, one of the harder ones, so it has a
file of its own. The order of the draws is part of the recipe (see ``families.py``).

This file does not know when an answer is too large: the callers draw again.

How to run it: it is imported, never run.

One record, as ``chain(Random(2))`` gives it::

    question  Farah has 19 stickers. Wendy brings as many stickers as Farah has. How many ...
    steps     ("Farah then has", "19 * 2", 38)
    combined  ( 19 ) * 2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from stories import (
    CONTAINERS,
    ITEMS,
    NAMES,
    Problem,
    Step,
    add,
    divide,
    make_problem,
    multiply,
    other_name,
    pick,
    subtract,
)


@dataclass
class _State:
    """A chain while it is told: ``count`` things so far, by ``expression``."""

    rng: Random
    long: bool
    name: str
    item: str
    other: str
    count: int
    expression: str
    story: list[str]
    steps: list[Step] = field(default_factory=list)

    def tell(self, *wordings: str) -> None:
        self.story.append(pick(self.rng, *wordings))

    def lead(self, *wordings: str) -> str:
        return pick(self.rng, *wordings)

    def record(self, steps: list[Step], expression: str) -> None:
        self.steps += steps
        self.count, self.expression = steps[-1].result, expression


def _draw(rng: Random, low: int, high: int, *, long: bool) -> int:
    """Draw from a range, where a long chain takes 5 to 7 for a short one's 2 to 4.

    That rule sets the number of events. It also meets the number given to each friend when at
    most 4 are left for each, and 5 or more are then too many, so long chains skip that event. The
    weights have read such text, hence the rule covers both.
    """
    value = rng.randint(low, high)
    return value + 3 if long and (low, high) == (2, 4) else value


def _get(s: _State) -> None:
    k = s.rng.randint(3, 60)
    s.tell(
        f"{s.other} gives {s.name} {k} more {s.item}.",
        f"Then {s.name} finds {k} {s.item}.",
        f"{s.name} gets {k} more {s.item}.",
    )
    lead = s.lead(f"{s.name} now has", "That makes", "After that there are")
    s.record([add(lead, s.count, k)], f"{s.expression} + {k}")


def _lose(s: _State) -> None:
    if s.count <= 6:
        return
    k = s.rng.randint(2, min(60, s.count - 1))
    s.tell(
        f"{s.name} gives {k} {s.item} to {s.other}.",
        f"Then {s.name} loses {k} {s.item}.",
        f"{s.name} sells {k} of them.",
    )
    lead = s.lead(f"{s.name} is left with", "That leaves", "After that there are")
    s.record([subtract(lead, s.count, k)], f"{s.expression} - {k}")


def _get_packs(s: _State) -> None:
    packs, each = s.rng.randint(2, 15), s.rng.randint(3, 24)
    box = s.rng.choice(CONTAINERS)
    s.tell(
        f"{s.name} buys {packs} {box} of {each} {s.item} each.",
        f"Then {packs} {box} with {each} {s.item} in each arrive.",
        f"{s.other} brings {packs} {box}, each with {each} {s.item}.",
    )
    hold = s.lead(f"The {box} hold", f"{s.name} gets", f"In the {box} there are")
    total = s.lead("In total that is", f"Now {s.name} has", "Together there are")
    steps = [multiply(hold, packs, each), add(total, s.count, packs * each)]
    s.record(steps, f"{s.expression} + {packs} * {each}")


def _give_each(s: _State) -> None:
    if s.count <= 20:
        return
    takers = s.rng.randint(2, 9)
    most = max(2, min(15, (s.count - 1) // takers))
    each = _draw(s.rng, 2, most, long=s.long)
    if takers * each >= s.count:
        return
    s.tell(
        f"{s.name} gives {each} {s.item} to each of {takers} friends.",
        f"Each of {takers} children takes {each} {s.item}.",
        f"{s.name} uses {each} {s.item} a day for {takers} days.",
    )
    taken = s.lead("They take", "That uses up", "Gone are")
    left = s.lead("So there remain", f"{s.name} still has", "Left are")
    steps = [multiply(taken, takers, each), subtract(left, s.count, takers * each)]
    s.record(steps, f"{s.expression} - {takers} * {each}")


def _half(s: _State) -> None:
    if s.count % 2 or s.count <= 9:
        return
    s.tell(f"{s.name} gives half of them to {s.other}.", f"Half of the {s.item} are sold.")
    lead = s.lead("Half is", f"{s.name} keeps")
    s.record([divide(lead, s.count, 2)], f"( {s.expression} ) / 2")


def _double(s: _State) -> None:
    if s.count >= 200:
        return
    s.tell(
        f"Then {s.name} doubles the number of {s.item}.",
        f"{s.other} brings as many {s.item} as {s.name} has.",
    )
    lead = s.lead("Doubling gives", f"{s.name} then has")
    s.record([multiply(lead, s.count, 2)], f"( {s.expression} ) * 2")


EVENTS: tuple[Callable[[_State], None], ...] = (
    _get, _lose, _get_packs, _get_packs, _give_each, _half, _double
)  # fmt: skip


def chain(rng: Random, *, long: bool = False) -> Problem:
    """One owner and two to four events, five to seven if ``long``; some events fall away."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    count = rng.randint(8, 95)
    opening = pick(
        rng,
        f"{name} has {count} {item}.",
        f"{name} starts with {count} {item}.",
        f"There are {count} {item} in {name}'s room.",
    )
    state = _State(
        rng, long, name, item, other_name(rng, name), count, expression=str(count), story=[opening]
    )
    for _ in range(_draw(rng, 2, 4, long=long)):
        rng.choice(EVENTS)(state)
    state.tell(
        f"How many {item} does {name} have now?",
        f"How many {item} are there in the end?",
        f"How many {item} does {name} have left?",
    )
    return make_problem("chain", state.story, state.steps, state.expression)
