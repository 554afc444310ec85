"""From the paths of a question to its vote: who votes, for what, and who wins. Pure functions.

Knows no gold answers, models or files. A ballot is a path that has an answer and was not cut off;
an unparsed or truncated path never votes. ``vote`` counts and keeps all paths of the majority (the
paper's rule); ``filters.select`` then narrows them.

    vote("q7", paths)   # answers 42, 42, 42, 40 and one path without an answer
    -> Vote(predicted_answer="42", majority_votes=3, runner_up_votes=1, total_votes=4, num_paths=5,
            no_answer=1, truncated=0, refuted=0, tie=False, share=0.75, share_of_all=0.6,
            margin=0.5, ballots={"42": 3, "40": 1}, kept=(0, 1, 2), stopped=False,
            question_id="q7")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lmsi_cli.answers import before_run_on
from lmsi_cli.config import VoteConfig
from lmsi_cli.equations import Equation, read_equations
from lmsi_cli.records import Path, Vote
from lmsi_cli.stopping import Decision
from lmsi_cli.thinking import answer_part


def is_complete(path: Path) -> bool:
    """Say whether a path has an answer and ended by itself."""
    return path.predicted_answer is not None and path.stop_reason != "length"


def solution(text: str) -> str:
    """The part of a path's text that is its own answer: no thinking, no next question."""
    return before_run_on(answer_part(text))


def steps_of(path: Path) -> tuple[Equation, ...]:
    """The equations that a path states, in order."""
    return read_equations(solution(path.text))


def is_refuted(path: Path) -> bool:
    """Say whether a path states an equation that is false, as exact arithmetic sees it."""
    return not all(step.holds for step in steps_of(path))


def ballot(path: Path, check_equations: bool) -> str | None:
    """The answer that a path votes for; ``None`` if it does not vote."""
    votes = is_complete(path) and not (check_equations and is_refuted(path))
    return path.predicted_answer if votes else None


def tell(decision: Decision, path: Path) -> None:
    """Tell a decision what a path says.

    Sampling comes before the vote and cannot know its settings; it counts as the default vote does.
    """
    decision.tell(path.path, ballot(path, VoteConfig().check_equations))


def vote(question_id: str, paths: Sequence[Path], check_equations: bool = False) -> Vote:
    """Let one question's paths vote; the order of the paths does not matter.

    With ``check_equations`` a path that states a false equation does not vote. That is no part of
    the paper: it uses a calculator, though no label, and only where rationales hold equations.

    On a tie no answer wins (``predicted_answer`` is ``None``, nothing is kept) and
    ``majority_votes`` is the count that the tied answers share. A truncated path counts as
    ``truncated`` whether or not an answer could be read, never as ``no_answer``.
    """
    complete = sum(is_complete(p) for p in paths)
    voters = [p for p in paths if ballot(p, check_equations) is not None]
    ballots = Counter(str(p.predicted_answer) for p in voters)
    ranked = sorted(ballots.items(), key=lambda item: (-item[1], item[0]))
    first, second = ([n for _, n in ranked] + [0, 0])[:2]
    total, truncated = ballots.total(), sum(p.stop_reason == "length" for p in paths)
    tie = first > 0 and first == second
    winner = ranked[0][0] if ranked and not tie else None
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
        ballots=dict(ranked),
        kept=tuple(sorted(p.path for p in voters if agrees(p, winner))),
    )


def agrees(path: Path, winner: str | None) -> bool:
    """Say whether a path has the winning answer, if there is one."""
    return winner is not None and path.predicted_answer == winner
