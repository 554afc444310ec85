"""Which paths of a voted question may be trained on: filters by name, and what each removed.

Knows votes, classes and settings; nothing of files, tasks or models. Filters run in the order of
``FILTERS``, each on what the ones before it left, so every path is kept or counted exactly once:

    select(vote, paths, VoteConfig(min_share=0.5))
    -> Selection(vote=Vote(kept=(0, 2), ...), removed={"no-vote": 1, ..., "minority": 1, "cap": 0},
                 samples={"no-vote": Path(path=4, ...), "minority": Path(path=3, ...)})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.config import VoteConfig
from lmsi_cli.equations import equations
from lmsi_cli.records import Path, PathClass, Vote
from lmsi_cli.voting.ballots import agrees, is_complete, is_cut_thinking, is_refuted, solution
from lmsi_cli.voting.classes import classify


class Selection(NamedTuple):
    """A vote whose ``kept`` has passed the filters, and what each filter removed.

    ``removed`` has a count for every filter, ``samples`` the removed path with the lowest number
    for those that removed any. ``thinking`` counts the paths cut off inside their thinking.
    """

    vote: Vote
    removed: dict[str, int]
    samples: dict[str, Path]
    thinking: int = 0


class Case(NamedTuple):
    """What a filter may look at besides the paths that are left."""

    vote: Vote
    config: VoteConfig
    classes: dict[int, PathClass]

    def admits(self, path: Path) -> bool:
        """Say whether a path is trained on for its class, though it would be left out."""
        return self.classes[path.path] in self.config.keep


def select(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> Selection:
    """Narrow the paths of one question to those worth training on.

    Args:
        vote: The vote over exactly these paths.
        paths: All paths of the question, in any order.
        config: The limits. Those of ``--preset paper`` keep every path of the majority.

    Returns:
        The vote with its new ``kept`` and its ``classes``, and what each filter removed.
    """
    left = sorted(paths, key=lambda p: p.path)
    case = Case(vote, config, classify(left, vote.predicted_answer))
    removed: dict[str, int] = {}
    samples: dict[str, Path] = {}
    for name, keep in FILTERS.items():
        before, left = left, keep(left, case)
        removed[name] = len(before) - len(left)
        if removed[name]:
            samples[name] = _first_missing(before, left)
    kept = tuple(p.path for p in left)
    voted = msgspec.structs.replace(vote, kept=kept, classes=_by_class(case.classes))
    return Selection(voted, removed, samples, sum(map(is_cut_thinking, paths)))


def path_key(text: str) -> tuple[str, ...]:
    """Tell solutions apart: the ordered list of equations, or else the words."""
    text = solution(text)
    return equations(text) or (" ".join(text.split()),)


Filter = Callable[[list[Path], Case], list[Path]]


def _first_missing(before: Sequence[Path], left: Sequence[Path]) -> Path:
    here = {p.path for p in left}
    return next(p for p in before if p.path not in here)


def _by_class(classes: dict[int, PathClass]) -> dict[PathClass, tuple[int, ...]]:
    found: dict[PathClass, list[int]] = {}
    for path, name in classes.items():
        found.setdefault(name, []).append(path)
    return {name: tuple(members) for name, members in found.items()}


def _complete(paths: list[Path], _case: Case) -> list[Path]:
    return [p for p in paths if is_complete(p)]


def _true(paths: list[Path], case: Case) -> list[Path]:
    if not case.config.check_equations:
        return paths
    return [p for p in paths if case.admits(p) or not is_refuted(p)]


def _untied(paths: list[Path], case: Case) -> list[Path]:
    return [] if case.vote.tie else paths


def _enough_votes(paths: list[Path], case: Case) -> list[Path]:
    return paths if case.vote.majority_votes >= case.config.min_votes else []


def _enough_share(paths: list[Path], case: Case) -> list[Path]:
    return paths if case.vote.share >= case.config.min_share else []


def _majority(paths: list[Path], case: Case) -> list[Path]:
    return [p for p in paths if case.admits(p) or agrees(p, case.vote.predicted_answer)]


def _of_wanted_class(paths: list[Path], case: Case) -> list[Path]:
    return [p for p in paths if case.classes[p.path] not in case.config.drop]


def _distinct(paths: list[Path], case: Case) -> list[Path]:
    """Of paths with the same key the one with the lowest index stays."""
    if not case.config.distinct_equations:
        return paths
    first: dict[tuple[str, ...], Path] = {}
    for path in paths:
        first.setdefault(path_key(path.text), path)
    return list(first.values())


def _capped(paths: list[Path], case: Case) -> list[Path]:
    """Keep the lowest indices: every path had the same chance of any index, so this is fair.

    Ranking by length or probability instead would teach the model that preference.
    """
    return paths[: case.config.max_paths_per_question or None]


# In this order, each on what the last one left. First what cannot vote, then whole questions, then
# single paths; the cap comes last so that it counts distinct solutions.
FILTERS: dict[str, Filter] = {
    "no-vote": _complete,
    "false-equation": _true,
    "tie": _untied,
    "min-votes": _enough_votes,
    "min-share": _enough_share,
    "minority": _majority,
    "class": _of_wanted_class,
    "duplicate-equations": _distinct,
    "cap": _capped,
}
