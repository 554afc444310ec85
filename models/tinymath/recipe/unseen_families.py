"""Eight families that no training text contains: the words are old, the structure is new.

They show what the model cannot know. Names, goods and places come from the same tables as in
training, so whatever goes wrong here goes wrong because of the arithmetic's shape.

This file does not know whether a model fails on it, nor how many questions are kept.

How to run it, to read one of each family: ``python models/tinymath/recipe/unseen_families.py``

One record, as ``draw_unseen(rng, "leftovers")`` gives it::

    question  Ben has 137 eggs and fills trays of 12 until less than a full one remains. ...
    steps     ("The full trays hold", "11 * 12", 132), ("Left over are", "137 - 132", 5)
    combined  137 - 11 * 12
"""

from __future__ import annotations

from random import Random

from families import Family
from stories import (
    CONTAINERS,
    GOODS,
    ITEMS,
    NAMES,
    PLACES,
    Problem,
    add,
    divide,
    make_problem,
    multiply,
    pick,
    subtract,
)

LARGEST_ANSWER = 19999


def two_workers(rng: Random) -> Problem:
    """Two rates at the same time, then one of them alone."""
    (fast, slow), item = rng.sample(NAMES, 2), rng.choice(ITEMS)
    a, b = rng.randint(5, 30), rng.randint(5, 30)
    both, alone = rng.randint(2, 9), rng.randint(2, 6)
    story = [
        f"{fast} packs {a} {item} an hour and {slow} packs {b} {item} an hour.",
        f"They work together for {both} hours.",
        f"Then {slow} leaves and {fast} works {alone} more hours.",
        f"How many {item} are packed in total?",
    ]
    steps = [
        add("Together in an hour they pack", a, b),
        multiply(f"In {both} hours that is", a + b, both),
        multiply(f"{fast} alone packs", a, alone),
        add("In total that is", (a + b) * both, a * alone),
    ]
    return make_problem("two_workers", story, steps, f"( {a} + {b} ) * {both} + {a} * {alone}")


def leftovers(rng: Random) -> Problem:
    """The rest of a division."""
    name, item, box = rng.choice(NAMES), rng.choice(ITEMS), rng.choice(CONTAINERS)
    each, full = rng.randint(4, 24), rng.randint(3, 20)
    rest = rng.randint(1, each - 1)
    total = each * full + rest
    story = [
        f"{name} has {total} {item} and fills {box} of {each} until less than a full one remains.",
        f"How many {item} are left over?",
    ]
    steps = [
        multiply(f"The full {box} hold", full, each),
        subtract("Left over are", total, full * each),
    ]
    return make_problem("leftovers", story, steps, f"{total} - {full} * {each}")


def admission(rng: Random) -> Problem:
    """Two prices, where the number of children follows from the size of the group."""
    place = rng.choice(PLACES)
    adults, children = rng.randint(3, 25), rng.randint(3, 30)
    child = rng.randint(2, 12)
    adult = child + rng.randint(2, 12)
    people = adults + children
    story = [
        f"At the {place} a ticket costs {adult} dollars for an adult",
        f"and {child} dollars for a child.",
        f"Of a group of {people} people {adults} are adults and the others are children.",
        "How many dollars does the group pay?",
    ]
    steps = [
        subtract("The children are", people, adults),
        multiply("The adults pay", adults, adult),
        multiply("The children pay", children, child),
        add("Together that is", adults * adult, children * child),
    ]
    combined = f"{adults} * {adult} + ( {people} - {adults} ) * {child}"
    return make_problem("admission", story, steps, combined)


def fence(rng: Random) -> Problem:
    """The way around a rectangle, less a gate, at a price for each foot."""
    name = rng.choice(NAMES)
    length, width = rng.randint(8, 60), rng.randint(5, 40)
    gate, price = rng.randint(2, 6), rng.randint(2, 12)
    around = (length + width) * 2
    story = [
        f"{name} puts a fence around a garden that is {length} feet long and {width} feet wide.",
        f"A gate of {gate} feet needs no fence. Each foot of fence costs {price} dollars.",
        "How many dollars does the fence cost?",
    ]
    steps = [
        add("One long and one short side are", length, width),
        multiply("All the way around it is", length + width, 2),
        subtract("Without the gate that is", around, gate),
        multiply("The fence costs", around - gate, price),
    ]
    combined = f"( ( {length} + {width} ) * 2 - {gate} ) * {price}"
    return make_problem("fence", story, steps, combined)


