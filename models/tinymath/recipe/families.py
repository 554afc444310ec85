"""The eleven families of word problems that the model was first trained on.

Each function draws one problem from a generator of random numbers. The order of the draws is part
of the recipe: the weights have read the text that these draws give, and equal seeds must go on
giving equal problems. So a draw is neither added, dropped nor moved here.

This file does not know how solutions are worded (``solutions.py``), nor the families that came
later (``hard_families.py``) or never (``unseen_families.py``).

How to run it, to read one of each family: ``python models/tinymath/recipe/families.py``

One record, as ``draw_known(Random(3), "ages")`` gives it::

    question  Olivia is 21 years old. Kevin is twice as old as Olivia. In 7 years, what will be ...
    steps     ("Kevin is", "21 * 2", 42), ("Today the sum is", "21 + 42", 63), ...
    combined  21 + 21 * 2 + 7 * 2
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from baskets import shopping
from chains import chain
from stories import (
    CONTAINERS,
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
    other_name,
    pick,
    running_sum,
    subtract,
)

Family = Callable[[Random], Problem]

LARGEST_ANSWER = 9999
TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"}
PARTS = {
    2: "Half", 3: "A third", 4: "A quarter", 5: "A fifth",
    6: "A sixth", 8: "An eighth", 10: "A tenth",
}  # fmt: skip


def compare(rng: Random) -> Problem:
    """Two or three people, each with more, fewer or times as many as the one before."""
    people = rng.sample(NAMES, 3)
    item, first = rng.choice(ITEMS), rng.randint(6, 60)
    story = [
        pick(rng, f"{people[0]} has {first} {item}.", f"{people[0]} collected {first} {item}.")
    ]
    steps: list[Step] = []
    values, terms = [first], [str(first)]
    for reference, who in pairwise(people):
        sentence, step, term = _relation(rng, (who, reference, item), values[-1], terms[-1])
        story.append(sentence)
        steps.append(step)
        values.append(step.result)
        terms.append(term)
        if rng.random() < 0.35:
            break
    question, last_steps, combined = _comparison(rng, (people, item), values, terms)
    return make_problem("compare", [*story, question], [*steps, *last_steps], combined)


def _relation(
    rng: Random, words: tuple[str, str, str], value: int, term: str
) -> tuple[str, Step, str]:
    who, reference, item = words
    kind = rng.choice(("more", "fewer", "times"))
    if kind == "more":
        k = rng.randint(2, 40)
        tail = pick(rng, f"more {item} than {reference}.", f"{item} more than {reference}.")
        return f"{who} has {k} {tail}", add(f"{who} has", value, k), f"( {term} + {k} )"
    if kind == "fewer" and value > 4:
        k = rng.randint(1, value - 2)
        tail = pick(rng, f"fewer {item} than {reference}.", f"{item} less than {reference}.")
        return f"{who} has {k} {tail}", subtract(f"{who} has", value, k), f"( {term} - {k} )"
    k = rng.randint(2, 6)
    sentence = f"{who} has {TIMES[k]} as many {item} as {reference}."
    return sentence, multiply(f"{who} has", value, k), f"{term} * {k}"


def _comparison(
    rng: Random, words: tuple[list[str], str], values: list[int], terms: list[str]
) -> tuple[str, list[Step], str]:
    people, item = words
    mode = rng.choice(("total", "total", "diff", "one"))
    if mode == "total":
        tail = pick(rng, "altogether?", "in total?")
        steps = running_sum(rng, values, ("Together that is", "In total that is"))
        return f"How many {item} do they have {tail}", steps, " + ".join(terms)
    who, first, last = people[len(values) - 1], values[0], values[-1]
    if mode == "diff" and first != last:
        question = f"What is the difference between the number of {item} of {who} and {people[0]}?"
        combined = f"{terms[-1]} - {terms[0]}" if last > first else f"{terms[0]} - {terms[-1]}"
        step = subtract("The difference is", max(first, last), min(first, last))
        return question, [step], combined
    return f"How many {item} does {who} have?", [], terms[-1]


def wages(rng: Random) -> Problem:
    """Dollars an hour, hours a day, days; perhaps something is spent."""
    name, job = rng.choice(NAMES), rng.choice(JOBS)
    pay, hours, days = rng.randint(6, 25), rng.randint(3, 9), rng.randint(2, 7)
    earns = f"{name} works as a {job} and earns {pay} dollars an hour."
    works = f"{name} works {hours} hours a day for {days} days."
    story = [
        pick(rng, earns, f"{name} the {job} makes {pay} dollars per hour."),
        pick(rng, works, f"For {days} days {name} works {hours} hours each day."),
    ]
    day_lead = pick(rng, f"In a day {name} earns", "One day brings")
    all_lead = pick(rng, f"In {days} days that is", "In all days together it is")
    steps = [multiply(day_lead, pay, hours), multiply(all_lead, pay * hours, days)]
    total, combined = pay * hours * days, f"{pay} * {hours} * {days}"
    if rng.random() < 0.6:
        k = rng.randint(5, min(200, total - 1))
        rent = f"{name} spends {k} dollars on rent."
        story.append(pick(rng, rent, f"Then {name} pays {k} dollars in tax."))
        story.append(f"How many dollars does {name} have left?")
        steps.append(subtract("What is left is", total, k))
        return make_problem("wages", story, steps, f"{combined} - {k}")
    story.append(f"How many dollars does {name} earn?")
    return make_problem("wages", story, steps, combined)


def share(rng: Random) -> Problem:
    """Two people pool what they have and divide it equally."""
    name, item, _ = rng.choice(NAMES), rng.choice(ITEMS), rng.choice(CONTAINERS)  # one draw unused
    k, each = rng.randint(3, 12), rng.randint(3, 30)
    total = k * each
    mine = rng.randint(2, total - 2)
    rest = total - mine
    who = pick(rng, "friends", "children", "students", "families", "teams")
    together = f"They put them together and share them equally among {k} {who}."
    story = [
        f"{name} has {mine} {item} and {other_name(rng, name)} has {rest} {item}.",
        pick(rng, together, f"They divide all of them equally between {k} {who}."),
    ]
    steps = [
        add(pick(rng, "Together they have", "In total there are"), mine, rest),
        divide(pick(rng, "Each gets", "Every share is"), total, k),
    ]
    combined = f"( {mine} + {rest} ) / {k}"
    if rng.random() < 0.5:
        m = rng.randint(2, 20)
        story.append(f"Each of the {who} already had {m} {item}.")
        story.append(f"How many {item} does each have now?")
        steps.append(add("With those already there it is", each, m))
        return make_problem("share", story, steps, f"{combined} + {m}")
    return make_problem("share", [*story, f"How many {item} does each get?"], steps, combined)


def fraction(rng: Random) -> Problem:
    """A named part of a group; then the rest, an increase, or a price."""
    place = rng.choice(PLACES)
    k, part = rng.choice(tuple(PARTS)), rng.randint(3, 40)
    n = k * part
    thing = pick(rng, "students", "visitors", "workers", "trees", "animals", "cars", "chairs")
    kind = pick(rng, "red", "new", "from abroad", "early", "tall")
    story = [f"There are {n} {thing} at the {place}.", f"{PARTS[k]} of them are {kind}."]
    steps = [divide(f"The number that are {kind} is", n, k)]
    mode = rng.choice(("rest", "more", "pay"))
    if mode == "rest":
        story.append(f"How many {thing} are not {kind}?")
        steps.append(subtract("The others are", n, part))
        return make_problem("fraction", story, steps, f"{n} - {n} / {k}")
    if mode == "more":
        m = rng.randint(2, 40)
        story.append(f"Then {m} more {thing} that are {kind} come.")
        story.append(f"How many {thing} are {kind} now?")
        steps.append(add("Now that is", part, m))
        return make_problem("fraction", story, steps, f"{n} / {k} + {m}")
    p = rng.randint(2, 15)
    story.append(f"Each of those that are {kind} costs {p} dollars.")
    story.append("How many dollars do they cost in total?")
    steps.append(multiply("They cost", part, p))
    return make_problem("fraction", story, steps, f"{n} / {k} * {p}")


def saving(rng: Random) -> Problem:
    """Some money at first, some more each week; then a thing to buy."""
    name, good = rng.choice(NAMES), rng.choice(GOODS)
    have, weekly, weeks = rng.randint(5, 80), rng.randint(3, 25), rng.randint(3, 12)
    total = have + weekly * weeks
    start = f"{name} has {have} dollars and saves {weekly} dollars a week."
    steps = [
        multiply(f"In {weeks} weeks {name} saves", weekly, weeks),
        add("With the first money it is", have, weekly * weeks),
    ]
    combined = f"{have} + {weekly} * {weeks}"
    if rng.random() < 0.5:
        price = total + rng.randint(3, 90)
        ask = f"How many more dollars does {name} need after {weeks} weeks?"
        steps.append(subtract("Missing are", price, total))
        story = [start, f"A {good} costs {price} dollars.", ask]
        return make_problem("saving", story, steps, f"{price} - ( {combined} )")
    k = rng.randint(2, total - 1)
    buy = f"After {weeks} weeks {name} buys a {good} for {k} dollars."
    steps.append(subtract("What is left is", total, k))
    story = [start, buy, "How many dollars are left?"]
    return make_problem("saving", story, steps, f"{combined} - {k}")


def rows(rng: Random) -> Problem:
    """Two blocks of rows; perhaps some are taken away."""
    place, thing = rng.choice(PLACES), pick(rng, *FURNITURE)
    a, b = rng.randint(4, 25), rng.randint(4, 30)
    c, d = rng.randint(2, 15), rng.randint(2, 20)
    story, steps = two_blocks((place, thing), (a, b, c, d))
    total, combined = a * b + c * d, f"{a} * {b} + {c} * {d}"
    if rng.random() < 0.6:
        k = rng.randint(2, total - 1)
        verb = pick(rng, "taken away", "broken", "sold", "moved out")
        story.append(f"{k} of the {thing} are {verb}. How many {thing} remain?")
        steps.append(subtract("There remain", total, k))
        return make_problem("rows", story, steps, f"{combined} - {k}")
    story.append(f"How many {thing} are there in total?")
    return make_problem("rows", story, steps, combined)


def two_blocks(
    words: tuple[str, str], sizes: tuple[int, int, int, int]
) -> tuple[list[str], list[Step]]:
    """The opening of a problem about rows, and the steps that count both blocks."""
    (place, thing), (a, b, c, d) = words, sizes
    story = [
        f"The {place} has {a} rows of {b} {thing}.",
        f"Another part has {c} rows of {d} {thing}.",
    ]
    steps = [
        multiply("The first part has", a, b),
        multiply("The other part has", c, d),
        add("Together that is", a * b, c * d),
    ]
    return story, steps


def travel(rng: Random) -> Problem:
    """Two legs at two speeds; the whole way, or what is left of a trip."""
    name = rng.choice(NAMES)
    speed, hours = rng.randint(10, 70), rng.randint(2, 9)
    speed2, hours2 = rng.randint(10, 70), rng.randint(2, 9)
    first = (
        f"{name} {pick(rng, 'drives', 'rides', 'travels')} {hours} hours at {speed} miles an hour"
    )
    story = [f"{first} and then {hours2} hours at {speed2} miles an hour."]
    steps = [
        multiply("The first part is", speed, hours),
        multiply("The second part is", speed2, hours2),
        add("The whole way is", speed * hours, speed2 * hours2),
    ]
    way, combined = steps[-1].result, f"{speed} * {hours} + {speed2} * {hours2}"
    if rng.random() < 0.5:
        goal = way + rng.randint(5, 200)
        story.append(f"The trip is {goal} miles long. How many miles are left?")
        steps.append(subtract("Left are", goal, way))
        return make_problem("travel", story, steps, f"{goal} - ( {combined} )")
    return make_problem("travel", [*story, f"How many miles does {name} go?"], steps, combined)


def before(rng: Random) -> Problem:
    """The end is known and the start is asked."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    end, k, m = rng.randint(5, 90), rng.randint(3, 60), rng.randint(2, 40)
    ask = f"How many {item} did {name} have at first?"
    if rng.random() < 0.5:
        gave = f"{name} gave away {k} {item} and then got {m} {item}."
        story = [gave, f"Now {name} has {end + m} {item}.", ask]
        steps = [
            subtract("Before the gift there were", end + m, m),
            add("At first there were", end, k),
        ]
        return make_problem("before", story, steps, f"{end + m} - {m} + {k}")
    days, daily = rng.randint(2, 9), rng.randint(2, 12)
    used = f"{name} used {daily} {item} a day for {days} days and still has {end} {item}."
    steps = [multiply("Used up were", days, daily), add("At first there were", end, days * daily)]
    return make_problem("before", [used, ask], steps, f"{end} + {days} * {daily}")


