"""Baskets: several kinds of goods, each with a number and a price.

Two or three kinds make a known family, four or five a harder one, so baskets have a file of their
own. The order of the draws is part of the recipe (see ``families.py``).

This file does not know the other families, nor how a solution is worded.

How to run it: it is imported, never run.

One record, as ``shopping(rng)`` gives it::

    question  Mia goes to the zoo and buys 2 pens at 5 dollars each and 3 mugs at 7 dollars ...
    steps     ("The pens cost", "2 * 5", 10), ("For the mugs Mia pays", "3 * 7", 21), ...
    combined  2 * 5 + 3 * 7
"""

from __future__ import annotations

from random import Random

from stories import (
    GOODS,
    NAMES,
    PLACES,
    Problem,
    Step,
    make_problem,
    multiply,
    pick,
    running_sum,
    subtract,
)

Basket = list[tuple[str, int, int]]  # (goods, how many, dollars each)


def draw_basket(rng: Random, fewest: int, most: int) -> Basket:
    """Choose different goods, with a number and a price for each."""
    goods = rng.sample(GOODS, rng.randint(fewest, most))
    return [(good, rng.randint(2, 14), rng.randint(2, 29)) for good in goods]


def basket_sentence(rng: Random, name: str, basket: Basket) -> str:
    """Tell what was bought; the last kind of goods follows an "and"."""
    *head, last = [f"{count} {good}s at {price} dollars each" for good, count, price in basket]
    return f"{name} goes to the {rng.choice(PLACES)} and buys {', '.join(head)} and {last}."


def basket_steps(rng: Random, name: str, basket: Basket) -> list[Step]:
    """The cost of each kind of goods, then the running total."""
    costs = [
        multiply(pick(rng, f"The {good}s cost", f"For the {good}s {name} pays"), count, price)
        for good, count, price in basket
    ]
    totals = [cost.result for cost in costs]
    return costs + running_sum(rng, totals, ("Together that is", "In total that is"))


def basket_expression(basket: Basket) -> str:
    """``2 * 5 + 3 * 7`` for two kinds of goods."""
    return " + ".join(f"{count} * {price}" for _, count, price in basket)


def shopping(rng: Random) -> Problem:
    """Two or three kinds of goods; then the total, the change, or a coupon."""
    name = rng.choice(NAMES)
    basket = draw_basket(rng, 2, 3)
    story = [basket_sentence(rng, name, basket)]
    steps = basket_steps(rng, name, basket)
    total, combined = steps[-1].result, basket_expression(basket)
    mode = rng.choice(("total", "change", "coupon"))
    if mode == "change":
        bill = (total // 50 + rng.randint(1, 3)) * 50
        paid = f"{name} pays with {bill} dollars. How much change does {name} get?"
        had = f"{name} had {bill} dollars. How many dollars are left?"
        story.append(pick(rng, paid, had))
        steps.append(subtract(pick(rng, "What is left is", "The change is"), bill, total))
        combined = f"{bill} - ( {combined} )"
    elif mode == "coupon":
        off = rng.randint(2, min(25, total - 1))
        story.append(f"A coupon takes {off} dollars off. How much does {name} pay?")
        steps.append(subtract("With the coupon it is", total, off))
        combined = f"{combined} - {off}"
    else:
        story.append(pick(rng, f"How many dollars does {name} spend?", "What is the total cost?"))
    return make_problem("shopping", story, steps, combined)
