"""How each question of a run is voted on, and what is written of it.

Knows the run's settings and its task; nothing of files or processes. It can be sent to a process:

    Polls(task, VoteConfig(), sampled={"seed": 0, "paths": 16}, most=15, place=run.sampled.place)
    polls.hold(question, paths)
    -> Selection(vote=Vote(kept=(0, 2), ...), removed={"minority": 1, ...}, samples={...})
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path as File
from typing import Any

import msgspec

from lmsi_cli.answers import canonical
from lmsi_cli.config import FITTED, NO_STOP, VoteConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, examples, preferences
from lmsi_cli.records import Path, Preference, Question, TrainExample, Vote
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting import Selection, select, tell, vote
from lmsi_cli.voting.pairs import choose
from lmsi_cli.voting.weights import Weighting


class Polls:
    """The settings of a vote; ``weighting`` may be set once it is fitted."""

    def __init__(
        self, task: Task, config: VoteConfig, sampled: Mapping[str, Any], most: int, place: File
    ) -> None:
        """Prepare.

        Args:
            task: What was sampled.
            config: Who votes, and what of the majority is kept.
            sampled: How it was sampled: ``seed``, ``stop`` and ``paths``, where known.
            most: The largest path number.
            place: Where the paths are, for messages.
        """
        self.task, self.config, self.place = task, config, place
        self.weighting = None if config.weight == FITTED else Weighting.parse(config.weight)
        self.seed: int | None = sampled.get("seed")
        self.stop = Stop.parse(sampled.get("stop", NO_STOP))
        # a later call may have asked for fewer
        self.asked = max(sampled.get("paths", 0), most + 1)

    def hold(self, question: Question, paths: list[Path]) -> Selection:
        """Vote on one question and select from its paths.

        Raises:
            LmsiError: The paths are of another run or task.
        """
        self._check_seeds(paths)
        voted = vote(question.id, paths, self.config.check_equations, self.weighting)
        self._check_kind(voted)
        voted = msgspec.structs.replace(voted, stopped=self._stopped(paths))
        asked = f"{question.question} {self.task.cot_cue} {self.task.trigger}"
        return select(voted, paths, self.config, asked)

    def examples(self, question: Question, paths: list[Path], voted: Vote) -> list[TrainExample]:
        """Every kept path in every format."""
        if voted.predicted_answer is None:
            return []
        kept = [p for p in paths if p.path in voted.kept]
        return examples(self.task, question, kept, voted.predicted_answer, self.config.formats)

    def preferences(self, question: Question, paths: list[Path], voted: Vote) -> list[Preference]:
        """Every pair of paths in every format that holds a rationale."""
        choices = choose(voted, paths, self.config)
        return preferences(self.task, question, choices, self.config.formats)

    def _check_seeds(self, paths: list[Path]) -> None:
        """Tell paths of another run: a path's seed is made of the run's."""
        for p in (paths[0], paths[-1]):
            if self.seed is not None and p.seed != path_seed(self.seed, p.question_id, p.path):
                raise LmsiError(
                    f"{self.place}: path {p.path} of question {p.question_id!r} is "
                    f"of another run: its seed does not come from seed {self.seed}",
                    hint="paths of two models or runs cannot vote together: keep a folder for each",
                )

    def _check_kind(self, voted: Vote) -> None:
        """Tell answers of another task; the winners suffice, and are few."""
        answer, kind = voted.predicted_answer, self.task.kind
        if answer is not None and not _is_answer(answer, kind):
            raise LmsiError(
                f"{self.place}: question {voted.question_id!r} votes for {answer!r}, "
                f"which is no answer of the kind {kind!r}",
                hint="were these paths sampled for another task? sample again with --overwrite",
            )

    def _stopped(self, paths: list[Path]) -> bool:
        """Say whether ``lmsi sample --stop`` left a question early.

        Fewer paths alone do not show it: the run may have been interrupted, or be going on.
        """
        if self.stop is None:
            return False
        decision = Decision(self.stop)
        for path in paths:
            tell(decision, path)
        return decision.stopped(self.asked)


@lru_cache(maxsize=4096)  # winners are small numbers and letters, as a rule
def _is_answer(answer: str, kind: str) -> bool:
    return canonical(answer, kind) is not None
