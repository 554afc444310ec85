"""What the tests of the verdict share: questions whose paths are right, wrong or guessed."""

import random

from builders import path as built

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Question
from lmsi_cli.verdict.rules import Observer
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.selection import select

PATHS = 12
BARE = Question(id="q", question="How many?")


def path(index, answer, true=None, stop="answer", question="q"):
    """A path that states an equation (true or false) or none at all (``true=None``)."""
    steps = {None: "So it is.", True: f"{index} + 1 = {index + 1}.", False: f"{index} + 1 = 0."}
    text = f" {steps[true]} The answer is {answer}."
    return built(index, answer, text, question_id=question, stop_reason=stop)


def question(number, answers):
    """One question's vote and paths from pairs of an answer and whether the equation is true."""
    paths = [path(i, a, true, question=f"q{number}") for i, (a, true) in enumerate(answers)]
    made = select(vote(f"q{number}", paths), paths, VoteConfig(check_equations=False))[0]
    return made, paths


def run_of(kind, questions=60):
    """Questions as a model of some kind answers them; the gold answer of ``q3`` is ``103``."""
    rng, says = random.Random(0), KINDS[kind]
    golds = [str(100 + i) for i in range(questions)]
    return [question(i, [says(rng, g) for _ in range(PATHS)]) for i, g in enumerate(golds)]


def half_known(rng, gold):
    """Half of the paths are right, and true; the errors scatter, and slip in their sums."""
    if rng.random() < 0.5:
        return gold, rng.random() < 0.95
    return str(rng.randrange(900)), False


def unknown(rng, gold, true=0.3):
    """A wrong answer wins at high agreement; truth has nothing to do with winning."""
    answer = str(int(gold) + 500) if rng.random() < 0.6 else str(rng.randrange(900))
    return answer, rng.random() < true


# Of one path: its answer, and whether its equation is true. Of the plausible ones most is, for
# something is left out by all; what the wordy ones say holds no equation.
KINDS = {
    "half known": half_known,
    "unknown": unknown,
    "plausible": lambda rng, gold: unknown(rng, gold, true=0.8),
    "solved": lambda rng, gold: (gold if rng.random() < 0.97 else "0", True),
    "coin": lambda rng, gold: (rng.choice(["yes", "no"]), None),
    "yes man": lambda rng, gold: ("yes" if rng.random() < 0.9 else "no", None),
    "collapsed": lambda rng, gold: ("1" if rng.random() < 0.9 else str(rng.randrange(900)), True),
    "wordy": lambda rng, gold: (half_known(rng, gold)[0], None),
}


def judged(kind, probe=0, chance=None, questions=60, gold=None):
    """The verdict on a made-up run; ``probe`` counts the questions with a right answer."""
    gold = gold or {f"q{i}": str(100 + i) for i in range(probe)}
    observer = Observer(gold, chance)
    for made, paths in run_of(kind, questions):
        observer.observe(BARE, made, paths)
    return observer.finish()
