"""From ballots to a vote, and from a vote to the paths that may be trained on. Pure functions.

Knows no gold answers, models or files. A ballot is a path that has an answer and was not cut off;
an unparsed or truncated path never votes. ``vote`` counts and keeps all paths of the majority (the
paper's rule); ``select`` then narrows them with filters by name and counts what each removed.

    vote("q7", paths)   # answers 42, 42, 42, 40 and one path without an answer
    -> Vote(predicted_answer="42", majority_votes=3, runner_up_votes=1, total_votes=4, num_paths=5,
            no_answer=1, truncated=0, refuted=0, tie=False, share=0.75, share_of_all=0.6,
            margin=0.5, ballots={"42": 3, "40": 1}, kept=(0, 1, 2), stopped=False,
            question_id="q7")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.answers import before_run_on
from lmsi_cli.config import VoteConfig
from lmsi_cli.equations import equations, equations_hold
from lmsi_cli.records import Path, Record, Vote
from lmsi_cli.stopping import Decision
from lmsi_cli.thinking import answer_part

BINS = 10  # of the agreement histogram; the last one holds a share of exactly 1


class Selection(NamedTuple):
    """A vote whose ``kept`` has passed the filters, and the paths that each filter removed."""

    vote: Vote
    removed: dict[str, int]


class VoteSummary(Record, frozen=True, kw_only=True):
    """All votes of a run in figures.

    ``paths = parsed + truncated + refuted + those without an answer``: ``parsed`` counts ballots.
    ``mean_share`` (0 to 1) and ``histogram`` (questions by share of the winner among ballots, ten
    bins from 0 to 1) cover the questions with at least one ballot, ties included; those of the
    ``stopped`` questions are not comparable with the others.
    ``sum(removed.values()) + kept_paths == paths``.
    """

    questions: int
    paths: int
    parsed: int
    truncated: int
    refuted: int
    ties: int
    stopped: int
    kept_paths: int
    kept_questions: int
    mean_share: float
    histogram: list[int]
    removed: dict[str, int]


def is_complete(path: Path) -> bool:
    """Say whether a path has an answer and ended by itself."""
    return path.predicted_answer is not None and path.stop_reason != "length"


def is_refuted(path: Path) -> bool:
    """Say whether a path states an equation that is false, as exact arithmetic sees it."""
    return equations_hold(answer_part(path.text)) is False


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
        kept=tuple(sorted(p.path for p in voters if _agrees(p, winner))),
    )


def select(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> Selection:
    """Narrow the paths of one question to those worth training on.

    Args:
        vote: The vote over exactly these paths.
        paths: All paths of the question, in any order.
        config: The limits; with ``min_votes=1``, ``min_share=0``, ``distinct_equations=False`` and
            ``max_paths_per_question=0`` the result is the paper's: every path of the majority.

    Returns:
        The vote with its new ``kept``, and the count that each filter removed, in the order of
        ``FILTERS``; each filter sees only what the ones before it left.
    """
    left = sorted(paths, key=lambda p: p.path)
    removed: dict[str, int] = {}
    for name, keep in FILTERS.items():
        before = len(left)
        left = keep(left, vote, config)
        removed[name] = before - len(left)
    kept = tuple(p.path for p in left)
    return Selection(msgspec.structs.replace(vote, kept=kept), removed)


def tally(votes: Iterable[Vote], removed: Mapping[str, int]) -> VoteSummary:
    """Sum up the votes of a run.

    Args:
        votes: One per question, as ``select`` returned them.
        removed: The sums of their ``Selection.removed``.
    """
    votes = list(votes)
    voted = [v for v in votes if v.total_votes]
    histogram = [0] * BINS
    for v in voted:  # in whole numbers: 0.7 * 10 is not exactly 7 everywhere
        histogram[min(v.majority_votes * BINS // v.total_votes, BINS - 1)] += 1
    return VoteSummary(
        questions=len(votes),
        paths=sum(v.num_paths for v in votes),
        parsed=sum(v.total_votes for v in votes),
        truncated=sum(v.truncated for v in votes),
        refuted=sum(v.refuted for v in votes),
        ties=sum(v.tie for v in votes),
        stopped=sum(v.stopped for v in votes),
        kept_paths=sum(len(v.kept) for v in votes),
        kept_questions=sum(bool(v.kept) for v in votes),
        mean_share=sum(v.share for v in voted) / len(voted) if voted else 0.0,
        histogram=histogram,
        removed={name: removed.get(name, 0) for name in FILTERS},
    )


def path_key(text: str) -> tuple[str, ...]:
    """Tell solutions apart: the ordered list of equations, or else the words."""
    text = before_run_on(answer_part(text))
    return equations(text) or (" ".join(text.split()),)


Filter = Callable[[list[Path], Vote, VoteConfig], list[Path]]


def _agrees(path: Path, winner: str | None) -> bool:
    return winner is not None and path.predicted_answer == winner


def _complete(paths: list[Path], _vote: Vote, _config: VoteConfig) -> list[Path]:
    return [p for p in paths if is_complete(p)]


def _true(paths: list[Path], _vote: Vote, config: VoteConfig) -> list[Path]:
    return [p for p in paths if not (config.check_equations and is_refuted(p))]


def _untied(paths: list[Path], vote: Vote, _config: VoteConfig) -> list[Path]:
    return [] if vote.tie else paths


def _enough_votes(paths: list[Path], vote: Vote, config: VoteConfig) -> list[Path]:
    return paths if vote.majority_votes >= config.min_votes else []


def _enough_share(paths: list[Path], vote: Vote, config: VoteConfig) -> list[Path]:
    return paths if vote.share >= config.min_share else []


def _majority(paths: list[Path], vote: Vote, _config: VoteConfig) -> list[Path]:
    return [p for p in paths if _agrees(p, vote.predicted_answer)]


def _distinct(paths: list[Path], _vote: Vote, config: VoteConfig) -> list[Path]:
    """Of paths with the same key the one with the lowest index stays."""
    if not config.distinct_equations:
        return paths
    first: dict[tuple[str, ...], Path] = {}
    for path in paths:
        first.setdefault(path_key(path.text), path)
    return list(first.values())


def _capped(paths: list[Path], _vote: Vote, config: VoteConfig) -> list[Path]:
    """Keep the lowest indices: every path had the same chance of any index, so this is fair.

    Ranking by length or probability instead would teach the model that preference.
    """
    return paths[: config.max_paths_per_question or None]


# In this order, each on what the last one left. First what cannot vote, then whole questions, then
# single paths; the cap comes last so that it counts distinct solutions.
FILTERS: dict[str, Filter] = {
    "no-vote": _complete,
    "false-equation": _true,
    "tie": _untied,
    "min-votes": _enough_votes,
    "min-share": _enough_share,
    "minority": _majority,
    "duplicate-equations": _distinct,
    "cap": _capped,
}