def recipe_scaled(rng: Random) -> Problem:
    """A recipe for a few people, made for many, with something in the kitchen already."""
    name = rng.choice(NAMES)
    thing = pick(rng, "eggs", "apples", "lemons", "plums", "pears", "peaches", "oranges")
    serves, times, each = rng.randint(2, 8), rng.randint(3, 12), rng.randint(3, 12)
    have = rng.randint(2, times * each - 1)
    people = serves * times
    story = [
        f"A cake for {serves} people takes {each} {thing}.",
        f"{name} makes enough of it for {people} people and has {have} {thing} already.",
        f"How many {thing} must {name} buy?",
    ]
    steps = [
        divide("The number of cakes is", people, serves),
        multiply("They take", times, each),
        subtract("Missing are", times * each, have),
    ]
    return make_problem("recipe_scaled", story, steps, f"{people} / {serves} * {each} - {have}")


def round_trip(rng: Random) -> Problem:
    """There, back by a longer way, and the fuel for both."""
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    gallon, gallons, price = rng.randint(10, 40), rng.randint(3, 12), rng.randint(2, 6)
    total = gallon * gallons
    longer = rng.randint(1, 9) * 2 + total % 2  # the two ways are then whole numbers of miles
    out = (total - longer) // 2
    story = [
        f"{name} drives {out} miles to the {place}",
        f"and comes back by a way that is {longer} miles longer.",
        f"The car goes {gallon} miles on a gallon, and a gallon costs {price} dollars.",
        "How many dollars does the trip cost?",
    ]
    steps = [
        add("The way back is", out, longer),
        add("Both ways together are", out, out + longer),
        divide("The gallons needed are", total, gallon),
        multiply("They cost", gallons, price),
    ]
    combined = f"( {out} + {out} + {longer} ) / {gallon} * {price}"
    return make_problem("round_trip", story, steps, combined)


def waiting_line(rng: Random) -> Problem:
    """A place in a line: the people behind, once some have been let in."""
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    front, behind = rng.randint(8, 60), rng.randint(5, 60)
    give_up, minutes = rng.randint(2, front - 4), rng.randint(2, 9)
    total = front + 1 + behind
    story = [
        f"In a line of {total} people at the {place} there are {behind} people behind {name}.",
        f"Then {give_up} of those in front of {name} go home.",
        f"Each of the others in front takes {minutes} minutes.",
        f"How many minutes does {name} wait?",
    ]
    steps = [
        subtract(f"{name} and those in front are", total, behind),
        subtract("In front there are", front + 1, 1),
        subtract("Of them stay", front, give_up),
        multiply("The minutes are", front - give_up, minutes),
    ]
    combined = f"( {total} - {behind} - 1 - {give_up} ) * {minutes}"
    return make_problem("waiting_line", story, steps, combined)


def trade(rng: Random) -> Problem:
    """Goods change hands at a rate, and then again at another."""
    name, other = rng.sample(NAMES, 2)
    first, second = rng.sample(ITEMS, 2)
    good = rng.choice([g for g in GOODS if f"{g}s" not in (first, second)])  # three kinds, not two
    rate, rate2, goods = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 12)
    keep = rng.randint(2, 30)
    need = goods * rate2 * rate
    story = [
        f"{name} has {need + keep} {first}.",
        f"{other} gives one of the {second} for every {rate} {first},",
        f"and a {good} for every {rate2} {second}.",
        f"{name} keeps {keep} {first} and trades all the others for {good}s.",
        f"How many {good}s does {name} get?",
    ]
    steps = [
        subtract("To trade there are", need + keep, keep),
        divide(f"The {second} are", need, rate),
        divide(f"The {good}s are", goods * rate2, rate2),
    ]
    return make_problem("trade", story, steps, f"( {need + keep} - {keep} ) / {rate} / {rate2}")


UNSEEN: dict[str, Family] = {
    f.__name__: f
    for f in (
        two_workers, leftovers, admission, fence, recipe_scaled, round_trip, waiting_line, trade
    )
}  # fmt: skip


def draw_unseen(rng: Random, family: str | None = None) -> Problem:
    """Draw until the answer is positive and at most 19,999.

    Args:
        rng: where every choice comes from.
        family: a key of ``UNSEEN``; None draws one, each equally likely, anew at each attempt.
    """
    while True:
        problem = UNSEEN[family or rng.choice(list(UNSEEN))](rng)
        if 0 < problem.answer <= LARGEST_ANSWER:
            return problem


if __name__ == "__main__":
    for key in UNSEEN:
        print(draw_unseen(Random(1), key))
