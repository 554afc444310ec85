"""The seven harder families: more items, longer chains, larger numbers, averages, percentages.

The model met these late and briefly, so it half knows them: right often enough to win a vote,
wrong often enough to have something to learn. The order of the draws is part of the recipe (see
``families.py``).

This file does not know how solutions are worded, nor which questions were written to which file.

How to run it, to read one of each family: ``python models/tinymath/recipe/hard_families.py``

One record, as ``draw_hard(rng, "wages_big")`` gives it::

    question  Mia works as a potter and earns 20 dollars an hour. Mia works 6 hours a day ...
    steps     ("In a day Mia earns", "20 * 6", 120), ("In 5 days that is", "120 * 5", 600), ...
    combined  20 * 6 * 5 - 100
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from baskets import basket_expression, basket_sentence, basket_steps, draw_basket
from chains import chain
from families import Family, two_blocks
from stories import (
    FURNITURE,
    GOODS,
    ITEMS,
    JOBS,
    NAMES,
    PLACES,
    Problem,
    Step,
    add,
    divide,
    make_problem,
    multiply,
    pick,
    running_sum,
    subtract,
)

LARGEST_ANSWER = 19999
LARGEST_CHAIN = 4999
FEWEST_CHAIN_STEPS = 5


def shopping_many(rng: Random) -> Problem:
    """Four or five kinds of goods, and the total."""
    name = rng.choice(NAMES)
    basket = draw_basket(rng, 4, 5)
    story = [
        basket_sentence(rng, name, basket),
        pick(rng, f"How many dollars does {name} spend?", "What is the total cost?"),
    ]
    steps = basket_steps(rng, name, basket)
    return make_problem("shopping_many", story, steps, basket_expression(basket))


def chain_long(rng: Random) -> Problem:
    """A chain of five to seven events, of which at least five steps are left."""
    while True:
        problem = chain(Random(rng.random()), long=True)  # a stream of its own: one draw an attempt
        enough = len(problem.steps) >= FEWEST_CHAIN_STEPS
        if enough and 0 < problem.answer <= LARGEST_CHAIN:
            return replace(problem, family="chain_long")


def wages_big(rng: Random) -> Problem:
    """Pay, hours and days as in ``wages``, with larger numbers, less a rent."""
    name, job = rng.choice(NAMES), rng.choice(JOBS)
    pay, hours, days = rng.randint(20, 60), rng.randint(6, 12), rng.randint(5, 25)
    total = pay * hours * days
    rent = rng.randint(100, 900)
    if rent >= total:
        rent = total // 2
    story = [
        f"{name} works as a {job} and earns {pay} dollars an hour.",
        f"{name} works {hours} hours a day for {days} days.",
        f"{name} spends {rent} dollars on rent.",
        f"How many dollars does {name} have left?",
    ]
    steps = [
        multiply(f"In a day {name} earns", pay, hours),
        multiply(f"In {days} days that is", pay * hours, days),
        subtract("What is left is", total, rent),
    ]
    return make_problem("wages_big", story, steps, f"{pay} * {hours} * {days} - {rent}")


def rows_big(rng: Random) -> Problem:
    """Two blocks of rows with two-digit sides."""
    place, thing = rng.choice(PLACES), pick(rng, *FURNITURE)
    a, b, c, d = (rng.randint(12, 60) for _ in range(4))
    story, steps = two_blocks((place, thing), (a, b, c, d))
    story.append(f"How many {thing} are there in total?")
    return make_problem("rows_big", story, steps, f"{a} * {b} + {c} * {d}")


def average(rng: Random) -> Problem:
    """The mean of three or four days, always a whole number."""
    days, mean = rng.randint(3, 4), rng.randint(8, 80)
    values = [rng.randint(max(1, mean - 12), mean + 12) for _ in range(days - 1)]
    last = mean * days - sum(values)
    if last < 1:
        return average(rng)
    values.append(last)
    rng.shuffle(values)
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    *head, tail = map(str, values)
    story = [
        f"{name} sold {', '.join(head)} and {tail} {item} on {days} days.",
        f"What is the average number of {item} sold per day?",
    ]
    steps = running_sum(rng, values, ("Adding gives", "The sum grows to"))
    steps.append(divide("The average is", mean * days, days))
    return make_problem("average", story, steps, f"( {' + '.join(map(str, values))} ) / {days}")


def percent(rng: Random) -> Problem:
    """A discount in percent on several things, or a percentage of people."""
    rate = rng.choice((5, 10, 20, 25, 30, 40, 50, 75))
    base = rng.randint(2, 40) * 20  # a multiple of 20, so that rates in fives leave no rest
    part = base * rate // 100
    name, good = rng.choice(NAMES), rng.choice(GOODS)
    n = rng.randint(2, 9)
    if rng.random() < 0.5:
        return _discount((name, good), base, rate, n)
    m = rng.randint(5, 90)
    story = [
        f"There are {base} people at the {rng.choice(PLACES)}.",
        f"{rate} percent of them are children. Then {m} more children come.",
        "How many children are there now?",
    ]
    first = Step("At first the children are", f"{base} * {rate} / 100", part)
    steps = [first, add("Now there are", part, m)]
    return make_problem("percent", story, steps, f"{base} * {rate} / 100 + {m}")


def _discount(words: tuple[str, str], base: int, rate: int, n: int) -> Problem:
    name, good = words
    part = base * rate // 100
    story = [
        f"A {good} costs {base} dollars. In a sale the price falls by {rate} percent.",
        f"How many dollars does {name} pay for {n} {good}s?",
    ]
    steps = [
        Step("The discount is", f"{base} * {rate} / 100", part),
        subtract("The new price is", base, part),
        multiply(f"For {n} that is", base - part, n),
    ]
    return make_problem("percent", story, steps, f"( {base} - {base} * {rate} / 100 ) * {n}")


def units(rng: Random) -> Problem:
    """Dozens of things, or hours and minutes of work."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    dozens, k = rng.randint(3, 25), rng.randint(2, 40)
    if rng.random() < 0.5:
        return _dozens((name, item), dozens, min(k, dozens * 12 - 1), rng.randint(2, 9))
    hours, minutes, each = rng.randint(2, 9), rng.randint(1, 59), rng.randint(2, 9)
    story = [
        f"{name} works {hours} hours and {minutes} minutes.",
        f"Each minute {name} packs {each} {item}.",
        f"How many {item} does {name} pack?",
    ]
    steps = [
        multiply("The hours have", hours, 60),
        add("In all that is", hours * 60, minutes),
        multiply(f"{name} packs", hours * 60 + minutes, each),
    ]
    return make_problem("units", story, steps, f"( {hours} * 60 + {minutes} ) * {each}")


def _dozens(words: tuple[str, str], dozens: int, k: int, price: int) -> Problem:
    name, item = words
    rest = dozens * 12 - k
    story = [
        f"{name} buys {dozens} dozen {item} and gives {k} away.",
        f"The rest is sold for {price} dollars each.",
        f"How many dollars does {name} get?",
    ]
    steps = [
        multiply(f"{name} buys", dozens, 12),
        subtract("The rest is", dozens * 12, k),
        multiply("That brings", rest, price),
    ]
    return make_problem("units", story, steps, f"( {dozens} * 12 - {k} ) * {price}")


HARD: dict[str, Family] = {
    f.__name__: f for f in (shopping_many, chain_long, wages_big, rows_big, average, percent, units)
}


def draw_hard(rng: Random, family: str | None = None) -> Problem:
    """Draw until the answer is positive and at most 19,999.

    Args:
        rng: where every choice comes from.
        family: a key of ``HARD``; None draws one, each equally likely, anew at each attempt.
    """
    while True:
        problem = HARD[family or rng.choice(list(HARD))](rng)
        if 0 < problem.answer <= LARGEST_ANSWER:
            return problem


if __name__ == "__main__":
    for key in HARD:
        print(draw_hard(Random(1), key))
