"""How much each ballot of a question counts: the weighted votes of the literature, by name.

Knows log-probabilities; nothing of answers, files or what is kept. Weights of a question are shares
of its whole, so only differences between its paths matter, and no sum can overflow:

    logprob        by the probability of the path: exp(sum of its log-probabilities); the
                   unnormalised weighted sum of Wang et al. 2022 (arXiv 2203.11171). The shorter
                   path wins, and one path often outweighs all
    mean_logprob   by the probability of a token: exp(mean log-probability); Wang's normalised one
    cisc:T         exp(c / T), c the probability of a token as above (Taubenfeld et al. 2025, arXiv
                   2502.06233, with its "response probability"). A large T is the plain majority, a
                   small one the most confident path alone

    shares(paths, "cisc:0.5")   # mean_logprob -0.1, -0.1, -0.7
    -> [0.41, 0.41, 0.18]

In Wang's table 1 none of them beats the plain majority; CISC's gain comes mostly from a better
confidence than this one (the model asked whether its answer is true), which is not sampled here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path


def shares(paths: Sequence[Path], weight: str) -> list[float]:
    """Weigh the ballots of one question; the shares sum to 1.

    Args:
        paths: Those that vote.
        weight: A setting ``weight`` other than ``majority``.

    Raises:
        LmsiError: A path has no log-probability.
    """
    kind, _, temperature = weight.partition(":")
    if kind == "logprob":
        return softmax([_known(p, p.logprob) for p in paths])
    means = [_known(p, p.mean_logprob) for p in paths]
    if kind == "cisc":
        means = [math.exp(mean) / float(temperature) for mean in means]
    return softmax(means)


def _known(path: Path, value: float | None) -> float:
    if value is None:
        raise LmsiError(
            f"path {path.path} of question {path.question_id!r} has no log-probability, "
            "which weighted ballots need",
            hint="a server without them drew it: sample again, or --set weight=majority",
        )
    return value


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares in proportion to ``exp(score)``, taken relative to the largest: none overflows."""
    top = max(scores, default=0.0)
    powers = [math.exp(score - top) for score in scores]
    whole = math.fsum(powers)
    return [power / whole for power in powers]
