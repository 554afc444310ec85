"""How much each ballot of a question counts: the weighted votes of the literature, by name.

Knows log-probabilities and answers; nothing of files, texts or what is kept. Weights of a question
are shares of its whole, so only differences between its paths matter, and no sum can overflow:

    majority       every ballot counts the same (Wang et al. 2022, arXiv 2203.11171, and ours)
    logprob        by the probability of the path: exp(sum of its log-probabilities); Wang's
                   unnormalised weighted sum. The shorter path wins; one path often outweighs all
    mean_logprob   by the probability of a token: exp(mean log-probability); Wang's normalised one
    cisc:T         exp(c / T), c the probability of a token as above (Taubenfeld et al. 2025, arXiv
                   2502.06233, with its "response probability"). A large T is the plain majority, a
                   small one the most confident path alone. ``cisc:auto`` fits T on labels

    Weighting.parse("cisc:0.5").shares(paths)   # mean_logprob -0.1, -0.1, -0.7
    -> [0.41, 0.41, 0.18]

In Wang's table 1 none of them beats the plain majority; CISC's gain comes mostly from a better
confidence than this one (the model asked whether its answer is true), which is not sampled here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lmsi_cli.config import MAJORITY
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path, Record

# 80 values, as many as the paper tries. Confidences lie within 0 and 1: at 10 the largest of two
# weights is at most 1.1 times the other, at 0.001 the more confident path decides alone.
GRID = tuple(10 ** (-3 + 4 * i / 79) for i in range(80))


class Weighting(NamedTuple):
    """A rule by name, with its temperature (above 0) where it has one."""

    kind: str
    temperature: float = 1.0

    @classmethod
    def parse(cls, setting: str) -> Weighting | None:
        """Read a setting of ``--weight``; ``None`` for the majority, which needs no weights.

        Raises:
            ValueError: It is ``cisc:auto``, whose temperature ``fit`` has to find first.
        """
        kind, _, temperature = setting.partition(":")
        if setting == MAJORITY:
            return None
        return cls(kind, float(temperature or 1))

    def shares(self, paths: Sequence[Path]) -> list[float]:
        """Weigh the ballots of one question; the shares sum to 1.

        Raises:
            LmsiError: A path has no mean log-probability.
        """
        if self.kind == "logprob":
            return softmax([_known(p, "logprob", p.logprob) for p in paths])
        if self.kind == "mean_logprob":
            return softmax([mean_logprob(p) for p in paths])
        return softmax([confidence(p) / self.temperature for p in paths])


class Ballots(NamedTuple):
    """One labelled question of a probe: each ballot's confidence (0 to 1), and if it is right."""

    confidences: Sequence[float]
    right: Sequence[bool]


class Fit(Record, frozen=True, kw_only=True):
    """The temperature that labels speak for.

    ``log_likelihood`` is the mean over the ``questions`` it was fitted on of the log of the right
    answer's share of the weight; ``plain_log_likelihood`` that of the plain majority.
    """

    temperature: float
    questions: int
    log_likelihood: float
    plain_log_likelihood: float


def fit(probe: Sequence[Ballots]) -> Fit:
    """Find CISC's temperature on labelled questions.

    The search is over 80 temperatures from 0.001 to 10. It maximises the log of the weight that the
    right answer gets, where the paper maximises accuracy: on a few dozen questions accuracy moves
    in steps of whole questions, and would choose by chance among wide ranges. Questions whose
    ballots are all right or all wrong say nothing about the temperature and are left out. Of equal
    temperatures the largest is taken, which is nearest to the plain majority.

    Raises:
        LmsiError: No question has both right and wrong ballots.
    """
    telling = [b for b in probe if any(b.right) and not all(b.right)]
    if not telling:
        raise LmsiError(
            "--weight cisc:auto: no question of the probe has right and wrong ballots",
            hint="give a larger probe, or a temperature: cisc:0.5",
        )
    best = max(reversed(GRID), key=lambda t: _likelihood(telling, t))
    return Fit(
        temperature=best,
        questions=len(telling),
        log_likelihood=_likelihood(telling, best),
        plain_log_likelihood=_likelihood(telling, math.inf),
    )


def mean_logprob(path: Path) -> float:
    """The mean log-probability of a path's tokens; LmsiError if the run folder has none."""
    return _known(path, "mean_logprob", path.mean_logprob)


def _known(path: Path, name: str, value: float | None) -> float:
    if value is None:
        raise LmsiError(
            f"path {path.path} of question {path.question_id!r} has no {name!r}, "
            "which --weight needs",
            hint="an older version or a server without log-probabilities drew it: "
            "sample again, or --weight majority",
        )
    return value


def confidence(path: Path) -> float:
    """The probability of a path's tokens, as their geometric mean: 0 to 1."""
    return math.exp(mean_logprob(path))


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares in proportion to ``exp(score)``, taken relative to the largest: none overflows."""
    top = max(scores, default=0.0)
    powers = [math.exp(score - top) for score in scores]
    whole = math.fsum(powers)
    return [power / whole for power in powers]


def _likelihood(probe: Sequence[Ballots], temperature: float) -> float:
    return math.fsum(_log_share(b, temperature) for b in probe) / len(probe)


def _log_share(ballots: Ballots, temperature: float) -> float:
    """Log of the share of the right ballots, as a difference of two log-sum-exps."""
    scores = [c / temperature for c in ballots.confidences]
    right = [s for s, correct in zip(scores, ballots.right, strict=True) if correct]
    return _log_sum_exp(right) - _log_sum_exp(scores)


def _log_sum_exp(scores: Sequence[float]) -> float:
    top = max(scores)
    return top + math.log(math.fsum(math.exp(s - top) for s in scores))
