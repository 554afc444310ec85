"""What the tests of generated questions share: seeds, a task, and a model that writes by rote."""

from lmsi_cli.generation.drafts import Draft
from lmsi_cli.prompts import Task
from lmsi_cli.records import Exemplar, Question

TASK = Task(
    name="number",
    kind="number",
    exemplars=(Exemplar(question="What is 6 * 7?", rationale="6 * 7 = 42.", answer="42"),),
)
SEEDS = [
    Question(id="s0", question="Tom has 3 pens and buys 4 more at the shop. How many has Tom?"),
    Question(id="s1", question="A bus drives 60 miles in 2 hours. How fast is the bus?"),
    Question(id="s2", question="Anna bakes 5 trays of 12 rolls each. How many rolls are there?"),
]
THINGS = ["apples", "boats", "coins", "drums", "eggs", "flags", "gloves", "hats", "kites", "lamps"]
NAMES = ["Uma", "Vera", "Walt", "Xena", "Yann", "Zoe", "Alma", "Bert", "Cleo", "Dirk"]


def invented(number):
    """A question that is like no other one with another number below a hundred."""
    name, thing = NAMES[number % 10], THINGS[number // 10 % 10]
    count = 2 * number + 5
    return f"{name} counts {count} {thing} and loses {number}. How many {thing} stay with {name}?"


def draft(text, ended="next_question", prompt=0, path=0):
    """One text where a question was due."""
    return Draft(
        prompt=prompt, path=path, seed=0, shown=("s0",), text=text, num_generated_tokens=9,
        stop_reason=ended,
    )  # fmt: skip
