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


def path(index, answer, true=None, stop="answer", question="q", logprob=-0.1):
    """A path that states an equation (true or false) or none at all (``true=None``)."""
    steps = {None: "So it is.", True: f"{index} + 1 = {index + 1}.", False: f"{index} + 1 = 0."}
    text = f" {steps[true]} The answer is {answer}."
    fields = {"question_id": question, "stop_reason": stop, "mean_logprob": logprob}
    return built(index, answer, text, **fields)


def question(number, answers, kept=True):
    """One question's vote and paths from pairs of an answer and whether the equation is true."""
    paths = [path(i, a, true, question=f"q{number}") for i, (a, true) in enumerate(answers)]
    made = select(vote(f"q{number}", paths), paths, VoteConfig(check_equations=False))[0]
    return made, paths


def run_of(kind, questions=60, seed=0):
    """Questions as a model of some kind answers them; the gold answer of ``q3`` is ``103``."""
    rng = random.Random(seed)
    return [question(i, KINDS[kind](rng, str(100 + i))) for i in range(questions)]


def _half_known(rng, gold):
    """Half of the paths are right, and true; the errors scatter, and slip in their sums."""
    return [
        (gold, rng.random() < 0.95) if rng.random() < 0.5 else (str(rng.randrange(900)), False)
        for _ in range(PATHS)
    ]


def _unknown(rng, gold):
    """A wrong answer wins at high agreement; truth has nothing to do with winning."""
    wrong = str(int(gold) + 500)
    return [
        (wrong if rng.random() < 0.6 else str(rng.randrange(900)), rng.random() < 0.3)
        for _ in range(PATHS)
    ]


def _plausible(rng, gold):
    """As unknown, but most of what all paths state is true: something is left out by all."""
    return [(answer, rng.random() < 0.8) for answer, _ in _unknown(rng, gold)]


def _solved(rng, gold):
    return [(gold if rng.random() < 0.97 else "0", True) for _ in range(PATHS)]


def _coin(rng, gold):
    return [(rng.choice(["yes", "no"]), None) for _ in range(PATHS)]


def _yes_man(rng, gold):
    return [("yes" if rng.random() < 0.9 else "no", None) for _ in range(PATHS)]


def _collapsed(rng, gold):
    return [("1" if rng.random() < 0.9 else str(rng.randrange(900)), True) for _ in range(PATHS)]


def _wordy(rng, gold):
    """Half-known, but without an equation to check."""
    return [(answer, None) for answer, _ in _half_known(rng, gold)]


KINDS = {
    "half known": _half_known,
    "unknown": _unknown,
    "plausible": _plausible,
    "solved": _solved,
    "coin": _coin,
    "yes man": _yes_man,
    "collapsed": _collapsed,
    "wordy": _wordy,
}


def judged(kind, probe=0, chance=None, questions=60, gold=None):
    """The verdict on a made-up run; ``probe`` counts the questions with a right answer."""
    gold = gold or {f"q{i}": str(100 + i) for i in range(probe)}
    observer = Observer(gold, chance)
    for made, paths in run_of(kind, questions):
        observer.observe(BARE, made, paths)
    return observer.finish()
