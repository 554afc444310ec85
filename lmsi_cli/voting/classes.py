"""What kind of path each one is, told without a gold answer: the vote's winner stands for it.

Knows ballots and equations; nothing of files, models or what is trained on. Every path of a
question gets exactly one class, the first of these that fits:

    truncated    cut off at the token limit
    unparsed     it ended, but no answer could be read
    undecided    the question has no winner: a tie, or nobody votes
    -- with the winning answer:
    sound        every equation that it states holds
    unchecked    it states no equation that could be checked
    corrected    it states a false equation, and later the same expression with its true value
    lucky        it states a false equation that stays
    -- with another answer:
    systematic   at least ``REPEATED`` paths of the question give that very answer
    near-miss    one slip; with it put right, the rationale ends in the winner
    rival        every equation that it states holds: the question was read in another way
    other        anything else: several slips, or words without equations

Paths that do not vote because of a false equation have a class like all others. A false equation is
one by exact arithmetic, whether the vote checks or not; so with another winner (``--no-check-
equations``) the same path may have another class. Where the winner is wrong the words mislead: a
"lucky" path is then unlucky. Nothing here can know that.

    classify(paths, "42")   # answers 42, 42 with 6 * 7 = 41, 40, none
    -> {0: "sound", 1: "lucky", 2: "other", 3: "unparsed"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from lmsi_cli.equations import Number
from lmsi_cli.records import Path, PathClass
from lmsi_cli.voting.ballots import holds, is_complete, steps_of
from lmsi_cli.voting.slips import is_corrected, put_right

REPEATED = 3  # two wrong paths of sixteen often meet by chance; three have a reason in common


def classify(paths: Sequence[Path], winner: str | None) -> dict[int, PathClass]:
    """Give each path of one question its class.

    Args:
        paths: All paths of the question, in any order.
        winner: The answer that won the vote, ``None`` without one.

    Returns:
        The class of each path number; what the classes mean is told above.
    """
    answers = Counter(p.predicted_answer for p in paths if is_complete(p))
    return {p.path: _class_of(p, winner, answers) for p in paths}


def _class_of(path: Path, winner: str | None, answers: Counter[str | None]) -> PathClass:
    if path.stop_reason == "length":
        return "truncated"
    if path.predicted_answer is None:
        return "unparsed"
    if winner is None:
        return "undecided"
    if path.predicted_answer == winner:
        return _winning(path)
    if answers[path.predicted_answer] >= REPEATED:
        return "systematic"
    return _losing(path, winner)


def _winning(path: Path) -> PathClass:
    true = holds(path)
    if true is None:
        return "unchecked"
    if true:
        return "sound"
    return "corrected" if is_corrected(steps_of(path)) else "lucky"


def _losing(path: Path, winner: str) -> PathClass:
    steps = steps_of(path)
    answer, won = _number(path.predicted_answer), _number(winner)
    if answer is not None and won is not None and put_right(steps, answer) == won:
        return "near-miss"
    return "rival" if holds(path) else "other"


@lru_cache(maxsize=1024)  # the answers of a question are few
def _number(answer: str | None) -> Number | None:
    """Read a canonical answer as a number; ``None`` for a choice, a word, a date."""
    try:
        return int(answer) if answer and answer.isdecimal() else Fraction(answer or "")
    except (ValueError, ZeroDivisionError):
        return None
