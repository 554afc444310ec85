"""How a solution reads, and how problems become training text.

A problem can be solved in three styles that reach the same answer. A model trained on all three
picks up three habits, and that is what gives several sampled paths something to vote about:

* ``terse``: one combined expression, short but hard to evaluate in one go;
* ``plain``: one operation a sentence;
* ``careful``: as plain, with two-digit products split into tens and ones.

This file does not know tokens, files or how many documents a stage reads.

How to run it, to read one document of each stage: ``python models/tinymath/recipe/solutions.py``

One record, a document of two problems in the ``rationale`` format::

    Q: Mia has 12 eggs. Mia gets 30 more eggs. How many eggs does Mia have now?
    A: That makes 12 + 30 = 42. The answer is 42.

    Q: ...
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from families import draw_known
from hard_families import draw_hard
from stories import NAMES, Problem, Step, pick

STYLES = ("terse", "plain", "careful")
TRIGGER = "Let's think step by step."
END_OF_TEXT = "<|endoftext|>"  # between documents; token id 0
END_OF_TEXT_ID = 0


@dataclass(frozen=True)
class Mix:
    """What the documents of one stage are made of.

    Attributes:
        longest: most problems in one document; at least one.
        hard_share: chance that a problem comes from the harder families.
        style_weights: chances of terse, plain and careful.
        format_bounds: upper ends, between 0 and 1, of the chances of a rationale, of a direct
            answer and of a rationale after the trigger; above the last are questions alone.
    """

    longest: int
    hard_share: float
    style_weights: tuple[float, float, float]
    format_bounds: tuple[float, float, float]


FIRST_STAGE = Mix(8, 0.0, (0.50, 0.30, 0.20), (0.55, 0.72, 0.90))
SECOND_STAGE = Mix(5, 0.6, (0.60, 0.25, 0.15), (0.60, 0.75, 0.93))
HEALING = Mix(5, 0.6, (0.30, 0.40, 0.30), (0.60, 0.70, 0.95))  # a small model needs its steps


def solve(problem: Problem, style: str, rng: Random) -> str:
    """Write the rationale in one style, up to and with the answer sentence.

    Args:
        problem: what to solve.
        style: one of ``STYLES``.
        rng: chooses the wording of a terse solution; the other styles draw nothing.
    """
    if style == "terse":
        lead = pick(rng, "This gives", "The result is", "We compute", "It is")
        sentences = [f"{lead} {problem.combined} = {problem.answer}."]
    elif style == "careful":
        sentences = [_careful_sentence(step) for step in problem.steps]
    else:
        sentences = [_sentence(step) for step in problem.steps]
    return " ".join([*sentences, f"The answer is {problem.answer}."])


def _sentence(step: Step) -> str:
    return f"{step.lead} {step.expression} = {step.result}."


def _careful_sentence(step: Step) -> str:
    """Split a product whose larger factor has two digits that both matter.

    Example: ``They cost 24 * 7 = 168.`` becomes
    ``20 * 7 = 140 and 4 * 7 = 28, so they cost 140 + 28 = 168.``
    """
    match step.expression.split():
        case [left, "*", right]:
            small, large = sorted((int(left), int(right)))
        case _:
            return _sentence(step)
    ones = large % 10
    tens = large - ones
    if large <= 12 or not ones or small <= 2:
        return _sentence(step)
    parts = f"{tens} * {small} = {tens * small} and {ones} * {small} = {ones * small}"
    return f"{parts}, so {_inside(step.lead)} {tens * small} + {ones * small} = {step.result}."


def _inside(lead: str) -> str:
    """Take the capital off a lead that moves inside a sentence, unless it is a name's."""
    return lead if lead.split()[0] in NAMES else lead[0].lower() + lead[1:]


def document(rng: Random, mix: Mix) -> str:
    """Write a few problems, all in one prompt format, joined by blank lines."""
    chance = rng.random()
    problems = []
    for _ in range(rng.randint(1, mix.longest)):
        hard = mix.hard_share > 0 and rng.random() < mix.hard_share
        problem = draw_hard(rng) if hard else draw_known(rng)
        style = rng.choices(STYLES, mix.style_weights)[0]
        problems.append(_prompted(problem, style, chance, mix, rng))
    return "\n\n".join(problems)


def _prompted(problem: Problem, style: str, chance: float, mix: Mix, rng: Random) -> str:
    rationale, direct, triggered = mix.format_bounds
    question = f"Q: {problem.question}"
    if chance < rationale:
        return f"{question}\nA: {solve(problem, style, rng)}"
    if chance < direct:
        return f"{question}\nA: The answer is {problem.answer}."
    if chance < triggered:
        return f"{question}\nA: {TRIGGER} {solve(problem, style, rng)}"
    return question


if __name__ == "__main__":
    for stage in (FIRST_STAGE, SECOND_STAGE):
        print(document(Random(2), stage), END_OF_TEXT, sep="\n")
