"""What every family of word problems shares: the words, the problem record, exact arithmetic.

A problem is a short program over whole numbers, told as a story. It is kept as its steps and as
one combined expression, so that a solution can be written in more than one way.

This file does not know the families (``families.py``, ``hard_families.py``,
``unseen_families.py``) nor how a solution reads (``solutions.py``). The order of the words in each
table is part of the recipe: equal seeds give equal problems only while the tables stay as they are.

How to run it: it is imported, never run.

One record::

    Problem(family="units", question="Ben buys 3 dozen eggs and gives 6 away. ...",
            steps=(Step("Ben buys", "3 * 12", 36), Step("The rest is", "36 - 6", 30), ...),
            combined="( 3 * 12 - 6 ) * 2")
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words("""
Tom Anna Ben Clara David Ella Frank Grace Henry Ivy Jack Kate Leo Mia Noah Olivia Paul Quinn Rosa
Sam Tina Uma Victor Wendy Xavier Yara Zoe Adam Bella Carl Diana Ethan Fiona George Hana Isaac
Julia Kevin Laura Martin Nina Oscar Priya Raj Sara Tariq Ursula Vera Will Yusuf Amir Bianca Chen
Dora Elias Farah Gita Hugo Ines Jonas
""")
ITEMS = _words("""
apples oranges marbles stickers pencils books cookies coins cards stamps shells toys balloons
candies flowers eggs bottles crayons buttons beads peaches pears muffins tickets ribbons stones
cupcakes lemons plums notebooks puzzles kites hats rings keys cups plates towels magnets badges
""")
GOODS = _words("""
pen notebook sandwich book shirt cake toy mug hat lamp ball scarf plant bag puzzle magazine candle
poster ticket brush bowl belt clock pillow drum kite jacket game
""")
CONTAINERS = _words("boxes bags packs baskets crates jars trays cartons bundles drawers")
PLACES = _words("""
farm school library market bakery park zoo museum garden shop office factory theater stadium camp
""")
JOBS = _words("""
baker teacher gardener painter driver cleaner waiter builder tailor printer fisher potter
""")
FURNITURE = ("chairs", "trees", "desks", "tiles", "plants", "seats", "lamps")


@dataclass(frozen=True)
class Step:
    """One operation of a solution: ``lead expression = result``."""

    lead: str
    expression: str
    result: int


@dataclass(frozen=True)
class Problem:
    """A story with a question, and the arithmetic that answers it."""

    family: str
    question: str
    steps: tuple[Step, ...]
    combined: str

    @property
    def answer(self) -> int:
        """The result of the last step; a problem without steps has none to give."""
        return self.steps[-1].result


def make_problem(
    family: str, story: Sequence[str], steps: Sequence[Step], combined: str
) -> Problem:
    """Join the sentences of a story into a problem."""
    return Problem(family, " ".join(story), tuple(steps), combined)


def pick(rng: Random, *options: str) -> str:
    """Choose one wording. One draw from the generator, whatever the options."""
    return options[rng.randrange(len(options))]


def other_name(rng: Random, name: str) -> str:
    """Choose a name that is not ``name``."""
    return rng.choice([n for n in NAMES if n != name])


def add(lead: str, left: int, right: int) -> Step:
    """``Step("Now", "2 + 3", 5)`` from ``add("Now", 2, 3)``."""
    return Step(lead, f"{left} + {right}", left + right)


def subtract(lead: str, left: int, right: int) -> Step:
    """``Step("Left are", "5 - 3", 2)`` from ``subtract("Left are", 5, 3)``."""
    return Step(lead, f"{left} - {right}", left - right)


def multiply(lead: str, left: int, right: int) -> Step:
    """``Step("They cost", "2 * 3", 6)`` from ``multiply("They cost", 2, 3)``."""
    return Step(lead, f"{left} * {right}", left * right)


def divide(lead: str, left: int, right: int) -> Step:
    """``Step("Each gets", "6 / 3", 2)`` from ``divide("Each gets", 6, 3)``.

    The families choose numbers that divide without a rest, so ``//`` loses nothing.
    """
    return Step(lead, f"{left} / {right}", left // right)


def running_sum(rng: Random, values: list[int], leads: tuple[str, str]) -> list[Step]:
    """Add up from left to right, one step a value."""
    steps: list[Step] = []
    total = values[0]
    for value in values[1:]:
        steps.append(add(pick(rng, *leads), total, value))
        total += value
    return steps


def exact_value(expression: str) -> int:
    """Evaluate ``+ - * /`` and parentheses over whole numbers, without ``eval``.

    Args:
        expression: for example ``"( 3 * 12 - 6 ) / 2"``.

    Returns:
        The value; for the example, 15.

    Raises:
        ValueError: where the text holds anything else, or a division leaves a rest.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"not an expression: {expression!r}") from error
    return _value(tree.body)


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if not isinstance(node, ast.BinOp):
        raise ValueError(f"only whole numbers and + - * / are allowed, not {ast.unparse(node)!r}")
    left, right = _value(node.left), _value(node.right)
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if right and left % right == 0:
            return left // right
    raise ValueError(f"no whole-number value: {ast.unparse(node)!r}")
