r"""Read the answer out of a model's text: find it, name the rule, make it canonical.

Knows nothing of models, files, votes or gold answers: text in, value out. Each answer kind is a
row of ``KINDS`` and a file here, which says where to look (named rules, in order), what a value
looks like there, and how it is spelled canonically.

    extract("She has 3 * 14 = 42. The answer is $42.00.\nQ: Tom has 7")
    -> Extraction(value="42", raw="$42.00", rule="marker", start=35, end=41)
"""

from lmsi_cli.answers.choice import listed
from lmsi_cli.answers.kinds import KINDS, Extraction, Step, canonical, explain, extract
from lmsi_cli.answers.places import TRIGGER, Asked
from lmsi_cli.answers.sentences import answer_end, before_run_on, next_turn

__all__ = [
    "KINDS",
    "TRIGGER",
    "Asked",
    "Extraction",
    "Step",
    "answer_end",
    "before_run_on",
    "canonical",
    "explain",
    "extract",
    "listed",
    "next_turn",
]