def ages(rng: Random) -> Problem:
    """One age, another as a multiple of it, and both some years later."""
    young, old = rng.sample(NAMES, 2)
    age, k, later = rng.randint(4, 30), rng.randint(2, 4), rng.randint(2, 15)
    story = [f"{young} is {age} years old. {old} is {TIMES[k]} as old as {young}."]
    steps = [multiply(f"{old} is", age, k)]
    if rng.random() < 0.5:
        story.append(f"How old will {old} be in {later} years?")
        steps.append(add(f"In {later} years {old} will be", age * k, later))
        return make_problem("ages", story, steps, f"{age} * {k} + {later}")
    story.append(f"In {later} years, what will be the sum of their ages?")
    steps += [
        add("Today the sum is", age, age * k),
        multiply("Both grow older by", later, 2),
        add("So the sum will be", age + age * k, 2 * later),
    ]
    return make_problem("ages", story, steps, f"{age} + {age} * {k} + {later} * 2")


KNOWN: dict[str, Family] = {
    f.__name__: f
    for f in (
        chain, compare, shopping, wages, share, fraction, saving, rows, travel, before, ages
    )
}  # fmt: skip
WEIGHTS = (4, 3, 3, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1, 1)  # in the order of KNOWN


def draw_known(rng: Random, family: str | None = None) -> Problem:
    """Draw until a problem has a step and a positive answer of at most four digits.

    Args:
        rng: where every choice comes from.
        family: a key of ``KNOWN``; None draws one by weight, anew at each attempt.
    """
    while True:
        name = family or rng.choices(list(KNOWN), WEIGHTS)[0]
        problem = KNOWN[name](rng)
        if problem.steps and 0 < problem.answer <= LARGEST_ANSWER:
            return problem


if __name__ == "__main__":
    for key in KNOWN:
        print(draw_known(Random(1), key))
