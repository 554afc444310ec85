"""From the paths of a question to its vote: who votes, for what, who wins, and when that is sure.

Knows no gold answers, models or files. A ballot is a path that has an answer and was not cut off;
an unparsed or truncated path never votes. ``vote`` counts and keeps all paths of the majority (the
paper's rule); ``selection.select`` then narrows them.

    vote("q7", paths)   # answers 42, 42, 42, 40 and one path without an answer
    -> Vote(predicted_answer="42", majority_votes=3, runner_up_votes=1, total_votes=4, num_paths=5,
            no_answer=1, truncated=0, refuted=0, tie=False, share=0.75, share_of_all=0.6,
            margin=0.5, ballots={"42": 3, "40": 1}, entropy=0.56, posterior=0.81, kept=(0, 1, 2),
            stopped=False, question_id="q7")
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from lmsi_cli.answers import before_run_on
from lmsi_cli.config import VoteConfig
from lmsi_cli.equations import Equation, read_equations
from lmsi_cli.records import Path, Vote
from lmsi_cli.stopping import Decision, Stop, lead_probability
from lmsi_cli.thinking import answer_part, answer_start


def is_cut_thinking(path: Path) -> bool:
    """Whether the token limit ended a path inside its thinking, before it said anything."""
    return path.stop_reason == "length" and answer_start(path.text) is None


def is_complete(path: Path) -> bool:
    """Say whether a path has an answer and ended by itself."""
    return path.predicted_answer is not None and path.stop_reason != "length"


def solution(text: str) -> str:
    """The part of a path's text that is its own answer: no thinking, no next question."""
    return before_run_on(answer_part(text))


@lru_cache(maxsize=1024)  # each path of a question is looked up several times in a row
def steps_of(text: str) -> tuple[Equation, ...]:
    """The equations that a path's text states, in order."""
    return read_equations(solution(text)) if "=" in text else ()


def holds(path: Path) -> bool | None:
    """Say whether every equation that a path states is true; ``None`` if it states none."""
    steps = steps_of(path.text)
    return all([e.holds for e in steps]) if steps else None


def is_refuted(path: Path) -> bool:
    """Say whether a path states an equation that is false by exact arithmetic."""
    return holds(path) is False


def ballot(path: Path, check_equations: bool) -> str | None:
    """The answer that a path votes for; ``None`` if it does not vote."""
    votes = is_complete(path) and not (check_equations and is_refuted(path))
    return path.predicted_answer if votes else None


class BallotWatch:
    """Watches which questions are decided while paths are drawn; without ``stop`` none ever is.

    ``decisions`` are by question id; ``paths`` and ``tokens`` count what was cancelled.
    """

    def __init__(self, stop: Stop | None) -> None:
        self.stop, self.decisions = stop, dict[str, Decision]()
        self.paths = self.tokens = 0

    def tell(self, path: Path) -> None:
        """Count a finished path by the default vote settings; the run's own come only later."""
        if decision := self._decision(path.question_id):
            decision.tell(path.path, ballot(path, VoteConfig().check_equations))

    def _decision(self, question_id: str) -> Decision | None:
        if self.stop is not None and question_id not in self.decisions:
            self.decisions[question_id] = Decision(self.stop)
        return self.decisions.get(question_id)

    def needed(self, question_id: str) -> int:
        """How many paths a question needs at least; without ``stop``, no end of them."""
        decision = self._decision(question_id)
        return decision.needed if decision else sys.maxsize

    def decided(self, question_id: str) -> bool:
        """Say whether a question needs no more paths."""
        found = self.decisions.get(question_id)
        return found is not None and found.after is not None

    def cancelled(self, question_id: str, path: int, tokens: int) -> None:
        """Count a cancelled path and its tokens."""
        self.paths += 1
        self.tokens += tokens

    def stopped(self, question_id: str, paths: int) -> bool:
        """Say whether a question has fewer paths because it was decided early."""
        return self.decided(question_id) and self.decisions[question_id].stopped(paths)


def vote(question_id: str, paths: Sequence[Path], check_equations: bool = False) -> Vote:
    """Let one question's paths vote; the order of the paths does not matter.

    With ``check_equations`` a path that states a false equation does not vote. This is not in the
    paper: it needs a calculator, though no labels, and acts only where rationales have equations.

    On a tie no answer wins (``predicted_answer`` is ``None``, nothing is kept) and
    ``majority_votes`` is the count that the tied answers share. A truncated path counts as
    ``truncated`` whether or not an answer could be read, never as ``no_answer``.
    """
    voters = [p for p in paths if ballot(p, check_equations) is not None]
    said = Counter(str(p.predicted_answer) for p in voters)
    ballots = dict(sorted(said.items(), key=lambda item: (-item[1], item[0])))
    first, second = [*ballots.values(), 0, 0][:2]
    tie = 0 < first == second
    winner = None if tie else next(iter(ballots), None)
    total, complete = len(voters), sum(map(is_complete, paths))
    truncated = sum(p.stop_reason == "length" for p in paths)
    entropy = 0.0  # exactly, whatever rounding makes of one answer
    if len(ballots) > 1:
        entropy = math.log(total) - math.fsum(n * math.log(n) for n in said.values()) / total
    return Vote(
        question_id=question_id,
        predicted_answer=winner,
        majority_votes=first,
        runner_up_votes=second,
        total_votes=total,
        num_paths=len(paths),
        no_answer=len(paths) - complete - truncated,
        refuted=complete - total,
        truncated=truncated,
        tie=tie,
        share=first / total if total else 0.0,
        share_of_all=first / len(paths) if paths else 0.0,
        margin=(first - second) / total if total else 0.0,
        ballots=ballots,
        entropy=entropy,
        posterior=lead_probability(first, second),
        kept=tuple(sorted(p.path for p in voters if agrees(p, winner))),
    )


def agrees(path: Path, winner: str | None) -> bool:
    """Say whether a path has the winning answer, if there is one."""
    return winner is not None and path.predicted_answer == winner
