"""Which paths of a voted question may be trained on: filters by name, and what each removed.

Knows votes and settings; nothing of files, tasks or models. Filters run in the order of
``FILTERS``, each on what the ones before it left, so every path is kept or counted exactly once:

    select(vote, paths, VoteConfig(min_share=0.5))
    -> Selection(vote=Vote(kept=(0, 2), ...), removed={"no-vote": 1, ..., "minority": 1, "cap": 0},
                 samples={"no-vote": Path(path=4, ...), "minority": Path(path=3, ...)})
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Path, Vote
from lmsi_cli.voting.ballots import agrees, is_complete, is_cut_thinking, is_refuted

Filter = Callable[[list[Path], Vote, VoteConfig], list[Path]]

# First what cannot vote, then whole questions, then single paths. The cap keeps the lowest numbers:
# every path had the same chance of any number, so this is fair, and ranking by length or
# probability would teach the model that preference.
FILTERS: dict[str, Filter] = {
    "no-vote": lambda paths, _vote, _config: [p for p in paths if is_complete(p)],
    "false-equation": lambda paths, _vote, config: [
        p for p in paths if not (config.check_equations and is_refuted(p))
    ],
    "tie": lambda paths, vote, _config: [] if vote.tie else paths,
    "min-votes": lambda paths, vote, config: (
        paths if vote.majority_votes >= config.min_votes else []
    ),
    "min-share": lambda paths, vote, config: paths if vote.share >= config.min_share else [],
    "minority": lambda paths, vote, _config: [p for p in paths if agrees(p, vote.predicted_answer)],
    "cap": lambda paths, _vote, config: paths[: config.max_paths_per_question or None],
}


class Selection(NamedTuple):
    """A vote whose ``kept`` has passed the filters, and what each filter removed.

    ``removed`` has a count for every filter, ``samples`` the removed path with the lowest number
    for those that removed any. ``thinking`` counts the paths cut off inside their thinking.
    """

    vote: Vote
    removed: dict[str, int]
    samples: dict[str, Path]
    thinking: int = 0


def select(vote: Vote, paths: Sequence[Path], config: VoteConfig) -> Selection:
    """Narrow the paths of one question to those worth training on.

    Args:
        vote: The vote over exactly these paths.
        paths: All paths of the question, in any order.
        config: The limits. Those of ``--preset paper`` keep every path of the majority.

    Returns:
        The vote with its new ``kept``, and what each filter removed.
    """
    left = sorted(paths, key=lambda p: p.path)
    removed: dict[str, int] = {}
    samples: dict[str, Path] = {}
    for name, keep in FILTERS.items():
        before, left = left, keep(left, vote, config)
        removed[name] = len(before) - len(left)
        if removed[name]:
            here = {p.path for p in left}
            samples[name] = next(p for p in before if p.path not in here)
    kept = tuple(p.path for p in left)
    voted = msgspec.structs.replace(vote, kept=kept)
    return Selection(voted, removed, samples, sum(map(is_cut_thinking, paths)))


def shuffled(vote: Vote, paths: Sequence[Path], seed: int) -> Vote:
    """The vote as a control has it: as many paths are kept, whatever they answer.

    What a model gains by them it gains from its own form, not from the majority.

    Args:
        vote: A vote that was selected from, with a winner.
        paths: All paths of the question, in any order.
        seed: Of the choice; with the question's id it says which ones are kept.

    Returns:
        The vote with other ``kept``, any of the paths that can vote, and the first one's answer.
    """
    complete = sorted((p for p in paths if is_complete(p)), key=lambda p: p.path)
    kept = random.Random(f"{seed} {vote.question_id}").sample(complete, len(vote.kept))
    answer = kept[0].predicted_answer if kept else vote.predicted_answer
    numbers = tuple(sorted(p.path for p in kept))
    return msgspec.structs.replace(vote, kept=numbers, predicted_answer=answer)
